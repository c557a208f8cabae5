"""Where a result goes: the page, and the JSON beside it or to standard output."""

from pathlib import Path
from typing import TextIO

from attrs import frozen

from evserve.lab.jsonfile import as_json
from evserve.lab.report.page import as_html
from evserve.lab.results import Result


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
        """Write everything; raises OSError."""
        text = as_json(result)
        if self.stream is not None:
            self.stream.write(text)
            self.stream.flush()
        if self.json is not None:
            self.json.write_text(text, "utf-8")
        self.report.write_text(as_html(result), "utf-8")
