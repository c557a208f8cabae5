"""What a person sees of a run: a line for each cell, and a bar that moves on a terminal."""

from typing import TextIO

from attrs import define, field

from evserve.lab.models import Model
from evserve.lab.report.units import duration, number
from evserve.lab.results import Cell, Claim
from evserve.progress import Bar
from evserve.writing import STDOUT, print_to


def cell_line(model: str, cell: Cell) -> str:
    """Return the line on a cell."""
    where = f"{model:<24} {cell.connections:>6,}  "
    figures = cell.figures
    if figures is None:
        return f"{where}{cell.outcome}: {cell.why}"
    note = f"  ({cell.why})" if cell.why else ""
    return (
        f"{where}{number(figures.messages_per_second):>6}/s  "
        f"p50 {duration(figures.p50_seconds):<8} p99 {duration(figures.p99_seconds):<8} "
        f"CPU {duration(figures.cpu_seconds_per_message)}{note}"
    )


@define(eq=False)
class Screen:
    """Lines on `out`, and the bar on `err` if that is a terminal (a Watcher of a run)."""

    _out: TextIO
    _err: TextIO
    _out_name: str = STDOUT
    _bar: Bar | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._bar = Bar(self._err) if self._err.isatty() else None

    def begin(self, what: str, done: int, total: int) -> None:
        """See Watcher."""
        if self._bar is not None:
            self._bar.update(done, total, what)

    def cell(self, model: Model, cell: Cell) -> None:
        """See Watcher."""
        self.say(cell_line(model.name, cell))

    def claim(self, claim: Claim) -> None:
        """See Watcher."""
        self.say(f"{claim.verdict}: {claim.claim}")

    def say(self, line: str) -> None:
        """Print a line above the bar; raises UnwritableError if that is not possible."""
        if self._bar is not None:
            self._bar.erase()
        print_to(self._out, f"{line}\n", self._out_name)

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
