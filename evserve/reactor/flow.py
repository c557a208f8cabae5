"""Back-pressure: uvloop's pause_writing and resume_writing, as Twisted's producers know them.

uvloop writes at once and buffers what the kernel does not take. It calls `pause_writing` when more
than the limit is buffered and `resume_writing` when that is gone, which is what a push producer
wants. A pull producer wants to be asked again after each write as well, so while there is one
`write` is not uvloop's own.
"""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.abstract import _dataMustBeBytes
from twisted.python.failure import Failure


FULL = 65536  # bytes: Twisted's FileDescriptor.bufferSize, and uvloop's own limit
_EMPTY = 16  # bytes: uvloop's own lower limit


class Flow:
    """The IConsumer part of a stream."""

    connected = False
    disconnecting = False
    disconnected = False
    producer: Any = None
    streamingProducer = False
    producerPaused = False
    reactor: Any
    write: Callable[[bytes], None]
    uv: Any = None  # uvloop's transport
    _full = FULL
    choked = False  # between pause_writing and resume_writing
    _pull_is_due = False
    _writing_ends = False  # loseWriteConnection was called

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See IConsumer."""
        if self.producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer}, because producer {self.producer} was never "
                "unregistered."
            )
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer, self.streamingProducer, self.producerPaused = producer, streaming, False
        if not streaming:
            self._start_pulling()
        elif self.choked:
            # uvloop has said so before there was somebody to tell.
            self.reactor.loop.call_soon(self._pause_if_choked)

    def unregisterProducer(self) -> None:
        """See IConsumer."""
        if self.write == self._write_and_pull:
            self.write = self.uv.write
            self.set_limit(self._full)
        self.producer = None
        self.go_on_closing()

    def stopConsuming(self) -> None:
        """See IConsumer's implementers: the producer has lost its own connection."""
        self.unregisterProducer()
        self.loseConnection()

    def loseConnection(self) -> None:
        """See ITransport."""
        raise NotImplementedError

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """See ITransport."""
        chunks = list(data)
        for chunk in chunks:
            _dataMustBeBytes(chunk)
        joined = b"".join(chunks)
        self.write(joined)
        if len(joined) > self._full and self.streamingProducer and not self.choked:
            # The kernel took it all; but that much is to be announced, or nobody ever pauses.
            self.pause_writing()
            self.reactor.loop.call_soon(self.relieve)

    def pause_writing(self) -> None:
        """Hear from uvloop that more than the limit is buffered."""
        self.choked = True
        self._pause_if_choked()

    def resume_writing(self) -> None:
        """Hear from uvloop that what was buffered has been sent."""
        self.choked = False
        if self.producer is not None and (not self.streamingProducer or self.producerPaused):
            self.producerPaused = False
            self._resume_producer()
        self.go_on_closing()

    def relieve(self) -> None:
        """Take back a `pause_writing` of our own, unless uvloop would have called it by now."""
        if self.connected and self.uv.get_write_buffer_size() <= self._full:
            self.resume_writing()

    def _pause_if_choked(self) -> None:
        if self.choked and self.streamingProducer and self.producer is not None:
            self.producerPaused = True
            self.producer.pauseProducing()

    def _resume_producer(self) -> None:
        try:
            self.producer.resumeProducing()
        except Exception:
            self.fail(Failure())

    def _start_pulling(self) -> None:
        if self.connected:
            self.set_limit(0)
            self.write = self._write_and_pull
            # Something may have been written in this turn, and be sent already.
            self._pull_soon()
        self.producer.resumeProducing()

    def _write_and_pull(self, data: bytes) -> None:
        self.uv.write(data)
        if data:
            self._pull_soon()

    def _pull_soon(self) -> None:
        if not (self.choked or self._pull_is_due):
            self._pull_is_due = True
            self.reactor.loop.call_soon(self._pull)

    def _pull(self) -> None:
        self._pull_is_due = False
        if self.producer is not None and not self.choked:
            self._resume_producer()

    @property
    def bufferSize(self) -> int:
        """How many bytes may be buffered before a producer is paused."""
        return self._full

    @bufferSize.setter
    def bufferSize(self, size: int) -> None:
        self._full = size
        self.set_limit(size)

    def set_limit(self, high: int) -> None:
        """Have uvloop call `pause_writing` above `high` bytes."""
        self.uv.set_write_buffer_limits(high, min(high, _EMPTY))

    @property
    def is_busy(self) -> bool:
        """Whether a producer is to be heard before the stream closes."""
        return self.producer is not None and (not self.streamingProducer or self.producerPaused)

    def go_on_closing(self) -> None:
        """Close what is to be closed, unless something is still to be sent."""
        raise NotImplementedError

    def fail(self, why: Failure) -> None:
        """Log what the protocol raised, and end the connection with it."""
        raise NotImplementedError
