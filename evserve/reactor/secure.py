"""TLS that begins in the middle of a connection (`startTLS`), by Twisted's own TLS protocol.

Connections that are TLS from the start need nothing here: there Twisted's protocol is the one
that the stream carries.
"""

import socket
from collections.abc import Iterable
from typing import Any

from twisted.internet import _newtls

from evserve.reactor.stream import RawStream


class Stream(RawStream):
    """A stream whose methods go through TLS once that has been started."""

    TLS = False
    _tlsClientDefault = False

    # For logs and representations, in the words of Twisted's transports.
    place: Any  # the number or the path of the port that it came in at
    peer_name: Any
    getHost: Any
    getPeer: Any
    addr: Any  # of a client: where it was told to go
    went_to: Any  # and where that was, names resolved

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """See ITLSTransport."""
        _newtls.startTLS(self, contextFactory, normal, RawStream)
        self.write = self.protocol.write  # type: ignore[method-assign]  # on purpose

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """See ITransport."""
        if not self.TLS:
            super().writeSequence(data)
        elif self.connected:
            self.protocol.writeSequence(data)

    def loseConnection(self) -> None:
        """See ITransport."""
        if not self.TLS:
            super().loseConnection()
        elif self.connected and not self.disconnecting:
            self.protocol.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See IConsumer."""
        if self.TLS and self.connected:
            self.protocol.registerProducer(producer, streaming)
        else:
            super().registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """See IConsumer."""
        if self.TLS and self.connected:
            self.protocol.unregisterProducer()
        else:
            super().unregisterProducer()

    def getTcpKeepAlive(self) -> bool:
        """See ITCPTransport."""
        return bool(self.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """See ITCPTransport."""
        self.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, bool(enabled))
