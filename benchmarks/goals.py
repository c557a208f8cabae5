"""Ratios of systems that took turns in rounds, and what they should be."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from attrs import frozen


Results = Mapping[str, Sequence[object]]
"""By the names of systems; those of one round stand at one index. Attributes are figures."""


@frozen
class Goal:
    """What a ratio of two systems' figures should be in a scenario.

    measure: an attribute of the results.  Either limit may be missing.
    """

    scenario: str
    measure: str
    own: str
    other: str
    at_least: float | None = None
    at_most: float | None = None


def ratio(results: Results, measure: str, own: str, other: str) -> float | None:
    """Return the median of the rounds' ratios, None if one of the two was not measured."""
    get: Callable[[object], float] = lambda result: float(getattr(result, measure))  # noqa: E731
    pairs = list(zip(results.get(own, ()), results.get(other, ()), strict=False))
    return median(get(mine) / max(get(its), 1e-9) for mine, its in pairs) if pairs else None


def verdict(goal: Goal, scenarios: Mapping[str, Results]) -> str:
    """Return a line that says whether a goal is met."""
    wanted = f">= {goal.at_least}" if goal.at_least is not None else f"<= {goal.at_most}"
    what = f"{goal.scenario}: {goal.measure} of {goal.own} {wanted} x {goal.other}"
    found = ratio(scenarios.get(goal.scenario, {}), goal.measure, goal.own, goal.other)
    if found is None:
        return f"{what}: not measured"
    low, high = goal.at_least or 0.0, goal.at_most or float("inf")
    return f"{what}: {found:.2f} {'met' if low <= found <= high else 'MISSED'}"
