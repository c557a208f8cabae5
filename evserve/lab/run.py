"""A whole run: the grid, the claims, and the result of both, complete or not."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from attrs import define, field

from evserve.lab.claims import EXPERIMENTS, Experiment, Laboratory
from evserve.lab.grid import Grid, available_memory
from evserve.lab.machine import this_machine
from evserve.lab.measurement import Bench
from evserve.lab.models import Model
from evserve.lab.results import Cell, Claim, Machine, Outcome, Result, connections_of
from evserve.lab.settings import Measure
from evserve.lab.verdicts import unknown


class Watcher(Protocol):
    """Whoever wants to know how a run goes."""

    def begin(self, what: str, done: int, total: int) -> None:
        """Something is being measured; `done` of `total` are over."""

    def cell(self, model: Model, cell: Cell) -> None:
        """A cell is known."""

    def claim(self, claim: Claim) -> None:
        """A claim is answered."""


@define(eq=False)
class LabRun:
    """Measures models, then claims; `stop` ends it, and `result` always has what there is."""

    _reactor: Any
    _models: Sequence[Model]
    _measure: Measure
    _watcher: Watcher
    _command: str = field(kw_only=True)
    _notes: tuple[str, ...] = field(default=(), kw_only=True)
    _experiments: Sequence[Experiment] = field(default=EXPERIMENTS, kw_only=True)
    partial: str | None = field(default=None, init=False)
    bench: Bench = field(init=False)
    _grid: Grid = field(init=False)
    _claims: list[Claim] = field(factory=list, init=False)
    _done: int = field(default=0, init=False)
    _began: float = field(factory=time.monotonic, init=False)
    _started: str = field(init=False)
    _machine: Machine = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.bench = Bench(self._reactor)
        self._grid = Grid(self._models, self._measure)
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._machine = this_machine(self._reactor)

    def stop(self, why: str) -> None:
        """End the run now."""
        self.cut(why)
        self.bench.stop()

    def cut(self, why: str) -> None:
        """Note why the run is not complete; the first reason counts."""
        self.partial = self.partial or why

    async def run(self) -> None:
        """Measure everything; whatever is raised, no program is left running."""
        try:
            await self._run_grid()
            await self._answer_claims()
        finally:
            self.bench.children.kill()

    async def _run_grid(self) -> None:
        for model, connections in self._grid:
            if self.partial:
                return
            self._watcher.begin(f"{model.name}, {connections_of(connections)}", *self._progress)
            cell = self._grid.without_measuring(model, connections, available_memory())
            if cell is None:
                cell = await self.bench.cell(model, connections, self._measure)
            if cell.outcome is not Outcome.NOT_RUN:
                self._grid.put(model, cell)
                self._watcher.cell(model, cell)
            self._done += 1

    async def _answer_claims(self) -> None:
        laboratory = Laboratory.of(self.bench)
        for experiment in self._experiments:
            if self.partial:
                return
            self._watcher.begin(f"claim: {experiment.claim}", *self._progress)
            claim = await laboratory.answer(experiment)
            if not self.partial:
                self._claims.append(claim)
                self._watcher.claim(claim)
            self._done += 1

    @property
    def _progress(self) -> tuple[int, int]:
        return self._done, len(self._grid) + len(self._experiments)

    def result(self) -> Result:
        """Return what is known so far; what was not reached is there, and says so."""
        missing = self._experiments[len(self._claims) :]
        why = "the run ended before"
        return Result(
            started=self._started,
            seconds=round(time.monotonic() - self._began, 1),
            command=self._command,
            partial=self.partial,
            notes=self._notes,
            settings=self._measure.settings(),
            machine=self._machine,
            models=self._grid.results(),
            claims=(*self._claims, *(unknown(each.name, each.claim, why) for each in missing)),
        )
