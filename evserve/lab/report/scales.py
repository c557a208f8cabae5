"""Logarithmic axes: where a value stands, and which values get a line and a name."""

import math
from collections.abc import Iterable, Sequence

from attrs import frozen


_STEPS = (1, 2, 5)
_FEW_DECADES = 4.1  # with fewer, 2 and 5 get a name too


@frozen
class LogScale:
    """Maps `low` to `start` and `high` to `end`, which are positions in a picture."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Return the position of a value above 0."""
        span = math.log(self.high / self.low)
        share = math.log(value / self.low) / span if span else 0.5
        return self.start + share * (self.end - self.start)


def bounds(values: Iterable[float]) -> tuple[float, float]:
    """Return the nearest 1, 2 or 5 times a power of ten below and above `values`, which differ."""
    known = [value for value in values if value > 0]
    low, high = _step_below(min(known)), _step_above(max(known))
    return (low, high) if low < high else (low / 2, high * 2)


def _candidates(value: float) -> list[float]:
    power = math.floor(math.log10(value))
    return [step * 10.0**each for each in range(power - 1, power + 3) for step in _STEPS]


def _step_below(value: float) -> float:
    return max(each for each in _candidates(value) if each <= value * (1 + 1e-9))


def _step_above(value: float) -> float:
    return min(each for each in _candidates(value) if each >= value * (1 - 1e-9))


def ticks(low: float, high: float) -> tuple[list[float], list[float]]:
    """Return the values from `low` to `high` that get a name, and those that only get a line."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = _STEPS if math.log10(high / low) <= _FEW_DECADES else (1,)
    every = [digit * 10.0**power for power in range(first, last + 1) for digit in range(1, 10)]
    inside = [each for each in every if low * (1 - 1e-9) <= each <= high * (1 + 1e-9)]
    named = [each for each in inside if _digit(each) in steps]
    return named, [each for each in inside if each not in named]


def _digit(value: float) -> int:
    digit: int = round(value / 10.0 ** math.floor(math.log10(value) + 1e-9))
    return digit


def spread(places: Sequence[float], least: float) -> list[bool]:
    """Say which of rising `places` can have a name if names need `least` between them.

    The last always can, then as many as fit before it.
    """
    chosen: list[bool] = []
    taken = math.inf
    for place in reversed(places):
        fits = taken - place >= least
        chosen.append(fits)
        taken = place if fits else taken
    return chosen[::-1]
