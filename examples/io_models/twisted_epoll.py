"""Twisted on epoll: protocols, called by a reactor that has been doing this since 2002.

asyncio took its transports and protocols from here. The reactor asks epoll, level-triggered, and
calls `dataReceived`; what the protocol writes is gathered and sent in the reactor's next turn.

It costs a few times what a bare loop costs for each message: the way from epoll to the protocol
and back is all Python, and covers TLS, half-closed connections, producers and consumers.

It breaks at the limit of open files, and with a callback that takes its time. By itself it keeps
everything for a client that does not read its answers: back-pressure has to be asked for, by
making the transport's reading half the producer of its writing half.
"""

import socket
from typing import Any

from _common import has_room, listen
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
        """Ask for back-pressure; turn away who would take the last descriptor."""
        if has_room(self.transport.getHandle().fileno()):
            self.transport.registerProducer(self.transport, streaming=True)
        else:
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Answer."""
        self.transport.write(data.upper())

    def readConnectionLost(self) -> None:
        """Close once everything has been sent: the client has sent its last byte."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: we close both ways at once."""


def main() -> None:
    """Listen, and run the reactor."""
    listener = listen()
    listener.setblocking(False)
    factory = Factory.forProtocol(Capitals)
    reactor.adoptStreamPort(listener.fileno(), socket.AF_INET, factory)
    reactor.run()


if __name__ == "__main__":
    main()
