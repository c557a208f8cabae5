"""Twisted on epoll: protocols, called by a reactor that has been doing this since 2002.

asyncio took its transports and protocols from here. The reactor calls epoll, level-triggered, and
then `dataReceived`; the protocol's output is collected and sent in the reactor's next iteration.

It costs a few times what a bare loop costs for each message: everything between epoll and the
protocol is Python, and covers TLS, half-closed connections, producers and consumers.

It breaks at the limit of open files, and with a slow callback. By default it keeps all answers for
a client that does not read them: back-pressure has to be requested, by making the transport's
reading half the producer of its writing half.
"""

import socket
from typing import Any

from _common import has_free_descriptor, listen
from twisted.internet import epollreactor


epollreactor.install()

from twisted.internet import reactor as installed
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer


reactor: Any = installed  # it has no annotations


@implementer(IHalfCloseableProtocol)
class Capitals(Protocol):
    """The conversation with one client."""

    transport: Any

    def connectionMade(self) -> None:
        """Request back-pressure; close a connection that would take the last descriptor."""
        if has_free_descriptor(self.transport.getHandle().fileno()):
            self.transport.registerProducer(self.transport, streaming=True)
        else:
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Answer in capitals."""
        self.transport.write(data.upper())

    def readConnectionLost(self) -> None:
        """Close when everything has been sent, since the client has sent its last byte."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: both directions are closed together."""


def main() -> None:
    """Listen, and run the reactor."""
    listener = listen()
    listener.setblocking(False)
    factory = Factory.forProtocol(Capitals)
    reactor.adoptStreamPort(listener.fileno(), socket.AF_INET, factory)
    reactor.run()


if __name__ == "__main__":
    main()
