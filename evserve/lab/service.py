"""The lab as a one-shot job: its report goes to a file, its progress to the terminal."""

import shlex
import sys
from pathlib import Path

from attrs import define, field
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from evserve.interfaces import IHost
from evserve.lab.claims import EXPERIMENTS
from evserve.lab.jsonfile import NotAResultError, from_json
from evserve.lab.listing import Listing
from evserve.lab.options import Options, check_writable
from evserve.lab.output import Output
from evserve.lab.results import Outcome, Result
from evserve.lab.run import LabRun
from evserve.lab.screen import Screen
from evserve.lab.settings import allowed, open_files_limit
from evserve.writing import STDERR, STDOUT, UnwritableError


__all__ = ["Options", "makeService"]

_log = Logger(namespace="evserve.lab")


@define(eq=False)
class LabService(Service):
    """Runs once, reports, and ends the process; stopped early it reports what there is."""

    _host: IHost
    _run: LabRun
    _output: Output
    _screen: Screen
    _done: Deferred[None] | None = field(default=None, init=False)

    def startService(self) -> None:
        """Begin as soon as the reactor runs."""
        Service.startService(self)
        self._host.reactor.callWhenRunning(self._begin)
        self._host.reactor.addSystemEventTrigger(
            "after", "shutdown", self._run.bench.children.kill
        )

    def stopService(self) -> Deferred[None] | None:
        """End the run, if it is not over; fires when the report is written."""
        Service.stopService(self)
        self._run.stop("it was stopped")
        return self._done

    def _begin(self) -> None:
        if self.running:
            self._done = Deferred.fromCoroutine(self._work()).addErrback(self._broke_off)

    def _broke_off(self, failure: Failure) -> None:
        _log.failure("the report broke off", failure)
        self._host.fail("the report broke off")

    async def _work(self) -> None:
        trouble = None
        try:
            await self._run.run()
        except UnwritableError as error:
            trouble = str(error)
        except Exception:  # whoever mends it wants to see where; the figures are worth keeping
            _log.failure("the run broke off")
            trouble = "the run broke off"
        if trouble is not None:
            self._run.cut(trouble)
        self._screen.stop()
        self._end(self._run.result(), trouble)

    def _end(self, result: Result, trouble: str | None) -> None:
        if not result.measured and result.partial is None:
            trouble = "no model could be measured"
        try:
            self._output.write(result)
            self._screen.say(_summary(result, self._output))
        except UnwritableError as error:
            trouble = trouble or str(error)
        if trouble is None:
            self._host.finish()
        else:
            self._host.fail(trouble)


def _summary(result: Result, output: Output) -> str:
    cells = sum(len(model.cells) for model in result.models)
    ended: dict[Outcome, list[str]] = {Outcome.BROKE: [], Outcome.UNAVAILABLE: []}
    for model in result.models:
        if model.broke is not None:
            ended[model.broke.outcome].append(model.name)
    lacking = ended[Outcome.UNAVAILABLE]
    unavailable = f"; unavailable: {', '.join(lacking)}" if lacking else ""
    partial = f" (partial: {result.partial})" if result.partial else ""
    return (
        f"{output.names}: {result.measured} of {cells} measurements in {result.seconds:.0f} s"
        f"{partial}; broke: {', '.join(ended[Outcome.BROKE]) or 'none'}{unavailable}"
    )


@define(eq=False)
class Redraw(Service):
    """Draws the page of a run that was made before."""

    _host: IHost
    _output: Output
    _result: Result
    _screen: Screen

    def startService(self) -> None:
        """Write, and end the process."""
        Service.startService(self)
        try:
            self._output.write(self._result)
            self._screen.say(self._output.names)
        except UnwritableError as error:
            self._host.fail(str(error))
        else:
            self._host.finish()


def makeService(options: Options, host: IHost) -> IService:
    """Return the job; raises ValueError or OSError, in one line, on what cannot be done."""
    # twistd turns what is printed later into log lines.
    if options["list"]:
        return Listing(host, options.models, sys.stdout)
    report, json_path = options.report, options.json
    for path in (report, json_path):
        if path is not None:
            check_writable(path)
    to_stdout = options["json"] == "-"
    output = Output(report, json_path, sys.stdout if to_stdout else None)
    out, name = (sys.stderr, STDERR) if to_stdout else (sys.stdout, STDOUT)
    screen = Screen(out, sys.stderr, name)
    if options["from"] is not None:
        return Redraw(host, output, read_result(Path(options["from"])), screen)
    return _lab(options, host, output, screen)


def read_result(path: Path) -> Result:
    """Return the result in a JSON file; raises OSError or NotAResultError."""
    try:
        return from_json(path.read_text("utf-8"))
    except (UnicodeDecodeError, NotAResultError) as error:
        raise NotAResultError(f"{str(path)!r}: {error}") from error


def _lab(options: Options, host: IHost, output: Output, screen: Screen) -> IService:
    counts, note = allowed(options.counts, open_files_limit())
    if not counts:
        raise ValueError(f"nothing to measure: {note}")
    if note is not None:
        screen.say(note)
    run = LabRun(
        host.reactor,
        options.models,
        options.measure(counts),
        screen,
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        notes=() if note is None else (note,),
        experiments=() if options["no-claims"] else EXPERIMENTS,
    )
    return LabService(host, run, output, screen)
