"""A chart: one line per model over the number of connections, as SVG with logarithmic axes."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby, pairwise

from attrs import frozen

from evserve.lab.models import FAMILIES
from evserve.lab.report.labels import Label, place_labels
from evserve.lab.report.markup import Markup, tag
from evserve.lab.report.units import format_duration, format_number, format_size
from evserve.lab.results import (
    MIN_CONNECTIONS_FOR_MEMORY,
    Figures,
    Measurement,
    ModelResult,
    Outcome,
    format_connections,
)


# Sizes in pixels.
_WIDTH, _HEIGHT = 1120, 540
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 204, 14, 48  # margins
_LETTER_WIDTH, _LABEL_HEIGHT = 6.9, 15.5
_MARKER_WIDTH = 12  # of the marker before a label's text
_LABEL_GAP = 10  # between the end of a line and its label
_TICK_WIDTH = 44  # of a number below the axis
_RADIUS = 3.6  # of a marker
_MARKERS = (
    "M-{r} 0a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z",
    "M-{r} -{r}h{d}v{d}h-{d}z",
    "M0 -{b}L{b} {r}L-{b} {r}z",
    "M0 -{b}L{b} 0L0 {b}L-{b} 0z",
    "M0 {b}L{b} -{r}L-{b} -{r}z",
)
_STEPS = (1, 2, 5)
_FEW_DECADES = 4.1  # up to this many, 2 and 5 are labelled too


@frozen
class Metric:
    """What a chart shows; values of 0 or less cannot be drawn on its axis.

    min_connections: the least number at which it is meaningful.  needs_generator: whether the
    values are wrong if the generator was the limit.
    """

    key: str
    title: str
    better: str
    remark: str
    read: Callable[[Figures], float]
    write: Callable[[float], str]
    min_connections: int = 1
    needs_generator: bool = False


METRICS = (
    Metric(
        "rate",
        "Throughput",
        "higher is better",
        "Messages answered per second, over all connections.",
        lambda figures: figures.messages_per_second,
        lambda value: f"{format_number(value)}/s",
        needs_generator=True,
    ),
    Metric(
        "p50",
        "Latency, median",
        "lower is better",
        "Half of all messages were answered within this time.",
        lambda figures: figures.p50_seconds,
        format_duration,
        needs_generator=True,
    ),
    Metric(
        "p99",
        "Latency, 99th percentile",
        "lower is better",
        "One message in a hundred took longer than this.",
        lambda figures: figures.p99_seconds,
        format_duration,
        needs_generator=True,
    ),
    Metric(
        "cpu",
        "CPU per message",
        "lower is better",
        "User and system CPU time of the server's processes per message. It can be compared even "
        "where the generator was the limit.",
        lambda figures: figures.cpu_seconds_per_message,
        format_duration,
    ),
    Metric(
        "memory",
        "Memory per connection",
        "lower is better",
        "Growth of the server's processes per connection, with shared pages counted once and "
        "without the kernel's own memory. Shown from "
        f"{MIN_CONNECTIONS_FOR_MEMORY} connections: with fewer it is mostly the memory that a "
        "server needs in any case.",
        lambda figures: figures.memory_bytes_per_connection,
        format_size,
        min_connections=MIN_CONNECTIONS_FOR_MEMORY,
    ),
)


@frozen
class Point:
    """One figure; `is_hollow` if the generator was the limit."""

    connections: int
    value: float
    is_hollow: bool


@frozen
class Series:
    """A model's line: segments without gaps, and the measurement at which the model broke."""

    model: ModelResult
    segments: tuple[tuple[Point, ...], ...]
    end: Measurement | None

    @property
    def points(self) -> list[Point]:
        """The points of all segments."""
        return [point for segment in self.segments for point in segment]


def make_series(model: ModelResult, metric: Metric) -> Series:
    """Return the series of a model, which may have no points."""
    points = [_point(cell, metric) for cell in model.cells]
    groups = (tuple(filter(None, group)) for _, group in groupby(points, key=bool))
    broke = model.broke
    end = broke if broke is not None and broke.outcome is Outcome.BROKE else None
    return Series(model, tuple(filter(None, groups)), end)


def _point(cell: Measurement, metric: Metric) -> Point | None:
    if cell.figures is None or cell.connections < metric.min_connections:
        return None
    value = metric.read(cell.figures)
    if value <= 0:
        return None
    is_hollow = metric.needs_generator and cell.figures.generator_saturated is not None
    return Point(cell.connections, value, is_hollow)


def series_with_points(models: Sequence[ModelResult], metric: Metric) -> list[Series]:
    """Return the series of the models that have points."""
    return [series for model in models if (series := make_series(model, metric)).points]


@frozen
class LogScale:
    """Maps `low` to `start` and `high` to `end`, which are positions in a picture."""

    low: float
    high: float
    start: float
    end: float

    def position(self, value: float) -> float:
        """Return the position of a value above 0."""
        span = math.log(self.high / self.low)
        share = math.log(value / self.low) / span if span else 0.5
        return self.start + share * (self.end - self.start)


def axis_bounds(values: Iterable[float]) -> tuple[float, float]:
    """Return the next 1, 2 or 5 times a power of ten below and above the positive `values`."""
    known = [value for value in values if value > 0]
    low = max(step for step in _round_values(min(known)) if step <= min(known) * (1 + 1e-9))
    high = min(step for step in _round_values(max(known)) if step >= max(known) * (1 - 1e-9))
    return (low, high) if low < high else (low / 2, high * 2)


def _round_values(value: float) -> list[float]:
    power = math.floor(math.log10(value))
    return [step * 10.0**each for each in range(power - 1, power + 3) for step in _STEPS]


def axis_ticks(low: float, high: float) -> tuple[list[float], list[float]]:
    """Return the labelled and the other ticks from `low` to `high`."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = _STEPS if math.log10(high / low) <= _FEW_DECADES else (1,)
    labelled: list[float] = []
    others: list[float] = []
    for power in range(first, last + 1):
        for digit in range(1, 10):
            value = digit * 10.0**power
            if low * (1 - 1e-9) <= value <= high * (1 + 1e-9):
                (labelled if digit in steps else others).append(value)
    return labelled, others


def choose_labelled(positions: Sequence[float], distance: float) -> list[bool]:
    """Say which of the increasing `positions` get a label, if labels need `distance` each.

    The last one always does, then as many before it as fit.
    """
    chosen: list[bool] = []
    taken = math.inf
    for position in reversed(positions):
        fits = taken - position >= distance
        chosen.append(fits)
        taken = position if fits else taken
    return chosen[::-1]


def _marker(model: ModelResult, own: Sequence[str]) -> str:
    """Return the outline of a model's marker around 0, 0; `own` are the user's programs."""
    members = next((each.members for each in FAMILIES if each.key == model.family), ())
    names = members or tuple(own)
    shape = _MARKERS[(names.index(model.name) if model.name in names else 0) % len(_MARKERS)]
    return shape.format(r=_RADIUS, d=2 * _RADIUS, b=round(_RADIUS * 1.35, 2))


@frozen
class Chart:
    """The chart of a metric, with at least one series."""

    metric: Metric
    series: Sequence[Series]
    counts: Sequence[int]
    x: LogScale
    y: LogScale

    @classmethod
    def of(cls, metric: Metric, series: Sequence[Series], counts: Sequence[int]) -> "Chart":
        """Return the chart of `series` over those `counts` for which the metric is shown."""
        shown = [count for count in sorted(counts) if count >= metric.min_connections]
        low, high = axis_bounds(point.value for each in series for point in each.points)
        x = LogScale(shown[0], shown[-1], _LEFT + 16.0, _WIDTH - _RIGHT - 16.0)
        return cls(metric, series, shown, x, LogScale(low, high, _HEIGHT - _BOTTOM, _TOP))

    def svg(self) -> Markup:
        """Return the chart as SVG."""
        key, write = self.metric.key, self.metric.write
        own = [each.model.name for each in self.series]
        wanted = [self._label(each) for each in self.series]
        labels = place_labels(wanted, _TOP, _HEIGHT - _BOTTOM, self._crossings)
        pairs = list(zip(self.series, labels, strict=True))
        # Labels among the lines are drawn last, so that no line crosses them.
        pairs.sort(key=lambda pair: -pair[1].x)
        # For screen readers.
        ends = "; ".join(
            f"{each.model.name} {write(last.value)} at {format_connections(last.connections)}"
            for each in self.series
            for last in each.points[-1:]
        )
        return tag(
            "svg",
            tag("title", f"{self.metric.title} by connections", id=f"{key}-title"),
            tag("desc", f"{self.metric.remark} {ends}.", id=f"{key}-about"),
            tag("g", *self._grid(), class_="grid"),
            *(self._draw(each, label, own) for each, label in pairs),
            viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
            role="img",
            aria_labelledby=f"{key}-title {key}-about",
            data_chart=key,
        )

    def _grid(self) -> list[Markup]:
        labelled, others = axis_ticks(self.y.low, self.y.high)
        found = [self._horizontal(value, "minor") for value in others]
        for value in labelled:
            y = self.y.position(value)
            found.append(self._horizontal(value, "major"))
            found.append(tag("text", self.metric.write(value), x=_LEFT - 10, y=y + 4, class_="y"))
        positions = [self.x.position(count) for count in self.counts]
        foot = _HEIGHT - _BOTTOM
        has_label = choose_labelled(positions, _TICK_WIDTH)
        for count, x, is_labelled in zip(self.counts, positions, has_label, strict=True):
            found.append(tag("line", x1=x, x2=x, y1=_TOP, y2=foot + 5, class_="minor"))
            if is_labelled:
                found.append(tag("text", format_number(count), x=x, y=foot + 20, class_="x"))
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        found.append(tag("text", "connections", x=middle, y=_HEIGHT - 8, class_="x axis"))
        return found

    def _horizontal(self, value: float, kind: str) -> Markup:
        y = self.y.position(value)
        return tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_=kind)

    def _label(self, series: Series) -> Label:
        text = series.model.name
        if series.end is not None:
            text += f" ✕ at {format_number(series.end.connections)}"
        x, y = self._position(series.points[-1])
        width = _MARKER_WIDTH + len(text) * _LETTER_WIDTH
        return Label(text, x + _LABEL_GAP, y, width, _LABEL_HEIGHT)

    def _crossings(self, label: Label) -> int:
        """Return how many lines a label would cover."""
        return sum(
            any(
                _crosses(label, self._position(one), self._position(other))
                for segment in series.segments
                for one, other in pairwise(segment)
            )
            for series in self.series
        )

    def _position(self, point: Point) -> tuple[float, float]:
        return self.x.position(point.connections), self.y.position(point.value)

    def _draw(self, series: Series, label: Label, own: Sequence[str]) -> Markup:
        model = series.model
        marker = _marker(model, own)
        end = self._position(series.points[-1])
        parts = []
        for segment in series.segments:
            positions = [self._position(point) for point in segment]
            parts += [_path(positions, "hit"), _path(positions, "stroke")]
        if abs(label.y - end[1]) > _LABEL_HEIGHT / 2:
            parts.append(_path([end, (label.x - 2, label.y)], "leader"))
        parts += [self._draw_point(model, point, marker) for point in series.points]
        if series.end is not None:
            parts.append(_shape("M-5 -5L5 5M5 -5L-5 5", end, "broke"))
        parts.append(_shape(marker, (label.x + 4, label.y), "key"))
        x = label.x + _MARKER_WIDTH
        parts.append(tag("text", label.text, x=x, y=label.y + 4, class_="name"))
        return tag(
            "a",
            *parts,
            class_=f"line {model.family}",
            href=f"#{model.name}",
            data_model=model.name,
        )

    def _draw_point(self, model: ModelResult, point: Point, marker: str) -> Markup:
        value = self.metric.write(point.value)
        title = f"{model.name}, {format_connections(point.connections)}: {value}"
        if point.is_hollow:
            title += " (the generator was the limit)"
        kind = "hollow" if point.is_hollow else "full"
        return _shape(marker, self._position(point), kind, title)


def _crosses(label: Label, a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether the line from `a` to `b`, which is to its right, goes through a label."""
    left, right = max(label.x, a[0]), min(label.x + label.width, b[0])
    if left >= right:
        return False
    slope = (b[1] - a[1]) / (b[0] - a[0])
    heights = [a[1] + (x - a[0]) * slope for x in (left, right)]
    half = label.height / 2
    return min(heights) < label.y + half and max(heights) > label.y - half


def _path(positions: Sequence[tuple[float, float]], kind: str) -> Markup:
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in positions)
    return tag("path", d=f"M{steps}", class_=kind)


def _shape(
    outline: str, position: tuple[float, float], kind: str, title: str | None = None
) -> Markup:
    x, y = position
    content = None if title is None else tag("title", title)
    return tag("path", content, d=outline, transform=f"translate({x:.1f} {y:.1f})", class_=kind)
