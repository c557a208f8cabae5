"""A chart: one line per model over the number of connections, drawn as SVG."""

from collections.abc import Sequence
from itertools import pairwise

from attrs import frozen

from evserve.lab.families import FAMILIES
from evserve.lab.report.labels import Label, place
from evserve.lab.report.markup import Markup, tag
from evserve.lab.report.scales import LogScale, bounds, spread, ticks
from evserve.lab.report.series import Line, Metric, Point
from evserve.lab.report.units import number
from evserve.lab.results import connections_of


WIDTH, HEIGHT = 1120, 540
LEFT, RIGHT, TOP, BOTTOM = 74, 204, 14, 48
_LETTER, _ROW = 6.9, 15.5  # of a label: pixels per letter, and per line
_MARK = 12  # pixels before a label's text, for its mark
_GAP = 10  # between a line's end and its label
_NAMED = 44  # pixels that a number below the axis takes
_R = 3.6  # of a point
_MARKS = (
    "M-{r} 0a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z",
    "M-{r} -{r}h{d}v{d}h-{d}z",
    "M0 -{b}L{b} {r}L-{b} {r}z",
    "M0 -{b}L{b} 0L0 {b}L-{b} 0z",
    "M0 {b}L{b} -{r}L-{b} -{r}z",
)


def mark_of(position: int) -> str:
    """Return the outline of the mark of the family's member at `position`, around 0, 0."""
    shape = _MARKS[position % len(_MARKS)]
    return shape.format(r=_R, d=2 * _R, b=round(_R * 1.35, 2))


def position_of(name: str, family: str, own: Sequence[str] = ()) -> int:
    """Return which member of its family a model is; `own` are the programs of the user."""
    members = next((each.members for each in FAMILIES if each.key == family), ())
    known = members or tuple(own)
    return known.index(name) if name in known else 0


@frozen
class Chart:
    """Where everything stands in the chart of a metric; there is at least one line."""

    metric: Metric
    lines: Sequence[Line]
    counts: Sequence[int]
    x: LogScale
    y: LogScale

    @classmethod
    def of(cls, metric: Metric, lines: Sequence[Line], counts: Sequence[int]) -> "Chart":
        """Return the chart of `lines`, over all `counts` that the metric is shown for."""
        shown = [count for count in sorted(counts) if count >= metric.least]
        low, high = bounds(point.value for line in lines for point in line.points)
        x = LogScale(shown[0], shown[-1], LEFT + 16.0, WIDTH - RIGHT - 16.0)
        return cls(metric, lines, shown, x, LogScale(low, high, HEIGHT - BOTTOM, TOP))

    def svg(self) -> Markup:
        """Return the picture."""
        own = [line.model.name for line in self.lines]
        wanted = [self._label(line) for line in self.lines]
        labels = place(wanted, TOP, HEIGHT - BOTTOM, self._crossings)
        pairs = list(zip(self.lines, labels, strict=True))
        # Names that stand among the lines come last, or lines would be drawn across them.
        pairs.sort(key=lambda pair: -pair[1].x)
        drawn = [self._line(line, label, own) for line, label in pairs]
        names = f"{self.metric.key}-title {self.metric.key}-about"
        return tag(
            "svg",
            tag("title", f"{self.metric.title} by connections", id=f"{self.metric.key}-title"),
            tag("desc", self._about(), id=f"{self.metric.key}-about"),
            tag("g", *self._grid(), class_="grid"),
            *drawn,
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            role="img",
            aria_labelledby=names,
            data_chart=self.metric.key,
        )

    def _about(self) -> str:
        """Say in words what the lines' ends are, for whoever does not see them."""
        write = self.metric.write
        ends = (
            f"{line.model.name} {write(line.points[-1].value)} at "
            f"{connections_of(line.points[-1].connections)}"
            for line in self.lines
        )
        return f"{self.metric.remark} {'; '.join(ends)}."

    def _grid(self) -> list[Markup]:
        named, others = ticks(self.y.low, self.y.high)
        found = [self._rule(value, "minor") for value in others]
        for value in named:
            y = self.y.place(value)
            found.append(self._rule(value, "major"))
            found.append(tag("text", self.metric.write(value), x=LEFT - 10, y=y + 4, class_="y"))
        places = [self.x.place(count) for count in self.counts]
        for count, x, has_name in zip(self.counts, places, spread(places, _NAMED), strict=True):
            foot = HEIGHT - BOTTOM
            found.append(tag("line", x1=x, x2=x, y1=TOP, y2=foot + 5, class_="minor"))
            if has_name:
                found.append(tag("text", number(count), x=x, y=foot + 20, class_="x"))
        middle = (LEFT + WIDTH - RIGHT) / 2
        found.append(tag("text", "connections", x=middle, y=HEIGHT - 8, class_="x axis"))
        return found

    def _rule(self, value: float, kind: str) -> Markup:
        y = self.y.place(value)
        return tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_=kind)

    def _label(self, line: Line) -> Label:
        last = line.points[-1]
        text = line.model.name
        if line.end is not None:
            text += f" ✕ at {number(line.end.connections)}"
        x = self.x.place(last.connections) + _GAP
        width = _MARK + len(text) * _LETTER
        return Label(text, x, self.y.place(last.value), width, _ROW)

    def _crossings(self, label: Label) -> int:
        """Return how many lines a label would cover."""
        return sum(
            any(_meets(label, a, b) for piece in line.pieces for a, b in pairwise(self._at(piece)))
            for line in self.lines
        )

    def _at(self, piece: Sequence[Point]) -> list[tuple[float, float]]:
        return [(self.x.place(point.connections), self.y.place(point.value)) for point in piece]

    def _line(self, line: Line, label: Label, own: Sequence[str]) -> Markup:
        model = line.model
        mark = mark_of(position_of(model.name, model.family, own))
        last = line.points[-1]
        end = (self.x.place(last.connections), self.y.place(last.value))
        parts = [self._path(piece) for piece in line.pieces]
        if abs(label.y - end[1]) > _ROW / 2:
            parts.append(_path([end, (label.x - 2, label.y)], "leader"))
        parts += [self._point(line, point, mark) for point in line.points]
        if line.end is not None:
            parts.append(_path_at("M-5 -5L5 5M5 -5L-5 5", end, "broke"))
        parts.append(_path_at(mark, (label.x + 4, label.y), "key"))
        parts.append(tag("text", label.text, x=label.x + _MARK, y=label.y + 4, class_="name"))
        return tag(
            "a",
            *parts,
            class_=f"line {model.family}",
            href=f"#{model.name}",
            data_model=model.name,
        )

    def _path(self, piece: Sequence[Point]) -> Markup:
        places = self._at(piece)
        return Markup(_path(places, "hit") + _path(places, "stroke"))

    def _point(self, line: Line, point: Point, mark: str) -> Markup:
        place = (self.x.place(point.connections), self.y.place(point.value))
        told = (
            f"{line.model.name}, {connections_of(point.connections)}: "
            f"{self.metric.write(point.value)}"
        )
        if point.is_hollow:
            told += " (the generator was the limit)"
        return _path_at(mark, place, "hollow" if point.is_hollow else "full", told)


def _meets(label: Label, a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Say whether the line from `a` to `b`, which lies to its right, goes through a label."""
    left, right = max(label.x, a[0]), min(label.x + label.width, b[0])
    if left >= right:
        return False
    slope = (b[1] - a[1]) / (b[0] - a[0])
    heights = [a[1] + (x - a[0]) * slope for x in (left, right)]
    half = label.height / 2
    return min(heights) < label.y + half and max(heights) > label.y - half


def _path(places: Sequence[tuple[float, float]], kind: str) -> Markup:
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return tag("path", d=f"M{steps}", class_=kind)


def _path_at(outline: str, at: tuple[float, float], kind: str, told: str | None = None) -> Markup:
    inside = None if told is None else tag("title", told)
    return tag(
        "path", inside, d=outline, transform=f"translate({at[0]:.1f} {at[1]:.1f})", class_=kind
    )
