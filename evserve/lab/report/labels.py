"""Names at the ends of lines, moved apart so that none covers another."""

from collections.abc import Callable, Sequence

from attrs import evolve, frozen


_STEP = 3.0  # pixels between the heights that are tried
_CROSSING = 30.0  # pixels that a label goes out of its way rather than cover a line
_NOTHING = 1e-6  # by which numbers are wrong that were added up in another order


@frozen
class Label:
    """A name: its left edge, the height at which it would like its middle to be, and its size."""

    text: str
    x: float
    y: float
    width: float
    height: float

    def covers(self, other: "Label") -> bool:
        """Say whether both have a place in common."""
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and abs(self.y - other.y) < (self.height + other.height) / 2 - _NOTHING
        )


def stack(labels: Sequence[Label], top: float, bottom: float) -> list[Label]:
    """Move labels of one column apart, keeping their order, as little as possible in all.

    Those that want the same place share the way: each cluster stands around the middle of what
    its members wanted. If they do not fit between `top` and `bottom` they go on below.
    """
    order = sorted(range(len(labels)), key=lambda number: labels[number].y)
    clusters: list[list[int]] = []
    for number in order:
        clusters.append([number])
        while len(clusters) > 1 and _end(labels, clusters[-2], top, bottom) > _start(
            labels, clusters[-1], top, bottom
        ):
            last = clusters.pop()
            clusters[-1] += last
    moved = list(labels)
    for cluster in clusters:
        place = _start(labels, cluster, top, bottom)
        for number in cluster:
            height = labels[number].height
            moved[number] = evolve(labels[number], y=place + height / 2)
            place += height
    return moved


def _height(labels: Sequence[Label], cluster: list[int]) -> float:
    return sum(labels[number].height for number in cluster)


def _start(labels: Sequence[Label], cluster: list[int], top: float, bottom: float) -> float:
    """Return the upper edge of a cluster that is as near as can be to where its members want."""
    wanted, above = 0.0, 0.0
    for number in cluster:
        wanted += labels[number].y - above - labels[number].height / 2
        above += labels[number].height
    return max(top, min(wanted / len(cluster), bottom - above))


def _end(labels: Sequence[Label], cluster: list[int], top: float, bottom: float) -> float:
    return _start(labels, cluster, top, bottom) + _height(labels, cluster)


def place(
    labels: Sequence[Label],
    top: float,
    bottom: float,
    crossings: Callable[[Label], int],
) -> list[Label]:
    """Move labels so that none covers another: the rightmost column first, the others around it.

    Labels that start at the same place are a column. One that is not in the rightmost goes where
    it is near to the height it wants and covers few lines, as `crossings` counts them.
    """
    columns = sorted({label.x for label in labels}, reverse=True)
    placed: dict[int, Label] = {}
    for column in columns:
        numbers = [number for number, label in enumerate(labels) if label.x == column]
        if column == columns[0]:
            stacked = stack([labels[number] for number in numbers], top, bottom)
            placed.update(zip(numbers, stacked, strict=True))
            continue
        for number in sorted(numbers, key=lambda number: labels[number].y):
            taken = list(placed.values())
            placed[number] = _best(labels[number], taken, top, bottom, crossings)
    return [placed[number] for number in range(len(labels))]


def _best(
    label: Label,
    taken: Sequence[Label],
    top: float,
    bottom: float,
    crossings: Callable[[Label], int],
) -> Label:
    """Return the label at the height that costs least; where it wants to be if all are taken."""
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
        key=lambda moved: abs(moved.y - label.y) + _CROSSING * crossings(moved),
        default=label,
    )
