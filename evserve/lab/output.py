"""Where a result goes: the page, and the JSON beside it or to standard output."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TextIO

from attrs import frozen

from evserve.lab.jsonfile import as_json
from evserve.lab.report.page import as_html
from evserve.lab.results import Result
from evserve.writing import print_to, write_all, writing


@frozen
class Output:
    """The files of a run; `stream` gets the JSON, too, if there is one."""

    report: Path
    json: Path | None
    stream: TextIO | None

    @property
    def names(self) -> str:
        """What is written, for a person."""
        return ", ".join(str(path) for path in (self.report, self.json) if path is not None)

    def write(self, result: Result) -> None:
        """Write whatever can be written; raises UnwritableError if something could not."""
        steps: list[Callable[[], None]] = []
        if (stream := self.stream) is not None:
            steps.append(lambda: print_to(stream, as_json(result)))
        if self.json is not None:
            steps.append(partial(_write, self.json, as_json, result))
        # The page comes last: a defect in its drawing must not cost the figures.
        write_all([*steps, partial(_write, self.report, as_html, result)])


def _write(path: Path, form: Callable[[Result], str], result: Result) -> None:
    with writing(path):
        path.write_text(form(result), "utf-8")
