"""Telling systemd how it goes: sd_notify(3) without a library, and silence without systemd."""

import socket
from collections.abc import MutableMapping
from typing import Any

from attrs import define, field
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from evserve.host.errors import explain


_log = Logger()


@define(eq=False)
class Notifier:
    """Sends states to `address` (`/a/path` or `@abstract`), or nowhere without one.

    watchdog: seconds within which systemd wants to hear again, None if it does not care.
    """

    reactor: Any
    address: str | None = None
    watchdog: float | None = None
    _loop: LoopingCall = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(self.send, "WATCHDOG=1")
        self._loop.clock = self.reactor

    def ready(self, status: str) -> None:
        """Say that everything listens, and from now on that the process is alive."""
        self.send("READY=1", f"STATUS={status}")
        if self.watchdog is not None:
            self._loop.start(self.watchdog / 2)

    def stopping(self, status: str) -> None:
        """Say that the end has begun; the watchdog is fed until it has come."""
        self.send("STOPPING=1", f"STATUS={status}")

    def send(self, *states: str) -> None:
        """Send states; what systemd does not take is logged, and nobody waits for it."""
        if self.address is None:
            return
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(states).encode(), name)
        except OSError as error:
            _log.warn("cannot notify systemd: {reason}", reason=explain(error))


def take_notifier(reactor: Any, environ: MutableMapping[str, str], pid: int) -> Notifier:
    """Return a notifier for what `environ` says; take that out, it is not for child processes."""
    address = environ.pop("NOTIFY_SOCKET", None)
    microseconds = environ.pop("WATCHDOG_USEC", "")
    for_us = environ.pop("WATCHDOG_PID", str(pid)) == str(pid)
    watched = for_us and microseconds.isdecimal() and int(microseconds) > 0
    watchdog = int(microseconds) / 1_000_000 if watched else None
    return Notifier(reactor, address or None, watchdog)
