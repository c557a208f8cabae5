"""The load generator as a one-shot job: its report goes to standard output."""

import sys
from typing import TextIO

from attrs import define, field
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from evserve.interfaces import IHost
from evserve.load.crowd import parse_endpoint
from evserve.load.options import Options
from evserve.load.plan import Plan
from evserve.load.report import Report
from evserve.load.run import LoadRun
from evserve.load.terminal import Terminal
from evserve.load.text import as_json, as_text


__all__ = ["Options", "makeService"]

_log = Logger(namespace="evserve.load")


@define(eq=False)
class Output:
    """Where the report goes: as text to a stream, as JSON to another, or both."""

    text: TextIO | None
    json: TextIO | None

    @classmethod
    def of(cls, json: str | None, stdout: TextIO) -> "Output":
        """Return the output for `--json`; raises OSError if the file cannot be written."""
        if json == "-":
            return cls(None, stdout)
        return cls(stdout, None if json is None else open(json, "w", encoding="utf-8"))  # noqa: PTH123 - a later error would cost the run

    def write(self, report: Report) -> None:
        """Write the report."""
        for stream, form in ((self.text, as_text), (self.json, as_json)):
            if stream is not None:
                stream.write(form(report).rstrip("\n") + "\n")
                stream.flush()


@define(eq=False)
class LoadService(Service):
    """Runs once, reports, and ends the process; stopped early it reports what there is."""

    _host: IHost
    _plan: Plan
    _output: Output
    _terminal: Terminal
    _run: LoadRun | None = field(default=None, init=False)
    _done: Deferred[None] | None = field(default=None, init=False)

    def startService(self) -> None:
        """Begin as soon as the reactor runs."""
        Service.startService(self)
        self._host.reactor.callWhenRunning(self._begin)

    def stopService(self) -> Deferred[None] | None:
        """End the run, if it is not over; fires when the report is written."""
        Service.stopService(self)
        if self._run is not None:
            self._run.stop()
        return self._done

    def _begin(self) -> None:
        if self.running:
            self._run = LoadRun(self._host.reactor, self._plan, self._terminal.tell)
            self._done = Deferred.fromCoroutine(self._work(self._run))

    async def _work(self, run: LoadRun) -> None:
        try:
            report = await run.run()
            self._terminal.clear()
            self._output.write(report)
        except (OSError, ValueError) as error:
            self._host.fail(str(error))
        except Exception:  # a defect: whoever mends it wants to see where
            _log.failure("the run broke off")
            self._host.fail("the run broke off")
        else:
            if report.failure is None:
                self._host.finish()
            else:
                self._host.fail(report.failure)


def makeService(options: Options, host: IHost) -> IService:
    """Return the job; raises ValueError or OSError, in one line, on what cannot be done."""
    plan = options.plan()
    parse_endpoint(host.reactor, plan.connect)
    # twistd turns what is printed later into log lines.
    output = Output.of(options["json"], sys.stdout)
    return LoadService(host, plan, output, Terminal(sys.stderr))
