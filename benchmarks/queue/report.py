"""Medians, ratios and goals as text."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Final

from attrs import frozen

from benchmarks.queue.measure import Result, middle


OWN: Final = "evserve"
"""The system with which the tables compare the others."""

Results = Mapping[str, Sequence[Result]]
"""By the names of systems; those of one round stand at one index."""

Measured = Mapping[str, Sequence[object]]
"""The same with results of any class that has the attributes asked for."""


@frozen
class Goal:
    """What a ratio of two systems' medians should be in a scenario.

    measure: an attribute of Result.  Either limit may be missing.
    """

    scenario: str
    measure: str
    own: str
    other: str
    at_least: float | None = None
    at_most: float | None = None


def ratio(results: Measured, measure: str, own: str, other: str) -> float | None:
    """Return the median of the rounds' ratios, None if one of the two was not measured."""
    get: Callable[[object], float] = lambda result: float(getattr(result, measure))  # noqa: E731
    pairs = list(zip(results.get(own, ()), results.get(other, ()), strict=False))
    return median(get(mine) / max(get(its), 1e-9) for mine, its in pairs) if pairs else None


def table(title: str, results: Results, own: str = OWN) -> str:
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


def verdict(goal: Goal, scenarios: Mapping[str, Measured]) -> str:
    """Return a line that says whether a goal is met."""
    wanted = f">= {goal.at_least}" if goal.at_least is not None else f"<= {goal.at_most}"
    what = f"{goal.scenario}: {goal.measure} of {goal.own} {wanted} x {goal.other}"
    found = ratio(scenarios.get(goal.scenario, {}), goal.measure, goal.own, goal.other)
    if found is None:
        return f"{what}: not measured"
    low, high = goal.at_least or 0.0, goal.at_most or float("inf")
    return f"{what}: {found:.2f} {'met' if low <= found <= high else 'MISSED'}"


def _row(name: str, cells: Sequence[str]) -> str:
    widths = (9, 6, 11, 11, 12, 8, 8, 7)
    pairs = zip(cells, widths, strict=True)
    return f"  {name:20}" + "".join(f"{cell:>{width}}" for cell, width in pairs)


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
