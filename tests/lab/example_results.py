"""Made-up results for tests."""

from attrs import evolve

from evserve.lab.models import FAMILIES
from evserve.lab.results import (
    Claim,
    Figures,
    Machine,
    Measurement,
    ModelResult,
    Outcome,
    Result,
    Settings,
    Verdict,
)


COUNTS = (1, 10, 100, 1_000, 3_000, 10_000)
FIGURES = Figures(
    seconds=1.0,
    connect_seconds=0.1,
    messages=10_000,
    messages_per_second=10_000.0,
    p50_seconds=0.001,
    p99_seconds=0.005,
    max_seconds=0.01,
    cpu_seconds=0.5,
    cpu_seconds_per_message=0.00005,
    memory_before_bytes=10_000_000,
    memory_bytes=12_000_000,
    memory_bytes_per_connection=2_000.0,
    processes=1,
    generator_busy_share=0.5,
    generator_saturated=None,
)


def measurement(connections, outcome=Outcome.MEASURED, why=None, **figures):
    """Return a measurement, with figures if the outcome is MEASURED."""
    found = evolve(FIGURES, **figures) if outcome is Outcome.MEASURED else None
    return Measurement(connections, min(connections, 10), outcome, why, found)


def model(name="epoll_level", cells=None, family="told", text="About it.\n\nIt `reads`."):
    if cells is None:
        cells = tuple(measurement(count) for count in COUNTS)
    return ModelResult(name, family, f"{name}.py", text.partition("\n")[0], text, tuple(cells))


def breaks(name, family, at, why="it had enough"):
    """Return a model that broke at `at` connections."""
    cells = [measurement(count) for count in COUNTS if count < at]
    cells.append(measurement(at, Outcome.BROKE, why))
    over = [count for count in COUNTS if count > at]
    cells += [
        measurement(count, Outcome.SKIPPED, f"it broke at {at} connections") for count in over
    ]
    return model(name, cells, family)


def all_models():
    """Return twenty models whose figures lie close together."""
    found = []
    for family in FAMILIES:
        for name in family.members:
            factor = 1 + len(found) / 40
            cells = [
                measurement(
                    count,
                    messages_per_second=40_000 / factor,
                    p50_seconds=0.0002 * factor,
                    p99_seconds=0.001 * factor * (1 + count / 5_000),
                    cpu_seconds_per_message=0.000005 * factor,
                    memory_bytes_per_connection=500 * factor,
                )
                for count in COUNTS
            ]
            found.append(model(name, cells, family.key))
    return found


def result(models=None, claims=(), **changes):
    settings = Settings(COUNTS, 10, 64, 1, 0.8, 0.15, 8.0)
    machine = Machine(
        "A CPU", 2, 8_000_000_000, "Linux 6", "CPython 3", "EPollReactor", {"x": "1"}, 20_000, 0.5
    )
    found = Result(
        started="2026-01-01T00:00:00+00:00",
        seconds=12.0,
        command="twistd -n evserve lab",
        partial=None,
        notes=(),
        settings=settings,
        machine=machine,
        models=tuple([model()] if models is None else models),
        claims=tuple(claims),
    )
    return evolve(found, **changes)


CLAIM = Claim("threads", "threads cost memory", Verdict.HOLDS, "They do.", {"bytes": 5.0})
