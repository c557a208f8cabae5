"""TCP streams: what has an address and socket options."""

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import ITCPTransport, ITLSTransport
from twisted.internet.tcp import _getrealname
from zope.interface import implementer

from evserve.reactor.secure import Stream


def internet_address(pair: tuple[Any, ...]) -> IPv4Address | IPv6Address:
    """Return the Twisted address of one of the socket module's."""
    if len(pair) == 2:  # noqa: PLR2004  # host and port; IPv6 has flow and scope besides
        return IPv4Address("TCP", *pair)
    return IPv6Address("TCP", *_getrealname(pair))


@implementer(ITCPTransport, ITLSTransport)
class TCPStream(Stream):
    """A TCP connection, of either side."""

    _peer: tuple[Any, ...] | None = None  # as the socket module has it, once it was asked for

    def getHost(self) -> IPv4Address | IPv6Address:
        """See ITCPTransport."""
        return internet_address(self.uv.get_extra_info("sockname"))

    @property
    def is_gone(self) -> bool:
        """See Stream."""
        return self._known_peer() is None

    def getPeer(self) -> IPv4Address | IPv6Address:
        """See ITCPTransport; a client whose connection is gone says where it went."""
        return internet_address(self._known_peer() or self.went_to)

    def _known_peer(self) -> tuple[Any, ...] | None:
        """Remember the peer: the kernel forgets it when the connection is reset."""
        if self._peer is None:
            self._peer = self.uv.get_extra_info("peername")
        return self._peer

    @property
    def place(self) -> int:
        """The number of the port."""
        return self.getHost().port

    @property
    def peer_name(self) -> str:
        """The peer's host."""
        return self.getPeer().host

    def getTcpNoDelay(self) -> bool:
        """See ITCPTransport; uvloop switches it on for every connection."""
        return bool(self.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        """See ITCPTransport."""
        self.getHandle().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, bool(enabled))
