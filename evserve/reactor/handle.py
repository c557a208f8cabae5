"""The socket of a native transport, for those who ask for options, addresses or the number.

It shares the descriptor with uvloop, which closes it.
"""

import socket
from typing import Any


class Handle(socket.socket):
    """What `getHandle()` returns; closing it ends the stream without a word to its protocol."""

    _stream: Any

    @classmethod
    def of(cls, stream: Any, family: int, number: int) -> "Handle":
        """Return a handle on the descriptor `number` of `stream`."""
        handle = cls(family, socket.SOCK_STREAM, 0, number)
        handle._stream = stream
        return handle

    def close(self) -> None:
        """Abandon the connection: whoever took a copy of the descriptor goes on with it."""
        if self.fileno() != -1:
            self.detach()
            self._stream.abandon()
