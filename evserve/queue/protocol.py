"""The Twisted side of a connection: a transport on one end, a Session on the other."""

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from evserve.interfaces import IBusy, IDrainable
from evserve.queue.broker import Broker
from evserve.queue.session import Session
from evserve.queue.stats import Statistics


@implementer(IHalfCloseableProtocol, IPushProducer, IBusy, IDrainable)
@define(eq=False, repr=False, slots=False)
class QueueProtocol(Protocol):
    """Its transport's push producer, so that a client which does not read gets no more."""

    broker: Broker
    statistics: Statistics
    session: Session = field(init=False)

    @override
    def connectionMade(self) -> None:
        transport: Any = self.transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        transport.registerProducer(self, True)
        self.session = Session(self.broker, transport, _sender(transport), self.statistics)
        # From now on the transport calls the session itself: one frame less for all that comes.
        self.dataReceived = self.session.feed  # type: ignore[method-assign]

    @override
    def connectionLost(self, reason: Failure | None = None) -> None:
        self.session.connection_lost()

    def readConnectionLost(self) -> None:
        self.session.end_input()

    def writeConnectionLost(self) -> None:
        self.session.close()

    def pauseProducing(self) -> None:
        self.session.block()

    def resumeProducing(self) -> None:
        self.session.unblock()

    def stopProducing(self) -> None:
        """Do nothing: `connectionLost` follows."""

    def busy(self) -> bool:
        return self.session.is_busy

    def drain(self) -> None:
        self.session.drain()


@define(eq=False, repr=False, slots=False)
class QueueFactory(Factory):
    """Makes the connections of one queue, whose service sets `broker` and `statistics`."""

    broker: Broker = field(init=False)
    statistics: Statistics = field(init=False)

    noisy = False

    @override
    def buildProtocol(self, addr: IAddress | None) -> QueueProtocol:
        protocol = QueueProtocol(self.broker, self.statistics)
        protocol.factory = self
        return protocol


def _sender(transport: Any) -> Callable[[bytes], None]:
    """Return a function like `transport.write` that does not wait for the reactor's next turn.

    `write` of Twisted's own TCP and UNIX transports only queues: the reactor is asked to watch
    for writability, looks, sends, and is asked to stop watching. For a short reply to a client
    that waits for it that is half of the server's work, and the socket can nearly always take it
    at once. Other transports (TLS, another reactor's, tests') are written to as usual.
    """
    if not isinstance(transport, Connection) or transport.TLS:
        write: Callable[[bytes], None] = transport.write
        return write

    def send(data: bytes) -> None:
        queued = transport.dataBuffer or transport._tempDataBuffer  # noqa: SLF001 - half of its queue
        if queued or not transport.connected:  # a reply may come when its client has gone
            transport.write(data)
            return
        sent = transport.writeSomeData(data)
        if not isinstance(sent, int):
            sent = 0  # the connection is lost, as `write` will notice
        if sent < len(data):
            transport.write(data[sent:])

    return send
