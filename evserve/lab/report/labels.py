"""The placement of labels at the ends of lines, so that none covers another."""

from collections.abc import Callable, Sequence

from attrs import evolve, frozen


_STEP = 3.0  # pixels between the heights that are tried
_CROSSING_COST = 30.0  # pixels that a label may move to avoid covering a line
_ROUNDING = 1e-6  # error of sums that were added in another order


@frozen
class Label:
    """A text with its left edge `x`, the wanted height `y` of its middle, and its size."""

    text: str
    x: float
    y: float
    width: float
    height: float

    def covers(self, other: "Label") -> bool:
        """Whether the two labels overlap."""
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and abs(self.y - other.y) < (self.height + other.height) / 2 - _ROUNDING
        )


def place_labels(
    labels: Sequence[Label], top: float, bottom: float, crossings: Callable[[Label], int]
) -> list[Label]:
    """Move labels so that none covers another: first the rightmost column, then the others.

    Labels with the same `x` are a column. A label outside the rightmost column moves to where it
    is close to its wanted height and covers few lines, as counted by `crossings`.
    """
    columns = sorted({label.x for label in labels}, reverse=True)
    placed: dict[int, Label] = {}
    for column in columns:
        numbers = [number for number, label in enumerate(labels) if label.x == column]
        if column == columns[0]:
            stacked = stack_labels([labels[number] for number in numbers], top, bottom)
            placed.update(zip(numbers, stacked, strict=True))
            continue
        for number in sorted(numbers, key=lambda number: labels[number].y):
            taken = list(placed.values())
            placed[number] = _best_place(labels[number], taken, top, bottom, crossings)
    return [placed[number] for number in range(len(labels))]


def stack_labels(labels: Sequence[Label], top: float, bottom: float) -> list[Label]:
    """Move the labels of one column apart as little as possible, keeping their order.

    Labels that collide form a cluster, which is centred on what its members want. If the labels do
    not fit between `top` and `bottom` they continue below.
    """
    clusters: list[list[int]] = []
    for number in sorted(range(len(labels)), key=lambda number: labels[number].y):
        clusters.append([number])
        while len(clusters) > 1:
            upper, lower = clusters[-2:]
            height = sum(labels[number].height for number in upper)
            upper_end = _cluster_top(labels, upper, top, bottom) + height
            if upper_end <= _cluster_top(labels, lower, top, bottom):
                break
            clusters[-2:] = [upper + lower]
    moved = list(labels)
    for cluster in clusters:
        y = _cluster_top(labels, cluster, top, bottom)
        for number in cluster:
            height = labels[number].height
            moved[number] = evolve(labels[number], y=y + height / 2)
            y += height
    return moved


def _cluster_top(labels: Sequence[Label], cluster: list[int], top: float, bottom: float) -> float:
    """Return the upper edge of a cluster that is as close as possible to what its members want."""
    wanted, above = 0.0, 0.0
    for number in cluster:
        wanted += labels[number].y - above - labels[number].height / 2
        above += labels[number].height
    return max(top, min(wanted / len(cluster), bottom - above))


def _best_place(
    label: Label,
    taken: Sequence[Label],
    top: float,
    bottom: float,
    crossings: Callable[[Label], int],
) -> Label:
    """Return the label at the height with the least cost; unmoved if there is no free height."""
    half = label.height / 2
    steps = range(int((bottom - top - label.height) / _STEP) + 1)
    heights = [label.y, *(top + half + step * _STEP for step in steps)]
    free = [
        moved
        for moved in (evolve(label, y=y) for y in heights)
        if not any(moved.covers(other) for other in taken)
    ]
    return min(
        free,
        key=lambda moved: abs(moved.y - label.y) + _CROSSING_COST * crossings(moved),
        default=label,
    )
