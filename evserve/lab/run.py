"""A whole run: which measurements are made, in which order, then the claims; and its output."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from attrs import define, field

from evserve.lab.claims import EXPERIMENTS, Experiment, ExperimentRunner, unknown_claim
from evserve.lab.measurement import LoadProfile, ModelRunner
from evserve.lab.models import Model
from evserve.lab.report.units import format_duration, format_number
from evserve.lab.results import (
    MIN_CONNECTIONS_FOR_MEMORY,
    Claim,
    Machine,
    Measurement,
    ModelResult,
    Outcome,
    Result,
    format_connections,
    read_proc_field,
    this_machine,
)
from evserve.progress import Bar
from evserve.writing import STDOUT, print_to


_MEMORY_FACTOR = 1.5  # the kernel needs memory too: for stacks, page tables and sockets


@define(eq=False)
class LabRun:
    """Measures models, then claims; `stop` ends it, and `result` returns what there is so far."""

    _reactor: Any
    _models: Sequence[Model]
    _profile: LoadProfile
    _console: "Console"
    _command: str = field(kw_only=True)
    _notes: tuple[str, ...] = field(default=(), kw_only=True)
    _experiments: Sequence[Experiment] = field(default=EXPERIMENTS, kw_only=True)
    partial: str | None = field(default=None, init=False)
    runner: ModelRunner = field(init=False)
    _matrix: "Matrix" = field(init=False)
    _claims: list[Claim] = field(factory=list, init=False)
    _done: int = field(default=0, init=False)
    _began: float = field(factory=time.monotonic, init=False)
    _started: str = field(init=False)
    _machine: Machine = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.runner = ModelRunner(self._reactor)
        self._matrix = Matrix(self._models, self._profile)
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._machine = this_machine(self._reactor)

    def stop(self, why: str) -> None:
        """End the run now."""
        self.mark_partial(why)
        self.runner.stop()

    def mark_partial(self, why: str) -> None:
        """Note why the run is incomplete; the first reason counts."""
        self.partial = self.partial or why

    async def run(self) -> None:
        """Measure everything; in any case no program is left running."""
        try:
            await self._measure_models()
            await self._check_claims()
        finally:
            self.runner.processes.kill()

    async def _measure_models(self) -> None:
        for model, connections in self._matrix:
            if self.partial:
                return
            self._show_progress(f"{model.name}, {format_connections(connections)}")
            found = self._matrix.skip(model, connections, available_memory())
            if found is None:
                found = await self.runner.measure(model, connections, self._profile)
            if found.outcome is not Outcome.NOT_RUN:
                self._matrix.add(model, found)
                self._console.print_measurement(model, found)
            self._done += 1

    async def _check_claims(self) -> None:
        experiment_runner = ExperimentRunner.of(self.runner)
        for experiment in self._experiments:
            if self.partial:
                return
            self._show_progress(f"claim: {experiment.claim}")
            claim = await experiment_runner.check(experiment)
            if not self.partial:
                self._claims.append(claim)
                self._console.print_claim(claim)
            self._done += 1

    def _show_progress(self, what: str) -> None:
        total = len(self._matrix) + len(self._experiments)
        self._console.show_progress(what, self._done, total)

    def result(self) -> Result:
        """Return the result so far; what has not been reached is marked as not run."""
        missing = self._experiments[len(self._claims) :]
        why = "the run ended before"
        claims = [unknown_claim(each.name, each.claim, why) for each in missing]
        return Result(
            started=self._started,
            seconds=round(time.monotonic() - self._began, 1),
            command=self._command,
            partial=self.partial,
            notes=self._notes,
            settings=self._profile.settings(),
            machine=self._machine,
            models=self._matrix.results(),
            claims=(*self._claims, *claims),
        )


@define(eq=False)
class Matrix:
    """The measurements of a run: models times numbers of connections.

    All models are measured at one number of connections before the next. So neighbours in the
    charts are neighbours in time, and a run that is cut short has complete columns.
    """

    models: Sequence[Model]
    profile: LoadProfile
    _cells: dict[tuple[str, int], Measurement] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._cells = {
            (model.name, count): self._unmeasured(count, Outcome.NOT_RUN, "the run ended before")
            for model, count in self
        }

    def _unmeasured(self, connections: int, outcome: Outcome, why: str | None) -> Measurement:
        return Measurement(connections, self.profile.active(connections), outcome, why)

    def __iter__(self) -> Iterator[tuple[Model, int]]:
        """Yield models and numbers of connections in the order of measurement."""
        for count in sorted(self.profile.counts):
            for model in self.models:
                yield model, count

    def __len__(self) -> int:
        return len(self.models) * len(self.profile.counts)

    def add(self, model: Model, measurement: Measurement) -> None:
        """Add a measurement."""
        self._cells[model.name, measurement.connections] = measurement

    def skip(self, model: Model, connections: int, memory: int | None) -> Measurement | None:
        """Return the outcome if measuring would be useless or harmful, None to measure.

        memory: bytes that the machine has left.
        """
        smaller = [count for count in self.profile.counts if count < connections]
        if not smaller:
            return None
        last = self._cells[model.name, max(smaller)]
        if last.outcome in (Outcome.UNAVAILABLE, Outcome.SKIPPED):
            return self._unmeasured(connections, last.outcome, last.why)
        if last.outcome is Outcome.BROKE:
            why = f"it broke at {format_connections(last.connections)}"
            return self._unmeasured(connections, Outcome.SKIPPED, why)
        needed = _estimate_memory(last, connections)
        if memory is not None and needed > memory:
            why = f"it would need about {needed / 1e9:,.0f} GB of memory, and {memory / 1e9:,.0f}"
            return self._unmeasured(connections, Outcome.SKIPPED, f"{why} GB are left")
        return None

    def results(self) -> tuple[ModelResult, ...]:
        """Return all models with all measurements; missing ones are marked as not run."""
        counts = sorted(self.profile.counts)
        return tuple(
            ModelResult(
                model.name,
                model.family,
                model.path.name,
                model.description,
                model.text,
                tuple(self._cells[model.name, count] for count in counts),
            )
            for model in self.models
        )


def _estimate_memory(cell: Measurement, connections: int) -> float:
    """Return the bytes that a model needs for `connections`, from a measurement with fewer."""
    if cell.figures is None or cell.connections < MIN_CONNECTIONS_FOR_MEMORY:
        return 0.0
    return cell.figures.memory_bytes_per_connection * connections * _MEMORY_FACTOR


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the bytes of memory available without swapping; None if unknown."""
    text = read_proc_field(meminfo, "MemAvailable")
    return None if text is None else int(text.split()[0]) * 1024


@define(eq=False)
class Console:
    """Prints a line per measurement on `out`, and shows a bar on `err` if that is a terminal."""

    _out: TextIO
    _err: TextIO
    _out_name: str = STDOUT
    _bar: Bar | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._bar = Bar(self._err) if self._err.isatty() else None

    def show_progress(self, what: str, done: int, total: int) -> None:
        """Show in the bar what is being measured, and how many of `total` are done."""
        if self._bar is not None:
            self._bar.update(done, total, what)

    def print_measurement(self, model: Model, measurement: Measurement) -> None:
        """Print the line of a measurement."""
        self.print(measurement_line(model.name, measurement))

    def print_claim(self, claim: Claim) -> None:
        """Print the line of a claim."""
        self.print(f"{claim.verdict}: {claim.claim}")

    def print(self, line: str) -> None:
        """Print a line above the bar; raises UnwritableError."""
        if self._bar is not None:
            self._bar.erase()
        print_to(self._out, f"{line}\n", self._out_name)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def measurement_line(model: str, measurement: Measurement) -> str:
    """Return the line of a measurement, without line break."""
    where = f"{model:<24} {measurement.connections:>6,}  "
    figures = measurement.figures
    if figures is None:
        return f"{where}{measurement.outcome}: {measurement.why}"
    note = f"  ({measurement.why})" if measurement.why else ""
    return (
        f"{where}{format_number(figures.messages_per_second):>6}/s  "
        f"p50 {format_duration(figures.p50_seconds):<8} "
        f"p99 {format_duration(figures.p99_seconds):<8} "
        f"CPU {format_duration(figures.cpu_seconds_per_message)}{note}"
    )
