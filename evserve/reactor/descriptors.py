"""File descriptors over UNIX sockets: receiving them, refusing them, sending them.

uvloop reads with read(2), which drops descriptors that come with the bytes. A protocol that
provides `IFileDescriptorReceiver` therefore gets Twisted's own transport, which polls. For any
other protocol uvloop reads, except for the first bytes: those are read with recvmsg(2), so that
Twisted's warning about an unexpected descriptor appears at the start of a connection, where it
helps.
"""

import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet import unix
from twisted.internet.error import FileDescriptorOverrun
from twisted.python import log
from twisted.python.failure import Failure
from typing_extensions import override

from evserve.reactor.stream import CONNECTION_LOST, Owner


if TYPE_CHECKING:
    from evserve.reactor.unix import UNIXStream

_READ_SIZE = 65536  # bytes
_MAX_DESCRIPTORS = 253  # in one message: the kernel's SCM_MAX_FD
_MAX_QUEUED = 64  # descriptors that wait before a producer is paused, as in Twisted


class DescriptorStream(unix.Server):
    """Twisted's transport, on a copy of the descriptor of a stream that uvloop has opened."""

    _owner: Owner
    port_name: str

    @classmethod
    def replacing(cls, stream: "UNIXStream", protocol: Any) -> "DescriptorStream":
        """Return the transport of `protocol` that takes the place of `stream`."""
        copy = socket.socket(fileno=os.dup(stream.uv.get_extra_info("socket").fileno()))
        new = cls(copy, protocol, stream.getPeer().name, None, stream.sessionno, stream.reactor)
        new._owner = stream.owner
        new._tlsClientDefault = stream._tlsClientDefault  # noqa: SLF001  # Twisted's name
        new.port_name = stream.port_name
        new.repstr = stream.owner.describe(new, protocol.__class__.__name__)
        return new

    @override
    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        self._owner.stream_lost(reason)


class FirstRead:
    """uvloop's (buffered) protocol of a stream until its first bytes have arrived."""

    def __init__(self, stream: "UNIXStream") -> None:
        self._stream = stream
        self._data = b""
        self._buffer = bytearray(1)
        self.pause_writing = stream.pause_writing
        self.resume_writing = stream.resume_writing
        self.connection_lost = stream.connection_lost

    def get_buffer(self, _hint: int) -> bytearray:
        """Read with recvmsg(2); uvloop then reads at most one more byte into the buffer."""
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._stream.socket, _READ_SIZE, _MAX_DESCRIPTORS, socket.MSG_DONTWAIT
            )
        except OSError:
            return self._buffer  # uvloop gets the same error
        if descriptors:
            self._refuse(descriptors)
        if data:
            self._keep(data)
        return self._buffer

    def buffer_updated(self, _count: int) -> None:
        """Add the byte that uvloop has read."""
        self._keep(bytes(self._buffer))

    def eof_received(self) -> Any:
        """Deliver what came before the end."""
        self._deliver()
        return self._stream.eof_received() if self._stream.connected else False

    def _keep(self, data: bytes) -> None:
        if not self._data:
            # In the next turn: uvloop is about to read into the buffer.
            self._stream.reactor.loop.call_soon(self._deliver)
        self._data += data

    def _deliver(self) -> None:
        stream, data, self._data = self._stream, self._data, b""
        if data and stream.connected:
            stream.end_first_read(data)

    def _refuse(self, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        stream = self._stream
        # Text and keys are Twisted's, for programs that look for them in its log.
        log.msg(
            format="%(protocolName)s (on %(hostAddress)r) does not "
            "provide IFileDescriptorReceiver; closing file "
            "descriptor received (from %(peerAddress)r).",
            hostAddress=stream.getHost(),
            peerAddress=stream.getPeer(),
            protocolName=stream.protocol_name,
        )


class DescriptorWriter:
    """Sends descriptors, each with the next byte of what its stream has gathered."""

    def __init__(self, stream: "UNIXStream") -> None:
        self._stream = stream
        self._descriptors: deque[int] = deque()
        self._watched: int | None = None  # a copy of the descriptor: uvloop watches the original

    def send(self, descriptor: int) -> None:
        """Queue a descriptor; until it is sent the stream only gathers."""
        stream = self._stream
        if not (self._descriptors or stream.busy):
            written = stream.reactor.take_gathered(stream)
            stream.pause_writing()
            stream.held = written
            stream.reactor.loop.call_soon(self._resume)
        self._descriptors.append(descriptor)
        if len(self._descriptors) > _MAX_QUEUED:
            stream.pause_producer()

    def close(self) -> None:
        """Stop watching the socket."""
        if self._watched is not None:
            self._stream.reactor.loop.remove_writer(self._watched)
            os.close(self._watched)
            self._watched = None

    def _resume(self) -> None:
        self.close()
        if self._stream.connected:
            self._stream.resume_writing()

    def flush(self) -> bool:
        """Send the descriptors; return whether the stream may send what it has gathered."""
        if not self._descriptors:
            return True
        stream = self._stream
        data = b"".join(stream.held)
        if len(self._descriptors) > len(data):
            stream.abort_with(Failure(FileDescriptorOverrun()))
            return False
        sent = 0
        try:
            while self._descriptors:
                first = self._descriptors[0]
                socket.send_fds(
                    stream.socket, [data[sent : sent + 1]], [first], socket.MSG_DONTWAIT
                )
                self._descriptors.popleft()
                sent += 1
        except BlockingIOError:
            self._watched = os.dup(stream.fileno())
            stream.reactor.loop.add_writer(self._watched, self._resume)
        except OSError:
            stream.abort_with(CONNECTION_LOST)
            return False
        stream.held = [data[sent:]]
        return not self._descriptors
