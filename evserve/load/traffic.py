"""What is in flight, what was answered and how long it took; and when messages are due.

The arithmetic of a run, without a reactor: `Traffic` counts, `Pace` is an open loop's schedule.
"""

import math
from collections.abc import Callable, Iterator

from attrs import define, field

from evserve.load.stats import Histogram


@define(eq=False)
class Traffic:
    """The messages of all connections; calls `settled` when nothing is left to wait for."""

    settled: Callable[[], None]
    left: int | None = field(default=0, init=False)  # may still be sent; None: as many as you like
    in_flight: int = field(default=0, init=False)
    answered: int = field(default=0, init=False)
    unanswered: int = field(default=0, init=False)  # lost with their connections
    latencies: Histogram = field(factory=Histogram, init=False)
    lags: Histogram = field(factory=Histogram, init=False)  # of an open loop's own clock

    def begin(self, count: int | None) -> None:
        """Count from now on: `count` answers, or as many as come, what is in flight included."""
        self.left = None if count is None else max(0, count - self.in_flight)
        self.answered = self.unanswered = 0
        self.latencies, self.lags = Histogram(), Histogram()

    def end(self) -> None:
        """Let nothing more be sent."""
        self.left = 0
        self._look()

    @property
    def is_settled(self) -> bool:
        """Whether nothing is in flight and nothing more may be sent."""
        return self.left == 0 and self.in_flight == 0

    def take(self, wanted: int) -> int:
        """Return how many of `wanted` messages may be sent now, and count them as sent."""
        if self.left is not None:
            wanted = min(wanted, self.left)
            self.left -= wanted
        self.in_flight += wanted
        return wanted

    def answer(self, count: int) -> None:
        """Count answers."""
        self.answered += count
        self.in_flight -= count
        self._look()

    def lose(self, count: int) -> None:
        """Count messages that nobody will answer."""
        self.unanswered += count
        self.in_flight -= count
        self._look()

    def _look(self) -> None:
        if self.is_settled:
            self.settled()


@define(eq=False)
class Pace:
    """When the messages of an open loop ought to start: evenly, whatever the server does."""

    _rate: float  # messages a second
    _started: float
    _sent: int = field(default=0, init=False)

    @property
    def next(self) -> float:
        """When the next message is due."""
        return self._started + self._sent / self._rate

    def due(self, now: float) -> Iterator[float]:
        """Yield the intended starts of the messages that are due and were not yet yielded."""
        last = math.floor((now - self._started) * self._rate)
        while self._sent <= last:
            intended = self.next
            self._sent += 1
            yield intended
