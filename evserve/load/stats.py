"""Latencies in constant memory, to within 0.1 % of the exact value.

Log-linear buckets, as HdrHistogram has them: each power of two is cut into 1,024 equal parts. The
package on PyPI records in Python too, at several times the cost per value, and brings setuptools
to every installation; what a report needs of it is this page.
"""

import math

from attrs import define, field, frozen


PARTS = 1024  # per power of two, hence three significant digits
_LEAST = 1e-9  # seconds: zero has no logarithm


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
    """Counts values of 0 or more; a percentile is the upper end of the bucket it falls into."""

    maximum: float = field(default=0.0, init=False)
    total: float = field(default=0.0, init=False)
    _counts: dict[int, int] = field(factory=dict, init=False)

    def record(self, value: float) -> None:
        """Count `value`; this runs once per message, so it is a handful of operations."""
        part, power = math.frexp(value or _LEAST)
        bucket = power * PARTS + int(part * (2 * PARTS))
        counts = self._counts
        counts[bucket] = counts.get(bucket, 0) + 1
        self.total += value
        if value > self.maximum:  # noqa: PLR1730 - max() costs three times as much
            self.maximum = value

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self._counts.values())

    def percentile(self, percent: float) -> float:
        """Return the least value that `percent` of all values do not exceed; 0 without values."""
        left = math.ceil(self.count * percent / 100)
        for bucket in sorted(self._counts):
            left -= self._counts[bucket]
            if left <= 0:
                return min(_upper_end(bucket), self.maximum)
        return self.maximum

    def summary(self) -> Summary:
        """Return what a report shows."""
        count = self.count
        return Summary(
            count,
            self.total / count if count else 0.0,
            self.percentile(50),
            self.percentile(90),
            self.percentile(99),
            self.percentile(99.9),
            self.maximum,
        )


def _upper_end(bucket: int) -> float:
    # A bucket holds power * PARTS + n, with n from PARTS up to 2 * PARTS.
    power, n = divmod(bucket - PARTS, PARTS)
    return math.ldexp((n + PARTS + 1) / (2 * PARTS), power)
