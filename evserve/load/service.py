"""The `load` command: a one-shot job whose report goes to standard output."""

import contextlib
import sys
from collections.abc import Callable
from functools import partial
from typing import TextIO

from attrs import define, field, frozen
from twisted.application.service import IService
from typing_extensions import override

from evserve.interfaces import IHost
from evserve.load.connections import parse_endpoint
from evserve.load.options import Options
from evserve.load.report import Report, as_json, as_text
from evserve.load.run import LoadRun
from evserve.oneshot import OneShotService
from evserve.writing import STDOUT, print_to, write_all


__all__ = ["Options", "makeService"]


def makeService(options: Options, host: IHost) -> IService:
    """Return the job; raises ValueError or OSError if it cannot be done."""
    plan = options.plan()
    parse_endpoint(host.reactor, plan.connect)
    # Taken now, because twistd replaces the standard streams by its log when it starts.
    outputs = open_outputs(options["json"], sys.stdout)
    progress = ProgressLine(sys.stderr)
    return LoadService(host, LoadRun(host.reactor, plan, progress.show), outputs, progress)


@define(eq=False)
class LoadService(OneShotService):
    """Puts the load on the server and writes the report, also if it is stopped early."""

    _run: LoadRun
    _outputs: "list[ReportOutput]"
    _progress: "ProgressLine"

    @override
    def cancel(self) -> None:
        self._run.stop()

    @override
    async def work(self) -> str | None:
        try:
            report = await self._run.run()
        except (OSError, ValueError) as error:  # too many files, or no such process
            return str(error)
        self._progress.clear()
        write_all(partial(output.write, report) for output in self._outputs)
        return report.failure


@frozen
class ReportOutput:
    """A stream that the report is written to; `form` makes the text."""

    name: str
    stream: TextIO
    form: Callable[[Report], str]

    def write(self, report: Report) -> None:
        """Write the report, and close the stream if it is a file; raises UnwritableError."""
        try:
            print_to(self.stream, self.form(report), self.name)
        finally:
            if self.name != STDOUT:
                with contextlib.suppress(OSError):  # print_to has raised it already
                    self.stream.close()


def open_outputs(json: str | None, stdout: TextIO) -> list[ReportOutput]:
    """Return the outputs for `--json`; raises OSError if the file cannot be opened."""
    if json == "-":
        return [ReportOutput(STDOUT, stdout, as_json)]
    outputs = [ReportOutput(STDOUT, stdout, as_text)]
    if json is not None:  # opened now, because an error after the run would lose the report
        file = open(json, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        outputs.append(ReportOutput(json, file, as_json))
    return outputs


@define(eq=False)
class ProgressLine:
    """One line on a terminal, in which each text replaces the last; nothing on other streams."""

    _stream: TextIO
    _length: int = field(default=0, init=False)  # characters shown

    def show(self, line: str) -> None:
        """Show `line` if the stream is a terminal."""
        if self._stream.isatty():
            self._stream.write(f"\r{line.ljust(self._length)}")
            self._stream.flush()
            self._length = len(line)

    def clear(self) -> None:
        """Erase the line."""
        if self._length:
            self._stream.write(f"\r{' ' * self._length}\r")
            self._stream.flush()
            self._length = 0
