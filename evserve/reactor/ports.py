"""The server side: Twisted's own listening ports, where uvloop accepts, and adopted connections.

uvloop accepts on a copy of the port's descriptor. It has no call that pauses accepting, so pausing
closes the copy, which leaves clients waiting in the kernel's queue.
"""

import socket
from typing import Any

from attrs import define
from twisted.internet import tcp, unix
from twisted.internet.address import UNIXAddress
from typing_extensions import override

from evserve.reactor.stream import Owner, Stream
from evserve.reactor.tcp import TCPStream, internet_address
from evserve.reactor.unix import UNIXStream


class _Port(Owner):
    """What TCP and UNIX ports share: uvloop accepts, and the port owns the streams."""

    reactor: Any
    socket: socket.socket
    factory: Any
    backlog: Any  # None if adopted
    connected: Any
    disconnecting: Any
    _stream: type[Stream]
    _server: Any = None
    sessionno: int  # of the next connection

    def startReading(self) -> None:
        """Accept connections."""
        if self._server is not None:
            return
        # An adopted port has no backlog; listen(2) cuts this one to what the system allows.
        backlog = self.backlog or socket.SOMAXCONN
        starting = self.reactor.loop.create_server(
            lambda: self._stream(self.reactor, self), sock=self.socket.dup(), backlog=backlog
        )
        try:
            starting.send(None)  # given a socket, the coroutine never waits
        except StopIteration as started:
            self._server = started.value
        self.reactor.ports.add(self)

    def stopReading(self) -> None:
        """Leave connections in the kernel's queue."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self.reactor.ports.discard(self)

    @override
    def build_protocol(self, stream: Stream) -> Any:
        if self.disconnecting or not self.connected or stream.peer_is_gone:
            return None
        protocol = self.factory.buildProtocol(stream.getPeer())
        stream.sessionno = self.sessionno
        self.sessionno += 1
        return protocol


class TCPPort(_Port, tcp.Port):
    """A TCP port (IListeningPort)."""

    _stream = TCPStream


class UNIXPort(_Port, unix.Port):
    """A port on a UNIX socket (IListeningPort)."""

    _stream = UNIXStream


@define(eq=False)
class _Adopted(Owner):
    """Owns a connection that another process, or other code, has accepted."""

    protocol: Any

    @override
    def build_protocol(self, stream: Stream) -> Any:
        return self.protocol


def adopt_connection(reactor: Any, descriptor: int, family: int, factory: Any) -> Stream | None:
    """Return the stream of a copy of `descriptor`; None if the factory builds no protocol."""
    connected = socket.fromfd(descriptor, family, socket.SOCK_STREAM)
    name = connected.getpeername()
    is_unix = family == socket.AF_UNIX
    protocol = factory.buildProtocol(UNIXAddress(name) if is_unix else internet_address(name))
    if protocol is None:
        connected.close()
        return None
    stream = (UNIXStream if is_unix else TCPStream)(reactor, _Adopted(protocol))
    stream.sessionno = 0 if is_unix else name[1]  # as in Twisted
    stream.attach(connected)
    return stream
