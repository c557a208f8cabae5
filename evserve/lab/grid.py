"""Which model is measured at how many connections, in what order, and when not at all.

All models take their turn at one number of connections before the next number: neighbours in the
charts are neighbours in time, and a run that is cut short has whole columns.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import define, field

from evserve.lab.models import Model
from evserve.lab.results import Cell, ModelResult, Outcome, connections_of
from evserve.lab.settings import Measure


_HEADROOM = 1.5  # the kernel needs memory too, for stacks, page tables and sockets


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return how many bytes can be had without swapping; None if nobody tells."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    sizes = (int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    kilobytes = next(sizes, None)
    return None if kilobytes is None else kilobytes * 1024


@define(eq=False)
class Grid:
    """The cells of a run, those that are known and those to come."""

    models: Sequence[Model]
    measure: Measure
    _cells: dict[tuple[str, int], Cell] = field(factory=dict, init=False)

    def __iter__(self) -> Iterator[tuple[Model, int]]:
        """Yield models and numbers of connections in the order in which they are measured."""
        for count in sorted(self.measure.counts):
            for model in self.models:
                yield model, count

    def __len__(self) -> int:
        return len(self.models) * len(self.measure.counts)

    def put(self, model: Model, cell: Cell) -> None:
        """Note what became of a cell."""
        self._cells[model.name, cell.connections] = cell

    def without_measuring(self, model: Model, connections: int, memory: int | None) -> Cell | None:
        """Return the cell that need not or must not be measured, else None.

        memory: how many bytes the machine has left.
        """
        before = self._before(model, connections)
        if not before:
            return None
        last = before[-1]
        active = self.measure.active(connections)
        if last.outcome is Outcome.UNAVAILABLE:
            return Cell(connections, active, Outcome.UNAVAILABLE, last.why)
        if last.outcome is Outcome.BROKE:
            why = f"it broke at {connections_of(last.connections)}"
            return Cell(connections, active, Outcome.SKIPPED, why)
        if last.outcome is Outcome.SKIPPED:
            return Cell(connections, active, Outcome.SKIPPED, last.why)
        needed = _needed(last, connections)
        if memory is not None and needed > memory:
            why = f"it would need about {needed / 1e9:,.0f} GB of memory, and {memory / 1e9:,.0f}"
            return Cell(connections, active, Outcome.SKIPPED, f"{why} GB are left")
        return None

    def _before(self, model: Model, connections: int) -> list[Cell]:
        """Return the model's cells with fewer connections."""
        return [
            self._cells[model.name, count]
            for count in sorted(self.measure.counts)
            if count < connections and (model.name, count) in self._cells
        ]

    def results(self) -> tuple[ModelResult, ...]:
        """Return all models with all cells; those not reached were not run."""
        return tuple(
            ModelResult(
                model.name,
                model.family,
                model.path.name,
                model.description,
                model.text,
                tuple(self._cell(model, count) for count in sorted(self.measure.counts)),
            )
            for model in self.models
        )

    def _cell(self, model: Model, count: int) -> Cell:
        known = self._cells.get((model.name, count))
        if known is not None:
            return known
        return Cell(count, self.measure.active(count), Outcome.NOT_RUN, "the run ended before")


def _needed(cell: Cell, connections: int) -> float:
    """Return the bytes that a model would take, judging by a smaller number of connections."""
    if cell.figures is None or cell.connections < MANY:
        return 0.0
    return cell.figures.memory_bytes_per_connection * connections * _HEADROOM


MANY = 100  # connections: with fewer, memory per connection is what one request needed at all
