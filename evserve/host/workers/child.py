"""A worker as its parent sees it."""

import re
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import define, field
from prometheus_client.core import Metric
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from evserve.host.workers.assignment import ORDERS, REPORTS
from evserve.host.workers.messages import Frames, Kind, Message, encode


_log = Logger()

_STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")


@define(eq=False)
class Child(ProcessProtocol):
    """One process: `ready` and `ended` are called at those moments, `counted` with its metrics."""

    number: int
    born: float  # the reactor's seconds
    ready: Callable[["Child"], None]
    counted: Callable[["Child", tuple[Metric, ...]], None]
    ended: Callable[["Child"], None]
    serving: bool = field(init=False, default=False)  # it did at the end, once it has ended
    pid: int = field(init=False, default=0)
    status: int | None = field(init=False, default=None)  # None: a signal ended it
    end: str = field(init=False, default="")  # in words
    transport: Any = None
    _frames: Frames = field(init=False, factory=Frames)
    _line: bytes = field(init=False, default=b"")

    def connectionMade(self) -> None:
        """Keep the process id, which the transport forgets."""
        self.pid = self.transport.pid

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Take a report, or a piece of the worker's log."""
        if childFD != REPORTS:
            self._said(data)
            return
        for message in self._frames.feed(data):
            if message.kind is Kind.METRICS:
                self.counted(self, message.families)
            elif message.kind is Kind.READY:
                self.serving = True
                self.ready(self)

    def _said(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            _log.info("{line}", line=_STAMP.sub("", line.decode("utf-8", "replace")))

    def processEnded(self, reason: Failure) -> None:
        """Note how it ended."""
        error: Any = reason.value
        self.status = error.exitCode
        if error.signal is None:
            self.end = f"ended with status {error.exitCode}"
        else:
            self.end = f"was ended by {signal.Signals(error.signal).name}"
        self.ended(self)

    def tell(self, kind: Kind) -> None:
        """Send an order."""
        with suppress(KeyError):  # its end of the pipe is closed already
            self.transport.writeToChild(ORDERS, encode(Message(kind)))

    def kill(self) -> None:
        """End it now."""
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")
