"""Numbers with three digits and a unit, for the page and the terminal."""

_DURATIONS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_NUMBERS = ((1e6, "M"), (1e3, "k"), (1.0, ""))


def _scale(value: float, units: tuple[tuple[float, str], ...]) -> tuple[str, str]:
    # 0.9995 because 999.5 and more would be rounded to 1000 of the smaller unit.
    factor, unit = next((each for each in units if abs(value) >= each[0] * 0.9995), units[-1])
    return f"{value / factor:#.3g}".rstrip("0").rstrip(".") if value else "0", unit


def format_duration(seconds: float) -> str:
    """Return a duration such as "1.5 ms"."""
    return " ".join(_scale(seconds, _DURATIONS))


def format_size(count: float) -> str:
    """Return a number of bytes such as "1.5 kB"."""
    return " ".join(_scale(count, _SIZES))


def format_number(count: float) -> str:
    """Return a number such as "1.5k", without a blank because it is used where space is short."""
    return "".join(_scale(count, _NUMBERS))
