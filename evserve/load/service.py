"""The load generator as a one-shot job: its report goes to standard output."""

import contextlib
import sys
from collections.abc import Callable
from functools import partial
from typing import TextIO

from attrs import define, field
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from evserve.interfaces import IHost
from evserve.load.endpoints import parse_endpoint
from evserve.load.options import Options
from evserve.load.plan import Plan
from evserve.load.report import Report
from evserve.load.run import LoadRun
from evserve.load.terminal import Terminal
from evserve.load.text import as_json, as_text
from evserve.writing import STDOUT, UnwritableError, print_to, write_all


__all__ = ["Options", "makeService"]

_log = Logger(namespace="evserve.load")


Outlet = tuple[str, TextIO, Callable[[Report], str]]  # its name, and what is written to it


@define(eq=False)
class Output:
    """Where the report goes: as text to standard output, as JSON to another stream, or both."""

    _outlets: list[Outlet]

    @classmethod
    def of(cls, json: str | None, stdout: TextIO) -> "Output":
        """Return the output for `--json`; raises OSError if the file cannot be written."""
        if json == "-":
            return cls([(STDOUT, stdout, as_json)])
        outlets: list[Outlet] = [(STDOUT, stdout, as_text)]
        if json is not None:  # a later error would cost the run
            outlets.append((json, open(json, "w", encoding="utf-8"), as_json))  # noqa: PTH123, SIM115
        return cls(outlets)

    def write(self, report: Report) -> None:
        """Write whatever can be written; raises UnwritableError if something could not."""
        write_all(partial(_put, report, *each) for each in self._outlets)


def _put(report: Report, name: str, stream: TextIO, form: Callable[[Report], str]) -> None:
    try:
        print_to(stream, form(report).rstrip("\n") + "\n", name)
    finally:
        if name != STDOUT:
            with contextlib.suppress(OSError):  # it was told already
                stream.close()


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
        except (OSError, ValueError, UnwritableError) as error:
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
