"""Every result, told to all who keep it, in an order that survives being killed in between."""

from collections.abc import Callable

from attrs import define, field

from evserve.fetch.result import Result
from evserve.fetch.screen import Screen
from evserve.fetch.sinks.journal import Ends, Journal
from evserve.fetch.sinks.rows import RowFile
from evserve.fetch.sinks.warc import Archive
from evserve.fetch.summary import Summary


def _ignore(error: OSError) -> None:
    """Nobody is interested yet."""


@define(eq=False)
class Recorder:
    """Keeps results; `broken` is told once if that cannot be done any more."""

    screen: Screen
    summarise: Callable[[str], object]  # told each line of the summary
    broken: Callable[[OSError], None] = _ignore
    rows: RowFile | None = None
    archive: Archive | None = None
    journal: Journal | None = None
    summary: Summary = field(factory=Summary)
    is_over: bool = field(default=False, init=False)

    def record(self, key: str, result: Result) -> bool:
        """Keep the result of the URL that the journal knows as `key`; return whether it is kept.

        The journal comes last: what it says is done is on disk.
        """
        if self.is_over:
            return False
        self.summary.add(result)
        try:
            self._write(key, result)
        except OSError as error:
            self.is_over = True
            self.broken(error)
            return False
        return True

    def _write(self, key: str, result: Result) -> None:
        if self.rows is not None:
            self.rows.write(result.as_json())
        if self.journal is not None:
            ends = Ends(
                0 if self.rows is None else self.rows.end,
                0 if self.archive is None else self.archive.end,
            )
            self.journal.add(key, ends, is_final=result.is_final)
        self.screen.show(result)

    def close(self) -> None:
        """Close the rows and the journal."""
        if self.rows is not None:
            self.rows.close()
        if self.journal is not None:
            self.journal.close()
