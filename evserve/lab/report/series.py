"""The lines of a chart: a model's figures as points, with the gaps where there are none."""

from collections.abc import Callable, Sequence

from attrs import frozen

from evserve.lab.grid import MANY
from evserve.lab.report.units import duration, number, size
from evserve.lab.results import Cell, Figures, ModelResult, Outcome


@frozen
class Metric:
    """What a chart shows; `read` may give nothing above 0, which has no place on its axis."""

    key: str
    title: str
    better: str
    remark: str
    read: Callable[[Figures], float]
    write: Callable[[float], str]
    least: int = 1  # connections
    is_generators_too: bool = False  # whether a saturated generator falsifies it


def _rate(value: float) -> str:
    return f"{number(value)}/s"


METRICS = (
    Metric(
        "rate",
        "Throughput",
        "higher is better",
        "Messages answered per second, all connections together.",
        lambda figures: figures.messages_per_second,
        _rate,
        is_generators_too=True,
    ),
    Metric(
        "p50",
        "Latency, median",
        "lower is better",
        "Half of all messages were answered within this time.",
        lambda figures: figures.p50_seconds,
        duration,
        is_generators_too=True,
    ),
    Metric(
        "p99",
        "Latency, 99th percentile",
        "lower is better",
        "One message in a hundred took longer than this.",
        lambda figures: figures.p99_seconds,
        duration,
        is_generators_too=True,
    ),
    Metric(
        "cpu",
        "CPU per message",
        "lower is better",
        "CPU time of the server's processes, in user code and in the kernel, per message: "
        "comparable even where the generator was the limit.",
        lambda figures: figures.cpu_seconds_per_message,
        duration,
    ),
    Metric(
        "memory",
        "Memory per connection",
        "lower is better",
        "What the server's processes grew by, per connection, shared pages counted once; the "
        f"kernel's own memory is not in it. Shown from {MANY} connections on: with fewer it is "
        "what serving at all takes.",
        lambda figures: figures.memory_bytes_per_connection,
        size,
        least=MANY,
    ),
)


@frozen
class Point:
    """One figure; `is_hollow` if the generator was the limit."""

    connections: int
    value: float
    is_hollow: bool


@frozen
class Line:
    """A model's line: runs of points without a gap, and the cell at which it ended, if it did."""

    model: ModelResult
    pieces: tuple[tuple[Point, ...], ...]
    end: Cell | None

    @property
    def points(self) -> list[Point]:
        """All points."""
        return [point for piece in self.pieces for point in piece]


def line_of(model: ModelResult, metric: Metric) -> Line:
    """Return the line of a model, which may have no points."""
    pieces: list[list[Point]] = [[]]
    for cell in model.cells:
        point = _point(cell, metric)
        if point is not None:
            pieces[-1].append(point)
        elif pieces[-1]:
            pieces.append([])
    broke = model.broke
    end = broke if broke is not None and broke.outcome is Outcome.BROKE else None
    return Line(model, tuple(tuple(piece) for piece in pieces if piece), end)


def _point(cell: Cell, metric: Metric) -> Point | None:
    if cell.figures is None or cell.connections < metric.least:
        return None
    value = metric.read(cell.figures)
    if value <= 0:
        return None
    hollow = metric.is_generators_too and cell.figures.generator_saturated is not None
    return Point(cell.connections, value, hollow)


def lines_of(models: Sequence[ModelResult], metric: Metric) -> list[Line]:
    """Return the lines that have points."""
    return [line for model in models if (line := line_of(model, metric)).points]
