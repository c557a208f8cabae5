"""Where a result goes: the page, and the JSON beside it or to standard output."""

from pathlib import Path
from typing import TextIO

from attrs import frozen

from evserve.lab.jsonfile import as_json
from evserve.lab.report.page import as_html
from evserve.lab.results import Result
from evserve.writing import UnwritableError, print_to, writing


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
        troubles = []
        try:
            if self.stream is not None:
                print_to(self.stream, as_json(result))
        except UnwritableError as error:
            troubles.append(error)
        # The page comes last: a defect in its drawing must not cost the figures.
        for path, form in ((self.json, as_json), (self.report, as_html)):
            try:
                if path is not None:
                    with writing(path):
                        path.write_text(form(result), "utf-8")
            except UnwritableError as error:
                troubles.append(error)
        if troubles:
            raise troubles[0]
