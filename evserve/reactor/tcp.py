"""TCP streams: what has an address and socket options."""

import socket
import struct
from contextlib import suppress
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import ITCPTransport, ITLSTransport
from twisted.internet.tcp import _getrealname
from twisted.python.failure import Failure
from zope.interface import implementer

from evserve.reactor.stream import Stream


# struct tcp_info of Linux: a byte for the state and, at 128, the bytes received. The end of the
# peer's stream counts as one of them.
_INFO = struct.Struct("=B127xQ")
_CLOSED = 7
_ENDED_BY_PEER = {6, 8, 9, 11}  # TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING


def internet_address(pair: tuple[Any, ...]) -> IPv4Address | IPv6Address:
    """Return the Twisted address of one of the socket module's."""
    if len(pair) == 2:  # noqa: PLR2004  # host and port; IPv6 has flow and scope besides
        return IPv4Address("TCP", *pair)
    return IPv6Address("TCP", *_getrealname(pair))


@implementer(ITCPTransport, ITLSTransport)
class TCPStream(Stream):
    """A TCP connection, of either side."""

    _peer: tuple[Any, ...] | None = None  # as the socket module has it, once it was asked for
    _received = 0  # bytes, when last asked for
    _is_over = False  # the descriptor is ours no more

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

    if hasattr(socket, "TCP_INFO"):  # Linux

        @property
        def bytes_received(self) -> int:
            """How many bytes the peer has sent, whether or not the protocol has read them.

            The kernel counts, so that nothing has to be counted in Python. It is a question of
            half a microsecond, and may be put for the last time in `connectionLost`.
            """
            if not self._is_over:
                # An answer that is older is better than a lost farewell; kernels before 4.1 count
                # nothing.
                with suppress(OSError, struct.error):
                    self._received = self._ask_received()
            return self._received

    def _ask_received(self) -> int:
        handle: Any = self.uv.get_extra_info("socket")
        info = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
        state, received = _INFO.unpack(info)
        ended = self._read_ended if state == _CLOSED else state in _ENDED_BY_PEER
        return int(received) - ended

    def _lost(self, reason: Failure) -> None:
        super()._lost(reason)
        self._is_over = True
