"""The ways in which this side ends a connection, or half of it."""

import contextlib
import socket
import struct
from typing import Any

from twisted.internet import error
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure

from evserve.reactor.reading import Reading


# Not twisted.internet.main's, whose text nobody hears on Twisted's reactors.
DONE, LOST = Failure(error.ConnectionDone()), Failure(error.ConnectionLost())
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Closing(Reading):
    """`loseConnection`, `loseWriteConnection` and `abortConnection`."""

    _write_ended = False
    _aborting = False
    _reason: Failure | None = None  # for connectionLost, if uvloop can't know it

    def loseConnection(self) -> None:
        """See ITransport."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self.uv.pause_reading()
            # In the next turn, as Twisted's: what is written until then is still sent.
            self.go_on_closing()

    def loseWriteConnection(self) -> None:
        """See ITCPTransport."""
        if self.connected and not self._writing_ends:
            self._writing_ends = True
            self.set_limit(0)
            self.go_on_closing()

    def go_on_closing(self) -> None:
        """Close what is to be closed, unless something is still to be sent."""
        if self.disconnecting:
            self.reactor.loop.call_soon(self._close)
        elif self._writing_ends and not self._write_ended:
            self.reactor.loop.call_soon(self._end_writing)

    def _close(self) -> None:
        if self.connected and not self.is_busy:
            self.uv.close()

    def _end_writing(self) -> None:
        if not self.connected or self._write_ended or self.choked or self.is_busy:
            return
        self._write_ended = True
        self.__dict__.pop("write", None)
        self.uv.write_eof()
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is not None:
            try:
                half.writeConnectionLost()
            except Exception:
                self.fail(Failure())

    def abortConnection(self) -> None:
        """See ITCPTransport."""
        if self.disconnected or self._aborting or self.uv is None:
            return
        self._aborting = True
        with contextlib.suppress(OSError):
            handle: Any = self.uv.get_extra_info("socket")
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.drop(Failure(error.ConnectionAborted()))

    def drop(self, reason: Failure) -> None:
        """Close now; what is not sent is lost."""
        if self._reason is None:
            self._reason = reason
        self.uv.abort()
