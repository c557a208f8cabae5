"""Receiving descriptors over UNIX sockets (IFileDescriptorReceiver).

uvloop reads with read(2), which drops descriptors that come with the bytes. So a protocol that
wants them gets Twisted's own transport, which polls. One that does not want any is read for
natively, but for its first bytes: an unexpected descriptor is what Twisted warns of, and at the
start of a connection the warning helps somebody.
"""

import os
import socket
from collections import deque
from typing import Any

from twisted.internet import unix
from twisted.internet.error import FileDescriptorOverrun
from twisted.python import log
from twisted.python.failure import Failure

from evserve.reactor.stream import LOST


_AT_ONCE = 65536  # bytes
_MOST = 253  # descriptors in one message: the kernel's SCM_MAX_FD


class DescriptorStream(unix.Server):
    """Twisted's transport, on a copy of the descriptor of a stream that uvloop has begun."""

    _owner: Any
    place: str

    @classmethod
    def instead_of(cls, stream: Any, protocol: Any, owner: Any) -> "DescriptorStream":
        """Return the transport that takes the place of `stream`, which is to be aborted."""
        copy = socket.socket(fileno=os.dup(stream.uv.get_extra_info("socket").fileno()))
        taking = cls(copy, protocol, stream.getPeer().name, None, copy.fileno(), stream.reactor)
        taking._owner = owner
        taking._tlsClientDefault = stream._tlsClientDefault  # noqa: SLF001  # Twisted's name
        taking.place = stream.place
        taking.repstr = owner.represent(taking, protocol.__class__.__name__)
        return taking

    def connectionLost(self, reason: Failure) -> None:
        """Tell the owner too."""
        super().connectionLost(reason)
        self._owner.farewell(reason)


class FirstRead:
    """uvloop's (buffered) protocol of a stream until its first bytes are there."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._data = b""
        self._buffer = bytearray(1)
        self.pause_writing = stream.pause_writing
        self.resume_writing = stream.resume_writing
        self.connection_lost = stream.connection_lost

    def get_buffer(self, _hint: int) -> bytearray:
        """Read, before uvloop does, with what shows descriptors."""
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._stream.getHandle(), _AT_ONCE, _MOST, socket.MSG_DONTWAIT
            )
        except OSError:
            return self._buffer  # uvloop will see the same
        if descriptors:
            self._refuse(descriptors)
        if data:
            self._keep(data)
        return self._buffer

    def buffer_updated(self, _count: int) -> None:
        """Add the byte that uvloop found after ours."""
        self._keep(bytes(self._buffer))

    def _keep(self, data: bytes) -> None:
        if not self._data:
            # Not here: uvloop is about to read into the buffer.
            self._stream.reactor.loop.call_soon(self._deliver)
        self._data += data

    def eof_received(self) -> Any:
        """Deliver what came before the end."""
        self._deliver()
        return self._stream.eof_received() if self._stream.connected else False

    def _deliver(self) -> None:
        stream, data, self._data = self._stream, self._data, b""
        if data and stream.connected:
            stream.take_over_reading(data)

    def _refuse(self, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        stream = self._stream
        # The words and the keys are Twisted's, for those who look for them in its logs.
        log.msg(
            format="%(protocolName)s (on %(hostAddress)r) does not "
            "provide IFileDescriptorReceiver; closing file "
            "descriptor received (from %(peerAddress)r).",
            hostAddress=stream.getHost(),
            peerAddress=stream.getPeer(),
            protocolName=stream.protocol_name,
        )


# Sending descriptors over UNIX sockets (IUNIXTransport.sendFileDescriptor).

_QUEUE = 64  # descriptors that wait before a producer is paused, as in Twisted


class DescriptorWriter:
    """Sends descriptors, each with the next byte written; meanwhile `write` comes here."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._descriptors: deque[int] = deque()
        self._data = b""
        self._watched: int | None = None  # a copy of the descriptor: uvloop watches the other

    @property
    def busy(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._descriptors or self._data)

    def send(self, descriptor: int) -> None:
        """Queue a descriptor."""
        stream = self._stream
        if not self.busy:
            stream.write = self._write
            stream.reactor.loop.call_soon(self._flush)
        self._descriptors.append(descriptor)
        if len(self._descriptors) > _QUEUE:
            stream.pause_writing()

    def _write(self, data: bytes) -> None:
        self._data += data

    def _flush(self) -> None:
        stream = self._stream
        if not stream.connected:
            return
        if stream.uv.get_write_buffer_size():
            self._wait()
            return
        if len(self._descriptors) > len(self._data):
            stream.drop(Failure(FileDescriptorOverrun()))
            return
        try:
            self._send_all()
        except BlockingIOError:
            self._wait()
        except OSError:
            stream.drop(LOST)
        else:
            self._end()

    def _send_all(self) -> None:
        handle = self._stream.getHandle()
        while self._descriptors:
            socket.send_fds(handle, [self._data[:1]], [self._descriptors[0]], socket.MSG_DONTWAIT)
            self._descriptors.popleft()
            self._data = self._data[1:]

    def _wait(self) -> None:
        self._watched = os.dup(self._stream.getHandle().fileno())
        self._stream.reactor.loop.add_writer(self._watched, self._writable)

    def _writable(self) -> None:
        self.close()
        self._flush()

    def _end(self) -> None:
        stream = self._stream
        rest, self._data = self._data, b""
        stream.write = stream.uv.write
        stream.write(rest)
        stream.relieve()
        stream.go_on_closing()

    def close(self) -> None:
        """Stop watching."""
        if self._watched is not None:
            self._stream.reactor.loop.remove_writer(self._watched)
            os.close(self._watched)
            self._watched = None
