"""The client side: Twisted's own connectors, up to a connected socket that uvloop takes over.

So time-outs, bind addresses, name resolution and `stopConnecting` are exactly Twisted's.
"""

from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from typing_extensions import override

from evserve.reactor.stream import Owner, Stream
from evserve.reactor.tcp import TCPStream
from evserve.reactor.unix import UNIXStream


class TCPConnector(tcp.Connector):
    """An IConnector over TCP."""

    @override
    def _makeTransport(self) -> Any:
        client: Any = _TCPClient
        return client(self.host, self.port, self.bindAddress, self, self.reactor)


class UNIXConnector(unix.Connector):
    """An IConnector over a UNIX socket."""

    @override
    def _makeTransport(self) -> Any:
        client: Any = _UNIXClient
        return client(self.address, self, self.reactor, self.checkPID)


class _Client(Owner):
    """An attempt to connect; it owns the stream that comes of it."""

    connected: Any
    connector: Any
    reactor: Any
    socket: Any
    addr: Any
    _stream: type[Stream]
    _reads_next_turn = False

    def _connectDone(self) -> None:
        stream = self._stream(self.reactor, self)
        stream._tlsClientDefault = True  # noqa: SLF001  # the name that Twisted's startTLS reads
        stream.reads_next_turn = self._reads_next_turn
        stream.attach(self.socket)

    @override
    def build_protocol(self, stream: Stream) -> Any:
        if not hasattr(self, "connector"):
            return None  # the program gave up a moment ago
        self.connected = 1
        self.connector.transport = stream
        stream.addr = self.addr
        stream.connected_addr = getattr(self, "realAddress", self.addr)
        return self.connector.buildProtocol(stream.getPeer()) or _ClosingProtocol()

    @override
    def transport_replaced(self, transport: Any) -> None:
        self.connector.transport = transport

    @override
    def stream_lost(self, reason: Failure) -> None:
        connector = self.connector
        del self.connector  # it holds the stream, which holds this object
        connector.connectionLost(reason)

    @override
    def log_prefix(self, stream: Stream, name: str) -> str:
        return f"{name},client"

    @override
    def describe(self, stream: Stream, name: str) -> str:
        return f"<{stream.__class__} to {self.addr} at {id(stream):x}>"


class _TCPClient(_Client, tcp.Client):
    _stream = TCPStream
    # ClientCreator gives its caller the protocol in that turn, to be there before the first bytes.
    _reads_next_turn = True


class _UNIXClient(_Client, unix.Client):
    _stream = UNIXStream


class _ClosingProtocol(Protocol):
    """Closes a connection for which the client's factory has built no protocol."""

    @override
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()
