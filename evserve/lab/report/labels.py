"""Names at the ends of lines, moved apart so that none covers another."""

from collections.abc import Sequence

from attrs import evolve, frozen


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


def place(labels: Sequence[Label], top: float, bottom: float) -> list[Label]:
    """Move labels so that none covers another: the rightmost column first, the others around it.

    Labels that start at the same place are a column. Whoever is not in the rightmost goes to the
    free height nearest to the one it wants.
    """
    columns = sorted({label.x for label in labels}, reverse=True)
    placed: dict[int, Label] = {}
    for column in columns:
        numbers = [number for number, label in enumerate(labels) if label.x == column]
        for number, label in zip(
            numbers, stack([labels[number] for number in numbers], top, bottom), strict=True
        ):
            placed[number] = _nearest_free(label, list(placed.values()), top, bottom)
    return [placed[number] for number in range(len(labels))]


def _nearest_free(label: Label, taken: Sequence[Label], top: float, bottom: float) -> Label:
    wanted = [label.y]
    for other in taken:
        apart = (label.height + other.height) / 2
        wanted += [other.y - apart, other.y + apart]
    half = label.height / 2
    inside = [y for y in wanted if top + half - _NOTHING <= y <= bottom - half + _NOTHING]
    for y in sorted(inside, key=lambda y: abs(y - label.y)):
        moved = evolve(label, y=y)
        if not any(moved.covers(other) for other in taken):
            return moved
    return label
