"""Medians, ratios and goals as text."""

from collections.abc import Mapping, Sequence
from statistics import median

from attrs import frozen

from benchmarks.goals import verdict
from benchmarks.http.job import Job, Outcome
from benchmarks.http.scenarios import GOALS, IDEAL, Scenario


_MIB = 1024 * 1024


@frozen
class Row:
    """What a client did in a scenario."""

    rate: float  # requests/s
    cpu: float  # ms per request
    seconds: float
    memory: float  # MiB
    failed: int

    @classmethod
    def of(cls, job: Job, outcome: Outcome) -> "Row":
        """Return the figures of one run."""
        return cls(
            job.requests / outcome.seconds,
            outcome.cpu / job.requests * 1000,
            outcome.seconds,
            outcome.memory / _MIB,
            outcome.failed,
        )

    @classmethod
    def middle(cls, rows: Sequence["Row"]) -> "Row":
        """Return the medians of several runs, the highest memory, and all failures."""
        rate, cpu, seconds = (
            median(getattr(row, name) for row in rows) for name in ("rate", "cpu", "seconds")
        )
        return cls(
            rate, cpu, seconds, max(row.memory for row in rows), sum(row.failed for row in rows)
        )


def table(scenario: Scenario, job: Job, runs: Mapping[str, Sequence[Row]]) -> str:
    """Return the figures of a scenario; `x` columns are multiples of evserve's."""
    rows = {name: Row.middle(each) for name, each in runs.items()}
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
    measured = dict(runs)
    if scenario.ideal is not None:
        measured[IDEAL] = [Row(scenario.ideal, 0, 0, 0, 0)] * max(map(len, runs.values()))
    lines += [
        verdict(goal, {scenario.name: measured})
        for goal in GOALS
        if goal.scenario == scenario.name
    ]
    return "\n".join(lines)
