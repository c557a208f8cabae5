"""What a run counts: messages in flight and answered, and their latencies in constant memory.

The histogram has log-linear buckets like HdrHistogram: each power of two is split into 1,024 equal
parts, which keeps values to within 0.1 %. The hdrhistogram package on PyPI is not used: it records
in Python as well, at several times the cost per value, and makes every installation depend on
setuptools.
"""

import math
from collections.abc import Callable

from attrs import define, field, frozen


_PARTS = 1024  # per power of two, for three significant digits
_LEAST = 1e-9  # seconds; zero has no logarithm


@frozen
class Summary:
    """The figures of a distribution, in seconds."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float


@define(eq=False)
class Histogram:
    """Counts values of 0 or more; a percentile is the upper end of its bucket."""

    maximum: float = field(default=0.0, init=False)
    total: float = field(default=0.0, init=False)
    _counts: dict[int, int] = field(factory=dict, init=False)

    def record(self, value: float) -> None:
        """Count `value`. This runs once per message, so it is only a few operations."""
        part, power = math.frexp(value or _LEAST)
        bucket = power * _PARTS + int(part * (2 * _PARTS))
        counts = self._counts
        counts[bucket] = counts.get(bucket, 0) + 1
        self.total += value
        if value > self.maximum:  # noqa: PLR1730 - max() costs three times as much
            self.maximum = value

    @property
    def count(self) -> int:
        """The number of recorded values."""
        return sum(self._counts.values())

    def percentile(self, percent: float) -> float:
        """Return the least value that `percent` of all values do not exceed; 0 without values."""
        left = math.ceil(self.count * percent / 100)
        for bucket in sorted(self._counts):
            left -= self._counts[bucket]
            if left <= 0:
                # A bucket is power * _PARTS + n, where n is from _PARTS up to 2 * _PARTS.
                power, n = divmod(bucket - _PARTS, _PARTS)
                upper_end = math.ldexp((n + _PARTS + 1) / (2 * _PARTS), power)
                return min(upper_end, self.maximum)
        return self.maximum

    def summary(self) -> Summary:
        """Return the figures that a report shows."""
        count = self.count
        mean = self.total / count if count else 0.0
        p50, p90, p99, p999 = map(self.percentile, (50, 90, 99, 99.9))
        return Summary(count, mean, p50, p90, p99, p999, self.maximum)


@define(eq=False)
class MessageStats:
    """The messages of all connections; calls `on_settled` when no answer is outstanding."""

    on_settled: Callable[[], None]
    left: int | None = field(default=0, init=False)  # messages still to send; None: no limit
    in_flight: int = field(default=0, init=False)
    answered: int = field(default=0, init=False)
    unanswered: int = field(default=0, init=False)  # lost with their connections
    latencies: Histogram = field(factory=Histogram, init=False)
    lags: Histogram = field(factory=Histogram, init=False)  # how late an open loop sent

    def restart(self, count: int | None) -> None:
        """Count from zero, up to `count` answers (None: no limit).

        Messages in flight are kept: their answers belong to the new count.
        """
        self.left = None if count is None else max(0, count - self.in_flight)
        self.answered = self.unanswered = 0
        self.latencies, self.lags = Histogram(), Histogram()

    def stop_sending(self) -> None:
        """Allow no more messages."""
        self.left = 0
        self._check_settled()

    @property
    def is_settled(self) -> bool:
        """Whether nothing is in flight and nothing more may be sent."""
        return self.left == 0 and self.in_flight == 0

    def take(self, wanted: int) -> int:
        """Return how many of `wanted` messages may be sent now; they count as in flight."""
        if self.left is not None:
            wanted = min(wanted, self.left)
            self.left -= wanted
        self.in_flight += wanted
        return wanted

    def add_answered(self, count: int) -> None:
        """Count answers."""
        self.answered += count
        self.in_flight -= count
        self._check_settled()

    def add_lost(self, count: int) -> None:
        """Count messages that will get no answer, because their connection is gone."""
        self.unanswered += count
        self.in_flight -= count
        self._check_settled()

    def _check_settled(self) -> None:
        if self.is_settled:
            self.on_settled()
