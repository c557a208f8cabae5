"""Medians and ratios as text."""

from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.goals import ratio
from benchmarks.queue.measure import Result, middle


OWN: Final = "evserve"
"""The system with which the tables compare the others."""


def table(title: str, results: Mapping[str, Sequence[Result]], own: str = OWN) -> str:
    """Return the figures of a scenario; `x` is the system's figure as a multiple of `own`'s."""
    lines = [
        title,
        _row("", ("events/s", "x", "p50 us", "p99 us", "CPU client", "store", "sum", "x")),
    ]
    for name, each in results.items():
        result = middle(each)
        rate, cpu = (ratio(results, measure, name, own) for measure in ("rate", "cpu"))
        numbers = (result.p50, result.p99, result.client_cpu, result.store_cpu, result.cpu)
        shown = [f"{number:,.0f}" for number in numbers]
        lines.append(_row(name, (f"{result.rate:,.0f}", _short(rate), *shown, _short(cpu))))
    return "\n".join(lines)


def _row(name: str, cells: Sequence[str]) -> str:
    widths = (9, 6, 11, 11, 12, 8, 8, 7)
    pairs = zip(cells, widths, strict=True)
    return f"  {name:20}" + "".join(f"{cell:>{width}}" for cell, width in pairs)


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
