"""A worker's end of the two pipes to its parent."""

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from evserve.host.workers.messages import Frames, Kind, Message, encode


@define(eq=False)
class Control(Protocol):
    """Obeys the parent, reports to it, and notices its end.

    drain, cut: what the parent's orders do.  orphaned: called if the parent is gone.
    """

    drain: Callable[[], None]
    cut: Callable[[], None]
    orphaned: Callable[[], None]
    transport: Any = None
    closed: Deferred[None] = field(init=False, factory=Deferred)
    _frames: Frames = field(init=False, factory=Frames)
    _leaving: bool = field(init=False, default=False)

    def report(self, message: Message) -> None:
        """Send a message to the parent, if it is still there."""
        if not self.closed.called:
            self.transport.write(encode(message))

    def leave(self) -> Deferred[None]:
        """Close once everything reported has been sent; fires then."""
        self._leaving = True
        if not self.closed.called:
            self.transport.loseConnection()
        return self.closed

    def dataReceived(self, data: bytes) -> None:
        """Obey."""
        for message in self._frames.feed(data):
            if message.kind is Kind.DRAIN:
                self.drain()
            elif message.kind is Kind.CUT:
                self.cut()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Never outlive the parent."""
        self.closed.callback(None)
        if not self._leaving:
            self.orphaned()
