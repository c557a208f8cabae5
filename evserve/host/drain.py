"""Which connections have work in flight when the process stops.

A protocol that provides IDrainable knows it itself. Of any other the host knows what the kernel
and the transport tell, and what Twisted's own HTTP and FTP protocols, and the HTTP channel of
`evserve.web`, say about themselves.
"""

import socket
import struct
import sys
from typing import Any

from attrs import frozen


# Seconds without a byte after which a transfer of unknown length counts as over.
QUIET = 1.0

# Seconds after which a connection that was never sent anything counts as one without answers.
PATIENCE = 10.0

# Seconds after which no answer is expected any more: the client may have had the last word.
ANSWER_TIME = 30.0

# struct tcp_info of Linux: at 44 the milliseconds since data was last sent, at 52 those since data
# was last received, at 144 how many bytes wait to be sent, at 152 and 156 how many segments with
# data were received and sent.
_TCP_INFO = struct.Struct("=44xI4xI88xI4xII")


def lowest_transport(transport: Any) -> Any:
    """Return the transport below the layers around a connection: TLS, haproxy."""
    while hasattr(transport, "transport"):
        transport = transport.transport
    return transport


@frozen
class Traffic:
    """What the kernel knows of the data on a TCP connection; the times are in seconds."""

    since_sent: float  # since it was accepted, if nothing was
    since_received: float
    has_sent: bool
    has_received: bool  # whether or not the protocol has read it
    has_unsent: bool  # data waits in the kernel for the peer to read what came before

    @classmethod
    def of(cls, transport: Any) -> "Traffic | None":
        """Return the traffic of a transport; None if the kernel does not tell."""
        try:
            handle = lowest_transport(transport).getHandle()
            info = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            sent, received, unsent, segments_in, segments_out = _TCP_INFO.unpack(info)
        except (AttributeError, OSError, struct.error):
            return None
        return cls(sent / 1000, received / 1000, segments_out > 0, segments_in > 0, unsent > 0)

    @property
    def is_unanswered(self) -> bool:
        """Whether the peer was the last to send; the kernel's clock may have steps of 10 ms."""
        return self.has_received and (not self.has_sent or self.since_received < self.since_sent)

    @property
    def is_quiet(self) -> bool:
        """Whether no data has moved for a while."""
        return min(self.since_sent, self.since_received) >= QUIET


def in_flight(protocol: Any, transport: Any) -> bool:
    """Return whether closing the connection now would cut a request, an answer or a transfer.

    protocol: what gets the connection's bytes.
    """
    protocol = _innermost(protocol)
    traffic = Traffic.of(transport)
    unanswered = traffic is not None and traffic.is_unanswered
    quiet = traffic is None or traffic.is_quiet
    channel = _http_channel(protocol)
    if channel is not None:
        return _has_requests(channel) or (unanswered and not quiet)
    transfer = getattr(protocol, "dtpInstance", None)  # the data connection of Twisted's FTP
    if transfer is not None and transfer.isConnected:
        return True
    if _is_sending(transport, quiet):
        return True
    if not unanswered or traffic is None:
        return False
    if traffic.has_sent:
        return traffic.since_received < ANSWER_TIME
    return traffic.since_sent < PATIENCE or not quiet


def is_answering(protocol: Any) -> bool:
    """Return whether twisted.web owes an answer: to a request that it has received completely."""
    channel = _http_channel(_innermost(protocol))
    return channel is not None and bool(
        channel.streams if hasattr(channel, "streams") else channel._handlingRequest  # noqa: SLF001 - no other tells
    )


def _innermost(protocol: Any) -> Any:
    while hasattr(protocol, "wrappedProtocol"):  # of twisted.protocols.policies
        protocol = protocol.wrappedProtocol
    return protocol


def _http_channel(protocol: Any) -> Any:
    """Return an HTTPChannel, or an H2Connection, of twisted.web; None for another protocol."""
    http: Any = sys.modules.get("twisted.web.http")
    if http is None:
        return None
    if isinstance(protocol, http._GenericHTTPChannelProtocol):  # noqa: SLF001 - a Site's protocol
        protocol = protocol._channel  # noqa: SLF001 - as above
    is_http2 = hasattr(protocol, "streams") and hasattr(protocol, "requestFactory")
    return protocol if isinstance(protocol, http.HTTPChannel) or is_http2 else None


def _has_requests(channel: Any) -> bool:
    if hasattr(channel, "streams"):
        return bool(channel.streams)
    if channel.requests:
        # The channel closes its connection after a request that was not persistent. Otherwise a
        # client that sends one request after another would keep it open.
        channel.persistent = False
        return True
    return getattr(channel, "has_partial_head", False)  # of evserve.web, which may not be imported


def _is_sending(transport: Any, quiet: bool) -> bool:
    """Return whether a producer on the transport has more to send.

    A proxy is the producer of its connection from beginning to end, so only what moves counts.
    """
    lowest = lowest_transport(transport)
    if getattr(lowest, "producer", None) is None:
        return False
    return not lowest.streamingProducer or lowest.producerPaused or not quiet
