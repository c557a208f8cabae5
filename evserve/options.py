"""Parsers of option values: the fifth column of a `usage.Options` row.

    optParameters = [
        ["retries", None, 3, "Retries for transient failures", non_negative_integer],
        ["timeout", None, 30.0, "Seconds for a request", seconds],
        ["sync", None, "full", "Sync of commits: full or normal", choice("full", "normal")],
        ["keep", None, 0.0, "Time that the history is kept, such as 7d", duration],
    ]

Each raises ValueError with what was expected, which the host shows as one line. The annotated
result type says what a TOML table may hold for the option.
"""

import math
import re
from collections.abc import Callable
from typing import Final, NewType


MAX_PORT: Final = 65535
MAX_INTEGER: Final = 10**18 - 1  # fits in 64 bits, also after some arithmetic
MAX_TIMER_SECONDS: Final = 2_000_000  # epoll counts milliseconds in 32 bits


def integer_between(least: int, most: int = MAX_INTEGER) -> Callable[[str], int]:
    """Return a parser of decimal integers from `least` to `most`."""
    if most != MAX_INTEGER:
        bounds = f"from {least} to {most}" if least else f"up to {most}"
    else:
        bounds = f"above {least - 1}" if least else "(0 or more)"

    def parse(text: str) -> int:
        digits = re.fullmatch(r"0*(\d{1,18})", text, re.ASCII)
        if not (digits and least <= int(digits[1]) <= most):
            raise ValueError(f"not a whole number {bounds}")
        return int(digits[1])

    return parse


non_negative_integer = integer_between(0)
positive_integer = integer_between(1)


def port_number(text: str) -> int:
    """Return a TCP or UDP port; 0 lets the system choose."""
    if not (re.fullmatch(r"\d{1,5}", text, re.ASCII) and int(text) <= MAX_PORT):
        raise ValueError(f"not a port number (0 to {MAX_PORT})")
    return int(text)


def _decimal(text: str) -> float:
    """Return a number of 0 or more without exponent or underscores; NaN for anything else."""
    is_decimal = re.fullmatch(r"\d+(\.\d*)?|\.\d+", text, re.ASCII)
    value = float(text) if is_decimal else math.nan
    return value if math.isfinite(value) else math.nan  # hundreds of digits make an infinity


def seconds(text: str) -> float:
    """Return a duration in seconds, 0 or more."""
    value = _decimal(text)
    if math.isnan(value):
        raise ValueError("not a number of seconds (such as 2 or 0.5)")
    return value


def seconds_up_to(most: float, *, positive: bool = False) -> Callable[[str], float]:
    """Return a parser of durations of at most `most` seconds; `positive` refuses 0."""

    def parse(text: str) -> float:
        value = seconds(text)
        if positive and not value:
            raise ValueError("not a number of seconds above 0")
        if value > most:
            raise ValueError(f"more than {most} seconds")
        return value

    return parse


_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST: Final = 2**31 - 1  # seconds, 68 years; the queue's protocol counts no more


Duration = NewType("Duration", float)
"""Seconds that are written with a unit: a type of its own, so that TOML may hold them as text."""


def duration(text: str) -> Duration:
    """Return a duration in seconds: a number and a unit, such as 7d, 12h, 30m or 90s.

    A number alone is in seconds.
    """
    found = re.fullmatch(r"([\d.]+)([smhdw]?)", text, re.ASCII)
    value = _decimal(found[1]) * _UNITS[found[2]] if found else math.nan
    if math.isnan(value):
        raise ValueError("not a duration (such as 7d, 12h, 30m or 90s)")
    if value > _LONGEST:
        raise ValueError("longer than 68 years")
    return Duration(value)


def positive_number(text: str) -> float:
    """Return a decimal above 0, such as a rate."""
    value = _decimal(text)
    if not value > 0:  # NaN is not, either
        raise ValueError("not a number above 0")
    return value


def choice(*names: str) -> Callable[[str], str]:
    """Return a parser that accepts nothing but `names`."""
    expected = f"{', '.join(names[:-1])} or {names[-1]}"

    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"expected {expected}")
        return text

    return parse
