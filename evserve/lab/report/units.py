"""Numbers as a reader wants them: three digits and a unit."""

_DURATIONS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_AMOUNTS = ((1e6, "M"), (1e3, "k"), (1.0, ""))


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> tuple[str, str]:
    least, unit = next((each for each in steps if abs(value) >= each[0] * 0.9995), steps[-1])
    return f"{value / least:#.3g}".rstrip("0").rstrip(".") if value else "0", unit


def duration(seconds: float) -> str:
    """Return a duration such as 1.5 ms."""
    return " ".join(_scaled(seconds, _DURATIONS))


def size(count: float) -> str:
    """Return a number of bytes such as 1.5 kB."""
    return " ".join(_scaled(count, _SIZES))


def number(count: float) -> str:
    """Return an amount such as 1.5k; it stays readable where space is short."""
    return "".join(_scaled(count, _AMOUNTS))
