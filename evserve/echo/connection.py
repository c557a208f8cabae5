"""What every echoing connection shares: being counted, and closing after the last byte owed."""

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from evserve.echo.tls import steady_producer
from evserve.echo.transport import PushProducer, StreamTransport
from evserve.interfaces import IDrainable


LINGER = 1.0  # seconds that a client gets to close its half of a connection being drained


@define(eq=False)
class Connections:
    """Which connections are open, since when (the clock's seconds), and how many ever were."""

    clock: IReactorTime
    opened: int = field(default=0, init=False)
    since: dict["EchoConnection", float] = field(factory=dict, init=False)

    def enter(self, connection: "EchoConnection") -> None:
        """Count a connection that was made."""
        self.opened += 1
        self.since[connection] = self.clock.seconds()

    def leave(self, connection: "EchoConnection") -> None:
        """Forget a connection that was lost."""
        del self.since[connection]


@implementer(IHalfCloseableProtocol, IDrainable)
class EchoConnection(Protocol):
    """A connection that ends by sending all that it owes."""

    transport: StreamTransport  # type: ignore[assignment]  # ITransport promises too little

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._is_draining = False
        self._linger: IDelayedCall | None = None

    def start(self, producer: PushProducer) -> None:
        """Be counted, and let the transport pause `producer` while the client does not read."""
        self._connections.enter(self)
        self.transport.registerProducer(steady_producer(producer, self.transport), True)

    def close(self) -> None:
        """Close once everything written has been sent."""
        # A transport that waits for a producer it has paused would never come to closing.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def end_stream(self) -> None:
        """Write what the end of the stream calls for: here, nothing."""

    def drain(self) -> None:
        """See IDrainable: end our half after what is owed, and read on to throw it away.

        Closing a socket with unread bytes sends a reset, which can overtake what is owed.
        """
        self.end_stream()
        end_half = getattr(self.transport, "loseWriteConnection", None)
        if end_half is None or isinstance(self.transport, TLSMemoryBIOProtocol):
            self.close()  # TLS has no halves
            return
        self._is_draining = True
        self.dataReceived = _discard  # type: ignore[method-assign]  # on purpose
        self.transport.unregisterProducer()
        self.transport.resumeProducing()
        end_half()

    def readConnectionLost(self) -> None:
        """Answer the client's FIN with ours, after what it is owed."""
        if self._is_draining:
            self.transport.loseConnection()
        else:
            self.end_stream()
            self.close()

    def writeConnectionLost(self) -> None:
        """Give the client, which has had everything, a moment to close its half."""
        self._linger = self._connections.clock.callLater(LINGER, self.transport.loseConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Be counted no more."""
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        self._connections.leave(self)


def _discard(data: bytes) -> None:
    """Take no notice."""
