"""Echo with `--delay`: what arrives waits in a bounded line, and blocks nobody.

Here the delay line, not the transport, is the producer. Two things stop the flow: a client that
does not read holds the line back, and a full line stops reading. So a connection costs at most
the line's capacity, the transport's buffer and one read, and its throughput cannot exceed
CAPACITY bytes per delay.
"""

from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from evserve.echo.change import ChangedStream
from evserve.echo.connection import Connections, EchoConnection
from evserve.echo.delay import DelayLine
from evserve.echo.timer import TimedLine


CAPACITY = 256 * 1024  # bytes per connection


@implementer(IPushProducer)
class DelayedEcho(EchoConnection):
    """Sends back what arrives, changed, `delay` seconds later."""

    def __init__(
        self, connections: Connections, stream: ChangedStream, delay: float, clock: IReactorTime
    ) -> None:
        super().__init__(connections)
        self._stream = stream
        self._line = TimedLine(DelayLine[bytes](delay, CAPACITY), clock, self._send)
        self._is_closing = False

    @property
    def held(self) -> int:
        """How many bytes are waiting."""
        return self._line.line.held

    def connectionMade(self) -> None:
        """Register as the transport's producer."""
        self.start(self)

    def dataReceived(self, data: bytes) -> None:
        """Put `data` in line; while draining, read it only to throw it away.

        Closing a socket with unread bytes sends a reset, which can overtake what is owed.
        """
        if not self._is_closing:
            self._put(self._stream.feed(data))
            if self._line.line.full:
                self.transport.pauseProducing()

    def drain(self) -> None:
        """See IDrainable."""
        if not self._is_closing:
            self.transport.resumeProducing()
            self._end_stream()

    def readConnectionLost(self) -> None:
        """Send what is waiting when it is due, then close."""
        if not self._is_closing:
            self._end_stream()

    def pauseProducing(self) -> None:
        """Hold the line: the client does not read."""
        self._line.hold()

    def resumeProducing(self) -> None:
        """Let the line move: the client reads again."""
        self._line.release()

    def stopProducing(self) -> None:
        """Send nothing more: nobody is there."""
        self._line.hold()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave no timer behind."""
        self._line.hold()
        super().connectionLost(reason)

    def _put(self, data: bytes) -> None:
        if data:
            self._line.put(data, len(data))

    def _end_stream(self) -> None:
        self._is_closing = True
        self._put(self._stream.end())
        self._close_if_done()

    def _send(self, chunks: list[bytes]) -> None:
        self.transport.writeSequence(chunks)
        if self._is_closing:
            self._close_if_done()
        elif not self._line.line.full:
            self.transport.resumeProducing()

    def _close_if_done(self) -> None:
        if self._line.line.next_due is None:
            self.close()
