"""One connection to the server: the hot path, so it keeps to a handful of calls per answer."""

import os
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from attrs import define, field
from twisted.internet import error
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from evserve.load.conversations import Conversation, Mismatch
from evserve.load.sources import errno_of
from evserve.load.traffic import Traffic


class Owner(Protocol):
    """Whoever keeps the connections."""

    def opened(self, connection: "LoadConnection") -> None:
        """A connection is open."""

    def lost(self, connection: "LoadConnection", cause: str) -> None:
        """A connection is open no more."""

    def wrong(self, connection: "LoadConnection", mismatch: Mismatch) -> None:
        """A connection got a wrong answer, and is being closed."""


@implementer(IPushProducer)
@define(eq=False)
class LoadConnection(TwistedProtocol):
    """Sends messages, checks the answers, and takes the time of each.

    A closed loop sends the next message on each answer; an open loop calls `send_due`. Then the
    transport may say that the server does not read: what is due waits here, without its bytes.
    """

    transport: Any = field(default=None, init=False)
    _conversation: Conversation
    _traffic: Traffic
    _owner: Owner
    _now: Callable[[], float]
    is_closed_loop: bool
    _starts: deque[float] = field(factory=deque, init=False)
    _due: deque[float] = field(factory=deque, init=False)
    _paused: bool = field(default=False, init=False)
    _ended: bool = field(default=False, init=False)

    def connectionMade(self) -> None:
        """Take the endpoint's wrapper out of the way of the data."""
        if getattr(self.transport.protocol, "_wrappedProtocol", None) is self:
            self.transport.protocol = self
        if not self.is_closed_loop:
            self.transport.registerProducer(self, True)
        self._owner.opened(self)

    def send(self, count: int) -> None:
        """Send `count` messages now; they are counted as in flight already."""
        self._starts.extend([self._now()] * count)
        self.transport.write(self._conversation.messages(count))

    def send_due(self, intended: float) -> None:
        """Send a message that ought to start at `intended`, once the server reads."""
        if self._paused:
            self._due.append(intended)
        else:
            self._starts.append(intended)
            self.transport.write(self._conversation.messages(1))

    def dataReceived(self, data: bytes) -> None:
        """Check what came, take the times of the answers, and ask again."""
        if self._ended:
            return
        now = self._now()
        try:
            answers = self._conversation.feed(data)
        except Mismatch as mismatch:
            self._refuse(mismatch)
            return
        if answers:
            traffic, starts = self._traffic, self._starts
            record = traffic.latencies.record
            for _ in range(answers):
                record(now - starts.popleft())
            if self.is_closed_loop:
                more = traffic.take(answers)
                if more:
                    self.send(more)
            traffic.answer(answers)

    def _refuse(self, mismatch: Mismatch) -> None:
        self._ended = True
        self._owner.wrong(self, mismatch)
        self.transport.abortConnection()
        self._give_up()

    def pauseProducing(self) -> None:
        """See IPushProducer."""
        self._paused = True

    def resumeProducing(self) -> None:
        """See IPushProducer: send what became due meanwhile."""
        self._paused = False
        count = len(self._due)
        if count:
            self._starts.extend(self._due)
            self._due.clear()
            self.transport.write(self._conversation.messages(count))

    def stopProducing(self) -> None:
        """See IPushProducer; the connection is going away."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Give up what was not answered."""
        self._owner.lost(self, cause_of(reason.value))
        self._give_up()

    def _give_up(self) -> None:
        unanswered = len(self._starts) + len(self._due)
        self._starts.clear()
        self._due.clear()
        self._traffic.lose(unanswered)

    def close(self) -> None:
        """Say goodbye; an open loop's producer would be waited for."""
        if not self.is_closed_loop:
            self.transport.unregisterProducer()
        self.transport.loseConnection()


def cause_of(reason: BaseException | None) -> str:
    """Say in a few words why a connection was not made, or lost; alike for the same cause."""
    number = errno_of(reason)
    if number is not None:
        return os.strerror(number)
    for kind, words in (
        (error.ConnectionDone, "closed by the server"),
        (error.ConnectionLost, "reset"),
        (error.TimeoutError, "timed out"),
        (OverflowError, "not a port number (0 to 65535)"),  # from the socket
    ):
        if isinstance(reason, kind):
            return words
    if type(reason).__module__.startswith("OpenSSL"):
        found = getattr(reason, "args", None)
        if found and isinstance(found[0], list) and found[0]:
            return f"TLS: {found[0][-1][-1]}"  # each is a library, a function and a reason
    return " ".join(str(reason).split()) or type(reason).__name__
