"""A client that asks one line and times the answer, for what the grid does not show."""

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure


LINE = b"hello\r\n"


@define(eq=False)
class Asker(Protocol):
    """One connection to a server that answers."""

    transport: Any = field(default=None, init=False)
    _reactor: Any
    _asked: float = field(default=0.0, init=False)
    _waiting: Deferred[float | None] | None = field(default=None, init=False)

    def dataReceived(self, data: bytes) -> None:
        """Take the time of the answer."""
        self._fire(self._reactor.seconds() - self._asked)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Whoever hangs up does not answer."""
        self._fire(None)

    def ask(self) -> None:
        """Send a line."""
        self._asked = self._reactor.seconds()
        self.transport.write(LINE)

    async def answer(self, seconds: float) -> float | None:
        """Return how long after `ask` the answer came; None if not within `seconds` from now."""
        self._waiting = Deferred()
        timer = self._reactor.callLater(seconds, self._fire, None)
        try:
            return await self._waiting
        finally:
            self._waiting = None
            if timer.active():
                timer.cancel()

    def leave(self) -> None:
        """Go away."""
        self.transport.abortConnection()

    def _fire(self, seconds: float | None) -> None:
        if self._waiting is not None and not self._waiting.called:
            self._waiting.callback(seconds)


async def connect(reactor: Any, port: int) -> Asker:
    """Return a new connection to this machine's `port`."""
    endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{port}:timeout=30")
    asker: Asker = await connectProtocol(endpoint, Asker(reactor))
    return asker
