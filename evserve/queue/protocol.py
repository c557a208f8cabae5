"""The Twisted side of a connection: a transport on one end, a Session on the other."""

from collections.abc import Callable
from typing import Any, cast

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
from zope.interface import implementer

from evserve.interfaces import IDrainable
from evserve.queue.engine import Engine
from evserve.queue.session import Pipe, Session
from evserve.queue.stats import Statistics


def sender(transport: Any) -> Callable[[bytes], None]:
    """Return what to call instead of `transport.write`."""
    if not isinstance(transport, Connection) or transport.TLS:
        write: Callable[[bytes], None] = transport.write
        return write

    def send(data: bytes) -> None:
        if transport.dataBuffer or transport._tempDataBuffer:  # noqa: SLF001 - half of its queue
            transport.write(data)
            return
        sent = transport.writeSomeData(data)
        if not isinstance(sent, int):
            sent = 0  # the connection is lost, which is for `write` to find out
        if sent < len(data):
            transport.write(data[sent:])

    return send


@implementer(IHalfCloseableProtocol, IPushProducer, IDrainable)
@define(eq=False, repr=False, slots=False)
class QueueProtocol(Protocol):
    """Is its transport's push producer, so that a client which does not read gets no more."""

    engine: Engine
    statistics: Statistics
    session: Session = field(init=False)

    def connectionMade(self) -> None:
        """See IProtocol. From here on the transport gives its bytes to the session itself."""
        assert self.transport is not None
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        # ITransport leaves out what every stream transport can do.
        pipe = cast("Pipe", self.transport)
        pipe.registerProducer(self, True)
        self.session = Session(self.engine, pipe, sender(pipe), self.statistics)
        self.dataReceived = self.session.feed  # type: ignore[method-assign]  # a frame less

    def connectionLost(self, reason: Failure | None = None) -> None:
        """See IProtocol."""
        self.session.lost()

    def readConnectionLost(self) -> None:
        """See IHalfCloseableProtocol: carry out what was sent, then close."""
        self.session.end_input()

    def writeConnectionLost(self) -> None:
        """See IHalfCloseableProtocol: nobody hears us any more."""
        self.session.close()

    def pauseProducing(self) -> None:
        """See IPushProducer."""
        self.session.block()

    def resumeProducing(self) -> None:
        """See IPushProducer."""
        self.session.unblock()

    def stopProducing(self) -> None:
        """See IPushProducer; connectionLost does what there is to do."""

    def drain(self) -> None:
        """See IDrainable."""
        self.session.drain()


@define(eq=False, repr=False, slots=False)
class QueueFactory(Factory):
    """Makes the connections of one queue. `engine` is there once the service has started."""

    engine: Engine = field(init=False)
    statistics: Statistics = field(init=False)

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> QueueProtocol:
        """See IProtocolFactory."""
        protocol = QueueProtocol(self.engine, self.statistics)
        protocol.factory = self
        return protocol
