"""The `lab` command: one-shot jobs that measure, list the models, or draw a page again."""

import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

from attrs import define, field, frozen
from twisted.application.service import IService
from twisted.logger import Logger
from typing_extensions import override

from evserve.interfaces import IHost
from evserve.lab.claims import EXPERIMENTS
from evserve.lab.measurement import LoadProfile, ModelRunner
from evserve.lab.models import Model
from evserve.lab.options import Options, check_writable
from evserve.lab.process import NotStartedError
from evserve.lab.report import as_html
from evserve.lab.results import (
    InvalidResultError,
    Outcome,
    Result,
    as_json,
    from_json,
    open_files_limit,
)
from evserve.lab.run import Console, LabRun
from evserve.oneshot import OneShotService
from evserve.writing import STDERR, STDOUT, UnwritableError, print_to, write_all, writing


__all__ = ["Options", "makeService"]

_log = Logger(namespace="evserve.lab")
_SPARE_FILES = 256  # that a server and the generator have open besides the connections


def makeService(options: Options, host: IHost) -> IService:
    """Return the job; raises ValueError or OSError if it cannot be done."""
    # The standard streams are taken now: twistd replaces them by its log when it starts.
    if options["list"]:
        return ListService(host, options.models, sys.stdout)
    report, json_path = options.report, options.json
    for path in (report, json_path):
        if path is not None:
            check_writable(path)
    to_stdout = options["json"] == "-"
    output = ResultOutput(report, json_path, sys.stdout if to_stdout else None)
    out, name = (sys.stderr, STDERR) if to_stdout else (sys.stdout, STDOUT)
    console = Console(out, sys.stderr, name)
    if options["from"] is not None:
        return RedrawService(host, output, read_result(Path(options["from"])), console)
    counts, note = allowed_counts(options.counts, open_files_limit())
    if not counts:
        raise ValueError(f"nothing to measure: {note}")
    if note is not None:
        console.print(note)
    run = LabRun(
        host.reactor,
        options.models,
        LoadProfile(counts, options["seconds"]),
        console,
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        notes=() if note is None else (note,),
        experiments=() if options["no-claims"] else EXPERIMENTS,
    )
    return LabService(host, run, output, console)


def allowed_counts(counts: Sequence[int], limit: int) -> tuple[tuple[int, ...], str | None]:
    """Return the `counts` that fit into `limit` open files, and a note on the others."""
    fitting = tuple(count for count in counts if count + _SPARE_FILES <= limit)
    over = [f"{count:,}" for count in counts if count not in fitting]
    if not over:
        return fitting, None
    note = f"left out {', '.join(over)} connections: 'ulimit -Hn' allows {limit:,} open files"
    return fitting, note


def read_result(path: Path) -> Result:
    """Return the result in a JSON file; raises OSError or InvalidResultError."""
    try:
        return from_json(path.read_text("utf-8"))
    except (UnicodeDecodeError, InvalidResultError) as error:
        raise InvalidResultError(f"{str(path)!r}: {error}") from error


@frozen
class ResultOutput:
    """The files of a result; `stream`, if there is one, receives the JSON as well."""

    report: Path
    json: Path | None
    stream: TextIO | None

    @property
    def names(self) -> str:
        """The names of the files."""
        return ", ".join(str(path) for path in (self.report, self.json) if path is not None)

    def write(self, result: Result) -> None:
        """Write to every destination; then raise the first UnwritableError."""
        steps: list[Callable[[], None]] = []
        if (stream := self.stream) is not None:
            steps.append(lambda: print_to(stream, as_json(result)))
        if self.json is not None:
            steps.append(partial(_write_file, self.json, as_json, result))
        # The page is last, so that an error in drawing it does not lose the figures.
        write_all([*steps, partial(_write_file, self.report, as_html, result)])


def _write_file(path: Path, form: Callable[[Result], str], result: Result) -> None:
    with writing(path):
        path.write_text(form(result), "utf-8")


@define(eq=False)
class LabService(OneShotService):
    """Measures, writes the report and ends the process, also if it is stopped early."""

    _run: LabRun
    _output: ResultOutput
    _console: Console

    @override
    def startService(self) -> None:
        OneShotService.startService(self)
        kill = self._run.runner.processes.kill
        self._host.reactor.addSystemEventTrigger("after", "shutdown", kill)

    @override
    def cancel(self) -> None:
        self._run.stop("it was stopped")

    @override
    async def work(self) -> str | None:
        failure = None
        try:
            await self._run.run()
        except UnwritableError as error:
            failure = str(error)
        except Exception:  # a bug; the figures measured so far are still written
            failure = "the run failed unexpectedly"
            _log.failure(failure)
        if failure is not None:
            self._run.mark_partial(failure)
        self._console.close()
        result = self._run.result()
        measured = result.count(Outcome.MEASURED) + result.count(Outcome.DISTURBED)
        if not measured and result.partial is None:
            failure = "no model could be measured"
        try:
            self._output.write(result)
            self._console.print(_summary(result, self._output))
        except UnwritableError as error:
            failure = failure or str(error)
        return failure


def _summary(result: Result, output: ResultOutput) -> str:
    total = sum(len(model.cells) for model in result.models)
    ended: dict[Outcome, list[str]] = {Outcome.BROKE: [], Outcome.UNAVAILABLE: []}
    for model in result.models:
        if model.broke is not None:
            ended[model.broke.outcome].append(model.name)
    names = ", ".join(ended[Outcome.UNAVAILABLE])
    unavailable = f"; unavailable: {names}" if names else ""
    partial = f" (partial: {result.partial})" if result.partial else ""
    disturbed = result.count(Outcome.DISTURBED)
    busy = f"; disturbed by other programs: {disturbed}" if disturbed else ""
    return (
        f"{output.names}: {result.count(Outcome.MEASURED)} of {total} measurements in "
        f"{result.seconds:.0f} s{partial}; broke: {', '.join(ended[Outcome.BROKE]) or 'none'}"
        f"{unavailable}{busy}"
    )


@define(eq=False)
class ListService(OneShotService):
    """Prints a line per model. Each is started, to find out whether it can run here."""

    _models: Sequence[Model]
    _out: TextIO
    _runner: ModelRunner = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._runner = ModelRunner(self._host.reactor)

    @override
    def cancel(self) -> None:
        self._runner.stop()

    @override
    async def work(self) -> str | None:
        for model in self._models:
            if self._runner.is_stopped:
                break
            process, note = self._runner.process(model), ""
            try:
                await process.start()
            except NotStartedError as error:
                note = f" [cannot run here: {error}]"
            finally:
                await process.stop()
            print_to(self._out, f"{model.name:<24} {model.description}{note}\n")
        return None


@define(eq=False)
class RedrawService(OneShotService):
    """Draws the page of an earlier result, and ends the process."""

    _output: ResultOutput
    _result: Result
    _console: Console

    @override
    async def work(self) -> str | None:
        self._output.write(self._result)
        self._console.print(self._output.names)
        return None
