"""Echo over a stream, at once, in constant memory: the transport is its own producer.

When the client does not read, the write buffer fills, and the transport pauses the producer that
is registered on it, which is itself: it reads no more until the buffer has drained.
"""

from evserve.echo.change import ChangedStream
from evserve.echo.connection import Connections, EchoConnection
from evserve.echo.tls import direct_write


class Echo(EchoConnection):
    """Sends back what arrives, untouched."""

    def connectionMade(self) -> None:
        """Bind reading to writing: no code of ours stands between them."""
        self.start(self.transport)
        self.dataReceived = direct_write(self.transport)  # type: ignore[assignment,method-assign]  # on purpose


class ChangedEcho(EchoConnection):
    """Sends back what arrives, changed."""

    def __init__(self, connections: Connections, stream: ChangedStream) -> None:
        super().__init__(connections)
        self._stream = stream

    def connectionMade(self) -> None:
        """Register the transport as its own producer."""
        self.start(self.transport)
        self._write = direct_write(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Send `data` back, changed."""
        self._write(self._stream.feed(data))

    def end_stream(self) -> None:
        """End the last line, which may call for the suffix."""
        self._write(self._stream.end())
