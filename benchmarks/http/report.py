"""Medians, ratios and goals as text."""

from statistics import median

from attrs import frozen

from benchmarks.http.job import Job, Outcome
from benchmarks.http.scenarios import Goal, Scenario


_MIB = 1024 * 1024


@frozen
class Row:
    """The medians of a client in a scenario."""

    rate: float  # requests/s
    cpu: float  # ms per request
    seconds: float
    memory: float  # MiB
    failed: int

    @classmethod
    def of(cls, job: Job, outcomes: list[Outcome]) -> "Row":
        """Return the medians of several runs, the highest memory, and all failures."""
        seconds = median(outcome.seconds for outcome in outcomes)
        return cls(
            job.requests / seconds,
            median(outcome.cpu for outcome in outcomes) / job.requests * 1000,
            seconds,
            max(outcome.memory for outcome in outcomes) / _MIB,
            sum(outcome.failed for outcome in outcomes),
        )


def table(scenario: Scenario, job: Job, rows: dict[str, Row]) -> str:
    """Return the figures of a scenario; `x` columns are multiples of evserve's."""
    own = rows.get("evserve")
    lines = [
        f"{scenario.name}: {job.requests:,} requests, {job.connections} connections",
        f"  {'':15}{'requests/s':>11}{'x':>6}{'CPU ms/req':>12}{'x':>6}{'seconds':>9}{'MiB':>7}",
    ]
    for name, row in rows.items():
        rate = f"{row.rate / own.rate:.2f}" if own else ""
        cpu = f"{row.cpu / own.cpu:.2f}" if own else ""
        failed = f"  {row.failed} FAILED" if row.failed else ""
        lines.append(
            f"  {name:15}{row.rate:11,.0f}{rate:>6}{row.cpu:12.4f}{cpu:>6}"
            f"{row.seconds:9.3f}{row.memory:7.0f}{failed}"
        )
    lines += [verdict(goal, scenario, rows) for goal in scenario.goals]
    return "\n".join(lines)


def verdict(goal: Goal, scenario: Scenario, rows: dict[str, Row]) -> str:
    """Return a line that says whether a goal is met."""
    own = rows.get("evserve")
    other = scenario.ideal if goal.other == "ideal" else _value(rows.get(goal.other), goal.measure)
    mine = _value(own, goal.measure)
    if mine is None or other is None:
        return f"  goal: {goal.measure} against {goal.other}: not measured"
    ratio = mine / other
    low, high = goal.at_least or 0.0, goal.at_most or float("inf")
    wanted = f">= {goal.at_least}" if goal.at_least is not None else f"<= {goal.at_most}"
    word = "met" if low <= ratio <= high else "MISSED"
    return f"  goal: {goal.measure} {wanted} x {goal.other}: {ratio:.2f} {word}"


def _value(row: Row | None, measure: str) -> float | None:
    return None if row is None else float(getattr(row, measure))
