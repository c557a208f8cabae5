"""Signals: what each one does, from the first line of the command to the end of the process.

A signal that has no handler ends a process, and tools send signals at any time: logrotate while a
server starts, a terminal while it stops. So the command holds them before it does anything else,
and the root service gets those that came meanwhile as soon as the reactor runs.
"""

import atexit
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define, field

from evserve.aio import reactor_loop


_STOP = (signal.SIGINT, signal.SIGTERM)
_HELD = (signal.SIGHUP, signal.SIGUSR1)
# Nothing happens on these, unless a service handles them. SIGQUIT (Ctrl-\) and SIGABRT (systemd's
# watchdog) end a process that hangs, and are left alone.
_FREE = [
    number
    for name in ("SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR")
    if (number := getattr(signal, name, None)) is not None  # macOS has no SIGPWR
]

_CONTROLLING = "/dev/tty"  # the terminal of the process, whatever its name
_STANDARD = range(3)

_early: list[int] = []  # those held until now


def hold_signals() -> None:
    """From now on, no signal but SIGINT, SIGTERM and those for a process that hangs ends this one.

    SIGHUP and SIGUSR1 wait for `SignalHandlers`. A signal that is ignored (`nohup`) or handled
    already stays so. A handler in Python, even an empty one, is not inherited by child processes.
    """
    # At exit the interpreter restores the default handlers; a signal then would change the exit
    # status of a process that has stopped cleanly. The first exit hook is the last to be called:
    # one that hangs can be ended by a signal.
    atexit.register(_ignore_all)
    for numbers, handler in ((_HELD, _hold), (_FREE, _do_nothing)):
        for each in numbers:
            if signal.getsignal(each) == signal.SIG_DFL:
                signal.signal(each, handler)


def ignore_job_control() -> None:
    """Keep a server from being suspended by SIGTTIN and SIGTTOU.

    They tell other servers to change the number of their workers. The terminal sends them to a job
    in the background that reads from it or, after `stty tostop`, writes to it.
    """
    for each in (signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(each, signal.SIG_IGN)


def _hold(number: int, frame: object) -> None:
    _early.append(number)


def _do_nothing(*_: object) -> None:
    pass


def _ignore_all() -> None:
    for each in (*_STOP, *_HELD, *_FREE):
        signal.signal(each, signal.SIG_IGN)


class Terminal:
    """The terminal that the process was started from, if there is one.

    It is the one that controls the process; for a process without that, a standard stream.
    """

    def __init__(self) -> None:
        self._streams = [each for each in _STANDARD if os.isatty(each)]
        self._controls = _has_controlling_terminal()
        self._is_known = self._controls or bool(self._streams)

    def has_gone(self) -> bool:
        """Return whether there was a terminal and is none now; if so, the streams lead nowhere."""
        if not self._is_known or self._is_there():
            return False
        null = os.open(os.devnull, os.O_RDWR)
        for each in self._streams:  # or lines for the log would fail, and the exit status be 120
            os.dup2(null, each)
        os.close(null)
        return True

    def _is_there(self) -> bool:
        # When a shell ends, its terminal controls nothing any more, but may stay open for a while.
        if self._controls:
            return _has_controlling_terminal()
        return any(os.isatty(each) for each in self._streams)


def _has_controlling_terminal() -> bool:
    try:
        os.close(os.open(_CONTROLLING, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


@define(eq=False)
class SignalHandlers:
    """Calls `act` in the reactor with the name of each signal: INT, TERM, HUP, USR1.

    interrupts: whether SIGINT and SIGTERM raise KeyboardInterrupt, with their number, as well.
    """

    reactor: Any
    act: Callable[[str], None]
    interrupts: bool = field(init=False, default=False)
    _shared: dict[int, Callable[[], object]] = field(init=False, factory=dict)

    def install(self) -> None:
        """Handle the signals until the process has ended."""
        for each in _STOP:
            signal.signal(each, self._handle)
        for each in _HELD:
            if signal.getsignal(each) in (signal.SIG_DFL, signal.SIG_IGN, _hold):
                signal.signal(each, self._handle)
        # `reactor.run` would install its own handler of SIGTERM, by which the process is drained
        # but then dies of the signal instead of exiting with 0.
        self.reactor.sigTerm = self._handle
        # uvloop never lets go of the reactor, nor that of these handlers. So that the services can
        # be collected, the handlers let go of them.
        atexit.register(setattr, self, "act", _do_nothing)
        while _early:
            signal.raise_signal(_early.pop(0))  # to the handler that it has now
        loop: Any = reactor_loop(self.reactor)
        if loop is not None:
            self._share_with(loop)

    def _share_with(self, loop: Any) -> None:
        """Have a library that handles a signal through the loop get it as well, not instead.

        It would take the signal from the process, and leave it without a handler in the end.
        """
        add, remove = loop.add_signal_handler, loop.remove_signal_handler

        def add_signal_handler(number: int, callback: Callable[..., object], *args: Any) -> None:
            if number in (*_STOP, *_HELD):
                self._shared[number] = partial(loop.call_soon_threadsafe, callback, *args)
            else:
                add(number, callback, *args)

        def remove_signal_handler(number: int) -> bool:
            if number in (*_STOP, *_HELD):
                return self._shared.pop(number, None) is not None
            return bool(remove(number))

        loop.add_signal_handler = add_signal_handler
        loop.remove_signal_handler = remove_signal_handler

    def _handle(self, number: int, frame: object = None) -> None:
        # Also if it interrupts: many places, maybeDeferred for one, swallow a KeyboardInterrupt.
        self.reactor.callFromThread(self.act, signal.Signals(number).name)
        self._shared.get(number, _do_nothing)()
        if self.interrupts and number in _STOP:
            raise KeyboardInterrupt(number)


def hangs_up() -> bool:
    """Return whether SIGHUP is for this process: `nohup` makes it ignored."""
    return signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
