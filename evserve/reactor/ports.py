"""Listening: Twisted's own ports, where uvloop accepts.

uvloop accepts on a copy of the port's descriptor. Closing the copy pauses accepting, which uvloop
has no other word for, and leaves clients waiting in the kernel's queue.
"""

import contextlib
import socket
from functools import partial
from typing import Any

from attrs import define
from twisted.internet import tcp, unix
from twisted.internet.address import UNIXAddress
from twisted.python.failure import Failure

from evserve.reactor.stream import Stream
from evserve.reactor.tcp import TCPStream, internet_address
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


# Connections whose socket exists already: uvloop takes it over from here.


def hand_over(loop: Any, connected: socket.socket, stream: Any) -> None:
    """Let uvloop drive a connected socket; `stream.connection_made` comes in the next turn.

    uvloop offers this as a coroutine. A task would do, at the price of another turn and of an
    object that outlives a loop stopped in between.
    """
    joining = loop.connect_accepted_socket(lambda: stream, connected)
    waiter = joining.send(None)
    waiter.add_done_callback(partial(_joined, joining))


def _joined(joining: Any, _waiter: object) -> None:
    # RuntimeError is uvloop's word for a connection that was closed before it was made.
    with contextlib.suppress(StopIteration, RuntimeError):
        joining.send(None)


@define(eq=False)
class Adopter:
    """Owns a connection that another process, or other code, has accepted."""

    protocol: Any

    def welcome(self, stream: Any) -> Any:
        """See Owner."""
        return self.protocol

    def replace(self, transport: Any) -> None:
        """See Owner."""

    def farewell(self, reason: Failure) -> None:
        """See Owner."""

    def describe(self, stream: Any, name: str) -> str:
        """See Owner."""
        return f"{name},{stream.sessionno},{stream.peer_name}"

    def represent(self, stream: Any, name: str) -> str:
        """See Owner."""
        return f"<{name} #{stream.sessionno} on {stream.place}>"


def adopt_connection(reactor: Any, descriptor: int, family: int, factory: Any) -> Any:
    """Return the stream of a copy of `descriptor`; None if the factory wants none."""
    connected = socket.fromfd(descriptor, family, socket.SOCK_STREAM)
    name = connected.getpeername()
    is_unix = family == socket.AF_UNIX
    protocol = factory.buildProtocol(UNIXAddress(name) if is_unix else internet_address(name))
    if protocol is None:
        connected.close()
        return None
    kind = UNIXStream if is_unix else TCPStream
    stream = kind(reactor, Adopter(protocol))
    hand_over(reactor.loop, connected, stream)
    return stream
