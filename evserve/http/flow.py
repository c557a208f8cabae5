"""A body on its way to its reader: decompressed, counted, and held back while the reader rests."""

from collections import deque
from collections.abc import Callable, Iterator

from evserve.http.decoding import ContentDecoder
from evserve.http.errors import BodyTooLarge


class BodyFlow:
    """Takes what the parser finds and gives pieces to `deliver`, none while paused.

    Pausing the connection cannot stop what was already read: up to one read's worth of it waits
    here, still compressed, which is what keeps a small bomb small.
    """

    def __init__(
        self,
        deliver: Callable[[bytes], None],
        decoder: ContentDecoder | None = None,
        limit: int | None = None,
    ) -> None:
        self._deliver = deliver
        self._decoder = decoder
        self._limit = limit
        self._count = 0
        self._paused = self._running = self._ended = False
        self._backlog: deque[bytes] = deque()
        self._pieces: Iterator[bytes] = iter(())
        self.done = False

    def take(self, data: bytes) -> None:
        """Take a part of the body as it came; raises FetchError if it is not to be had."""
        self._backlog.append(data)
        self._run()

    def end(self) -> None:
        """Note that nothing more will come; `done` says when all has been delivered."""
        self._ended = True
        self._run()

    def pause(self) -> None:
        """Deliver nothing until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Deliver what waits, and what comes; raises FetchError as `take` does."""
        self._paused = False
        self._run()

    def _run(self) -> None:
        if self._running:  # the reader resumes from within `deliver`
            return
        self._running = True
        try:
            while not self._paused and not self.done:
                if not self._step():
                    return
        finally:
            self._running = False

    def _step(self) -> bool:
        """Deliver one piece, or begin the next part; return whether there was one."""
        piece = next(self._pieces, None)
        if piece is not None:
            self._count += len(piece)
            if self._limit is not None and self._count > self._limit:
                raise BodyTooLarge(f"the body is longer than {self._limit} bytes")
            self._deliver(piece)
        elif self._backlog:
            data = self._backlog.popleft()
            self._pieces = self._decoder.feed(data) if self._decoder else iter((data,))
        else:
            self._finish()
            return False
        return True

    def _finish(self) -> None:
        if self._ended:
            if self._decoder is not None:
                self._decoder.finish()
            self.done = True
