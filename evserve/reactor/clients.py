"""Connecting: Twisted's own way to a connected socket, which uvloop then takes over.

So time-outs, bind addresses, name resolution and `stopConnecting` are Twisted's to the letter.
"""

from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from evserve.reactor.ports import hand_over
from evserve.reactor.stream import Stream
from evserve.reactor.tcp import TCPStream
from evserve.reactor.unix import UNIXStream


class Unwanted(Protocol):
    """Stands in when a client's factory returns no protocol."""

    def connectionMade(self) -> None:
        """Close."""
        assert self.transport is not None
        self.transport.loseConnection()


class _Attempt:
    """An attempt to connect: owns the stream that comes of it."""

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
        hand_over(self.reactor.loop, self.socket, stream)

    def welcome(self, stream: Stream) -> Any:
        """See Owner."""
        if not hasattr(self, "connector"):
            return None  # it was given up a moment ago
        self.connected = 1
        self.connector.transport = stream
        stream.addr = self.addr
        stream.went_to = getattr(self, "realAddress", self.addr)
        return self.connector.buildProtocol(stream.getPeer()) or Unwanted()

    def replace(self, transport: Any) -> None:
        """See Owner."""
        self.connector.transport = transport

    def farewell(self, reason: Failure = connectionDone) -> None:
        """See Owner."""
        connector = self.connector
        del self.connector  # it holds the stream, which holds this
        connector.connectionLost(reason)

    def describe(self, stream: Stream, name: str) -> str:
        """See Owner."""
        return f"{name},client"

    def represent(self, stream: Stream, name: str) -> str:
        """See Owner."""
        return f"<{stream.__class__} to {self.addr} at {id(stream):x}>"


class TCPAttempt(_Attempt, tcp.Client):
    """An attempt over TCP."""

    _stream = TCPStream
    # ClientCreator gives its caller the protocol then, and he expects it before its first bytes.
    _reads_next_turn = True


class UNIXAttempt(_Attempt, unix.Client):
    """An attempt over a UNIX socket."""

    _stream = UNIXStream


class TCPConnector(tcp.Connector):
    """See IConnector."""

    def _makeTransport(self) -> Any:
        attempt: Any = TCPAttempt
        return attempt(self.host, self.port, self.bindAddress, self, self.reactor)


class UNIXConnector(unix.Connector):
    """See IConnector."""

    def _makeTransport(self) -> Any:
        attempt: Any = UNIXAttempt
        return attempt(self.address, self, self.reactor, self.checkPID)
