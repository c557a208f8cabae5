"""Twisted on epoll: protocols, called by a reactor that has been doing this since 2002.

asyncio took its transports and protocols from here. The reactor asks epoll, level-triggered, and
calls `dataReceived`; what the protocol writes is gathered and sent in the reactor's next turn.

It costs a few times what a bare loop costs for each message: the way from epoll to the protocol
and back is all Python, and covers TLS, half-closed connections, producers and consumers.

It breaks at the limit of open files, and with a callback that takes its time. By itself it keeps
everything for a client that does not read its answers: back-pressure has to be asked for, by
making the transport's reading half the producer of its writing half.
"""

import signal
import socket
import sys
from typing import Any

from _common import allow_many_files, announce, has_room, port
from twisted.internet import epollreactor


epollreactor.install()

from twisted.internet import reactor as installed
from twisted.internet.error import CannotListenError
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
        if not has_room(self.transport.getHandle().fileno()):
            self.transport.abortConnection()
            return
        self.transport.registerProducer(self.transport, streaming=True)

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
    allow_many_files()
    # Twisted leaves a SIGINT alone that is ignored, as it is in a shell's background jobs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        factory = Factory.forProtocol(Capitals)
        listening = reactor.listenTCP(port(), factory, socket.SOMAXCONN, "127.0.0.1")
    except CannotListenError as error:
        sys.exit(f"twisted_epoll: {error}")
    reactor.callWhenRunning(announce, f"127.0.0.1:{listening.getHost().port}")
    reactor.run()


if __name__ == "__main__":
    main()
