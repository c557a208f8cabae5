"""Sending descriptors over UNIX sockets (IUNIXTransport.sendFileDescriptor)."""

import os
import socket
from collections import deque
from typing import Any

from twisted.internet.error import FileDescriptorOverrun
from twisted.python.failure import Failure

from evserve.reactor.closing import LOST


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
