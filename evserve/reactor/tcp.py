"""TCP streams: addresses, socket options and the kernel's count of the bytes received."""

import socket
import struct
from contextlib import suppress
from functools import lru_cache
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import ITCPTransport, ITLSTransport
from twisted.internet.tcp import _getrealname
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from evserve.reactor.stream import Stream


# struct tcp_info of Linux: a byte for the state and, at 128, the bytes received. The end of the
# peer's stream counts as one of them.
_INFO = struct.Struct("=B127xQ")
_CLOSED = 7
_ENDED_BY_PEER = {6, 8, 9, 11}  # TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING


@lru_cache(1024)  # twisted.web asks for both addresses with each request
def internet_address(name: tuple[Any, ...]) -> IPv4Address | IPv6Address:
    """Return the Twisted address of a socket name of the socket module."""
    if len(name) == 2:  # noqa: PLR2004  # host and port; IPv6 has flow and scope besides
        return IPv4Address("TCP", *name)
    return IPv6Address("TCP", *_getrealname(name))


@implementer(ITCPTransport, ITLSTransport)
class TCPStream(Stream):
    """A TCP connection, of either side."""

    _peer: tuple[Any, ...] | None = None  # the peer's socket name
    _host: Any = None  # our socket name, once asked for
    _received = 0  # bytes, when last asked for
    _is_over = False  # the descriptor may belong to another connection by now

    @override
    def connection_made(self, uv: Any) -> None:
        # Read now, because the kernel forgets the peer when the connection is reset.
        self._peer = uv.get_extra_info("peername")
        super().connection_made(uv)

    def getHost(self) -> IPv4Address | IPv6Address:
        if self._host is None:
            self._host = self.uv.get_extra_info("sockname")
        return internet_address(self._host)

    def getPeer(self) -> IPv4Address | IPv6Address:
        # A client whose connection is gone still knows where it had connected to.
        return internet_address(self._peer or self.connected_addr)

    @property
    @override
    def peer_is_gone(self) -> bool:
        return self._peer is None

    @property
    def port_name(self) -> int:
        """The number of the port, for the representation."""
        return self.getHost().port

    @property
    def peer_name(self) -> str:
        """The peer's host, for the log prefix."""
        return self.getPeer().host

    # uvloop switches TCP_NODELAY on for every connection.

    def getTcpNoDelay(self) -> bool:
        return bool(self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, bool(enabled))

    if hasattr(socket, "TCP_INFO"):  # Linux

        @property
        def bytes_received(self) -> int:
            """How many bytes the peer has sent, whether or not the protocol has read them.

            The kernel counts them, so Python need not. Reading the count takes half a microsecond
            and works up to and including `connectionLost`.
            """
            if not self._is_over:
                # An older count is better than an exception in connectionLost; kernels before 4.1
                # do not count.
                with suppress(OSError, struct.error):
                    self._received = self._ask_received()
            return self._received

    def _ask_received(self) -> int:
        handle: Any = self.uv.get_extra_info("socket")
        info = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
        state, received = _INFO.unpack(info)
        ended = self._read_closed if state == _CLOSED else state in _ENDED_BY_PEER
        return int(received) - ended

    @override
    def _lost(self, reason: Failure) -> None:
        super()._lost(reason)
        self._is_over = True
