"""Listening: Twisted's own ports, where uvloop accepts.

uvloop accepts on a copy of the port's descriptor. Closing the copy pauses accepting, which uvloop
has no other word for, and leaves clients waiting in the kernel's queue.
"""

import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.python.failure import Failure

from evserve.reactor.secure import Stream
from evserve.reactor.tcp import TCPStream
from evserve.reactor.unix import UNIXStream


class _Accepting:
    """Owns the streams that come in."""

    reactor: Any
    socket: socket.socket
    factory: Any
    backlog: Any  # None if adopted
    connected: Any
    disconnecting: Any
    _stream: type[Stream]
    _server: Any = None

    def startReading(self) -> None:
        """Accept connections."""
        if self._server is not None:
            return
        # An adopted port has no backlog; listen(2) cuts this one to what the system allows.
        backlog = self.backlog or socket.SOMAXCONN
        starting = self.reactor.loop.create_server(
            self._make_stream, sock=self.socket.dup(), backlog=backlog
        )
        try:
            starting.send(None)  # with a socket given there is nothing that it waits for
        except StopIteration as started:
            self._server = started.value
        self.reactor.ports.add(self)

    def stopReading(self) -> None:
        """Leave connections in the kernel's queue."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self.reactor.ports.discard(self)

    def _make_stream(self) -> Stream:
        return self._stream(self.reactor, self)

    def welcome(self, stream: Stream) -> Any:
        """See Owner."""
        if self.disconnecting or not self.connected or stream.is_gone:
            return None
        return self.factory.buildProtocol(stream.getPeer())

    def replace(self, transport: Any) -> None:
        """See Owner."""

    def farewell(self, reason: Failure) -> None:
        """See Owner."""

    def describe(self, stream: Stream, name: str) -> str:
        """See Owner."""
        return f"{name},{stream.sessionno},{stream.peer_name}"

    def represent(self, stream: Stream, name: str) -> str:
        """See Owner."""
        return f"<{name} #{stream.sessionno} on {stream.place}>"


class TCPPort(_Accepting, tcp.Port):
    """See IListeningPort."""

    _stream = TCPStream


class UNIXPort(_Accepting, unix.Port):
    """See IListeningPort."""

    _stream = UNIXStream
