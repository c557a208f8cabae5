"""Learning that a child process has ended, on a loop that takes the wake-up descriptor.

Twisted notices SIGCHLD through `signal.set_wakeup_fd`; `run_forever` of uvloop takes that for
itself, so Twisted's waker would never fire. A Python handler does: uvloop runs those promptly.
"""

import signal
from typing import Any

from attrs import define
from twisted.internet import process


@define(eq=False)
class ChildSignals:
    """Reaps children on SIGCHLD while the reactor runs (Twisted's SignalHandling)."""

    reactor: Any

    def install(self) -> None:
        """Handle the signal, and reap those that ended before."""
        signal.signal(signal.SIGCHLD, self._child_ended)
        signal.siginterrupt(signal.SIGCHLD, False)
        process.reapAllProcesses()

    def uninstall(self) -> None:
        """Leave the signal alone again."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _child_ended(self, _signal: int, _frame: object) -> None:
        # Not here: a signal interrupts any code, and protocols expect their own turn.
        self.reactor.callFromThread(process.reapAllProcesses)
