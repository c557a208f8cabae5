"""A connection: a protocol to Twisted's transport, an asyncio transport to uvicorn's protocol.

uvicorn's protocols need little of a transport, so one object is both. Bytes go straight to the
`data_received` of uvicorn's protocol, which stands in the place of `dataReceived`.
"""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ISSLTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from evserve.interfaces import IBusy, IDrainable


class ConnectionFactory(Factory):
    """Makes connections, which are not read until the application has started.

    make_protocol: returns a new protocol of uvicorn's.
    """

    noisy = False

    def __init__(self, make_protocol: Callable[[], Any]) -> None:
        self.make_protocol = make_protocol
        self.held: set[Connection] | None = set()  # None: the application has started

    @override
    def buildProtocol(self, addr: Any) -> "Connection":
        return Connection(self)

    def serve(self) -> None:
        """Serve the connections that were accepted, and those to come."""
        held, self.held = self.held or set(), None
        for connection in held:
            connection.begin()
            connection.resume_reading()


@implementer(IPushProducer, IHalfCloseableProtocol, IDrainable, IBusy)
class Connection(Protocol):
    """One connection of a client; uvicorn upgrades it to a websocket by `set_protocol`."""

    transport: Any

    def __init__(self, factory: ConnectionFactory) -> None:
        self._factory = factory
        self._protocol: Any = None  # uvicorn's; None while the connection is held, and at the end
        self._early: list[bytes] = []  # what came while it was held
        self._closing = False

    # To Twisted's transport

    @override
    def connectionMade(self) -> None:
        self._write = self.transport.write
        self.transport.registerProducer(self, True)
        if self._factory.held is None:
            self.begin()
        else:
            self._factory.held.add(self)
            self.transport.pauseProducing()

    def begin(self) -> None:
        """Give the connection to a protocol of uvicorn's."""
        protocol = self._protocol = self._factory.make_protocol()
        self.dataReceived = protocol.data_received  # type: ignore[method-assign]  # see above
        protocol.connection_made(self)
        early, self._early = self._early, []
        for data in early:
            self.dataReceived(data)

    @override
    def dataReceived(self, data: bytes) -> None:
        # Only while it is held: a layer such as TLS may deliver although the transport is paused.
        self._early.append(data)

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
        elif self._factory.held is not None:
            self._factory.held.discard(self)

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
        # A websocket is kept open by its pings.
        cycle = getattr(self._protocol, "cycle", None)
        held = self._protocol is None
        return held or (cycle is not None and not cycle.response_complete)

    # To uvicorn's protocol: what it uses of asyncio.Transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send data; an application may pass what Twisted's transports do not take."""
        if not self._closing:
            self._write(data if type(data) is bytes else bytes(data))

    def writelines(self, chunks: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send all chunks."""
        self.write(b"".join(chunks))

    def close(self) -> None:
        """Close the connection after what was written has been sent; read nothing more."""
        if not self._closing:
            self._end()
            self.transport.unregisterProducer()
            self.transport.loseConnection()

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
