"""A connection: a protocol to Twisted's transport, an asyncio transport to uvicorn's protocol.

uvicorn's protocols need little of a transport, so one object is both. Bytes go straight to the
`data_received` of uvicorn's protocol, which stands in the place of `dataReceived`.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocolNegotiationFactory,
    IPushProducer,
    ISSLTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from evserve.interfaces import IBusy, IDrainable


HEAD_TIME: Final = 60
"""Seconds, about, in which the head of a request must arrive."""

_MOST_UNSENT: Final = 262144
"""Bytes after which an application waits for the next turn, or for a slow client.

With 64 KiB, an application that streams would wait after each piece.
"""


@implementer(IProtocolNegotiationFactory)
class ConnectionFactory(Factory):
    """Makes connections, which are not read until the application has started.

    make_protocol: returns a new protocol of uvicorn's.
    """

    noisy = False

    def __init__(self, make_protocol: Callable[[], Any]) -> None:
        self.make_protocol = make_protocol
        self.is_serving = False
        self.silent: set[Connection] = set()  # those of which uvicorn knows nothing yet
        self.closing: set[Connection] = set()  # those with TLS that are being closed

    @override
    def buildProtocol(self, addr: Any) -> "Connection":
        return Connection(self)

    def acceptableProtocols(self) -> list[bytes]:
        # Without an answer, the handshake with a client that offers protocols (ALPN) would fail.
        return [b"http/1.1"]

    def serve(self) -> None:
        """Serve the connections that were accepted, and those to come."""
        self.is_serving = True
        for connection in tuple(self.silent):
            connection.start()

    def second_passed(self) -> None:
        """Close connections that have sent nothing for long; called once a second.

        Those with TLS end without the client's consent.
        """
        for connection in tuple(self.silent) if self.is_serving else ():
            connection.seconds_silent += 1
            if connection.seconds_silent > HEAD_TIME:
                connection.close()
        for connection in tuple(self.closing):
            connection.close_below_tls()


@implementer(IPushProducer, IHalfCloseableProtocol, IDrainable, IBusy)
class Connection(Protocol):
    """One connection of a client; uvicorn upgrades it to a websocket by `set_protocol`.

    uvicorn's protocol is made when the first bytes are there: before that, a proxy (haproxy) has
    not said who the client is.
    """

    transport: Any

    def __init__(self, factory: ConnectionFactory) -> None:
        self._factory = factory
        self._protocol: Any = None  # uvicorn's; None at first and in the end
        self._early: list[bytes] = []  # what came before the application had started
        self._closing = False
        self.seconds_silent = 0

    # To Twisted's transport

    @override
    def connectionMade(self) -> None:
        self._write = self.transport.write
        if hasattr(type(self.transport), "flush"):  # evserve's reactor has it, TLS has not
            self.flush = self.transport.flush  # type: ignore[method-assign]  # saves a call
            self.transport.bufferSize = _MOST_UNSENT
        self.transport.registerProducer(self, True)
        self._factory.silent.add(self)
        if not self._factory.is_serving:
            self.transport.pauseProducing()

    @override
    def dataReceived(self, data: bytes) -> None:
        # Only the first bytes come here.
        if not self._factory.is_serving:  # a layer such as TLS delivers although it is paused
            self._early.append(data)
            return
        self._factory.silent.discard(self)
        protocol = self._protocol = self._factory.make_protocol()
        self.dataReceived = protocol.data_received  # type: ignore[method-assign]  # see above
        protocol.connection_made(self)
        protocol.data_received(data)

    def start(self) -> None:
        """Read the connection: the application has started."""
        early, self._early = self._early, []
        if early:
            self.dataReceived(b"".join(early))
        self.resume_reading()

    def readConnectionLost(self) -> None:
        self.close()  # a client that closes its half has gone, as under uvicorn

    def writeConnectionLost(self) -> None:
        """Do nothing: nothing closes the writing half alone."""

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        protocol, self._protocol = self._protocol, None
        self._end()
        if protocol is not None:
            protocol.connection_lost(None)  # with an exception, it would leave its timers running
        self._factory.silent.discard(self)
        self._factory.closing.discard(self)

    def pauseProducing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resumeProducing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    def stopProducing(self) -> None:
        """Do nothing: connectionLost follows."""

    # To the host

    def drain(self) -> None:
        if self._protocol is None:
            self.close()
        else:
            self._protocol.shutdown()

    def busy(self) -> bool:
        if not self._factory.is_serving:
            return True
        # A websocket has no such attribute: its pings keep it open.
        return getattr(self._protocol, "owes_answer", False)

    # To uvicorn's protocol: what it uses of asyncio.Transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send data; an application may pass what Twisted's transports do not take."""
        if not self._closing:
            self._write(data if type(data) is bytes else bytes(data))

    def writelines(self, chunks: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send all chunks."""
        self.write(b"".join(chunks))

    def flush(self) -> None:
        """Send what was written: an answer is complete. Most transports do so soon anyway."""

    def close(self) -> None:
        """Close the connection after what was written has been sent; read nothing more."""
        if not self._closing:
            self._end()
            self.transport.unregisterProducer()
            self.transport.loseConnection()
            if ISSLTransport.providedBy(self.transport):
                self._factory.closing.add(self)

    def close_below_tls(self) -> None:
        """Close the connection without TLS's close alert of the client, once all is sent.

        It may never come, and need not (RFC 8446, 6.1). Twisted would wait for it.
        """
        if not getattr(self.transport, "_appSendBuffer", None):
            lowest = self.transport
            while hasattr(lowest, "transport"):
                lowest = lowest.transport
            lowest.loseConnection()

    def abort(self) -> None:
        """Close the connection now."""
        self._end()
        self.transport.abortConnection()

    def is_closing(self) -> bool:
        """Whether the connection is closed, or is being closed."""
        return self._closing

    def pause_reading(self) -> None:
        """Take nothing from the client for now."""
        if not self._closing:
            self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Take again what the client sends."""
        if not self._closing:
            self.transport.resumeProducing()

    def set_protocol(self, protocol: Any) -> None:
        """Pass to another protocol what the client sends from now on."""
        self._protocol = protocol
        if not self._closing:
            self.dataReceived = protocol.data_received  # type: ignore[method-assign]  # see above

    def get_protocol(self) -> Any:
        """Return the protocol that gets what the client sends."""
        return self._protocol

    def can_write_eof(self) -> bool:
        """Return False: no layer offers to close only the writing half."""
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return `peername`, `sockname` or `sslcontext`; the default for anything else.

        An address is a pair of host and port, of a UNIX socket its path. The "SSL context" is
        True on a connection with TLS.
        """
        if name == "peername":
            return _address(self.transport.getPeer(), default)
        if name == "sockname":
            return _address(self.transport.getHost(), default)
        if name == "sslcontext" and ISSLTransport.providedBy(self.transport):
            return True
        return default

    def _end(self) -> None:
        self._closing = True
        self.dataReceived = _discard  # type: ignore[method-assign]  # TLS delivers after the end


def _discard(data: bytes) -> None:
    """Ignore what the client still sends."""


def _address(address: Any, default: Any) -> Any:
    host = getattr(address, "host", None)
    if host is not None:
        return host, address.port
    path: bytes | None = getattr(address, "name", None)
    return path.decode("utf-8", "replace") if path else default
