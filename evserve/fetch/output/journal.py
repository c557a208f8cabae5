"""`--journal FILE`: which URLs are finished, so that a run that was cut short goes on.

One JSON object a line, only ever appended to. A line `{"run": ..., "ends": ...}` says where a
run's outputs go, a line `{"url": ..., "final": ..., "ends": ...}` that a URL's row is written.
`ends` is how long the outputs were then: what they hold beyond that is of URLs that are not in
the journal; it is cut off, and these are fetched again.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Self

from attrs import asdict, astuple, define, field, frozen

from evserve.fetch.output.disk import open_file, write_all
from evserve.fetch.scheduler import Seen


class JournalError(Exception):
    """The journal cannot be used; the message is one line."""


@frozen
class Outputs:
    """The files of a run, as given; None for none."""

    output: str | None = None
    warc: str | None = None


@frozen
class Ends:
    """How long the files of a run are, in bytes; None for as long as they may be."""

    output: int | None = 0
    warc: int | None = 0


@frozen
class Entry:
    """A URL that is done with; `ends` hold its row and its record."""

    url: str
    ends: Ends
    is_final: bool


@define(eq=False)
class Journal:
    """Remembers finished URLs over runs; one process has it at a time."""

    _file: BinaryIO
    _name: str
    seen: Seen = field(factory=Seen)
    finished: int = 0  # URLs that earlier runs finished
    _outputs: Outputs = Outputs()  # of the run whose entries are being read
    _rows: dict[str | None, int] = field(factory=dict)  # how long each file of any run was
    _archives: dict[str | None, int] = field(factory=dict)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or begin a journal; raises OSError, JournalError."""
        file = open_file(path)
        journal = cls(file, str(path))
        try:
            journal._read(path)
        except BaseException:
            file.close()
            raise
        return journal

    def ends(self, outputs: Outputs) -> Ends:
        """Return from where on a run must write its outputs.

        A file that no run has written keeps what is in it: it may be one of ours under another
        name, and its rows would never be made again.
        """
        return Ends(self._rows.get(outputs.output), self._archives.get(outputs.warc))

    def begin(self, outputs: Outputs, ends: Ends) -> None:
        """Note a run whose outputs are open, and go on at `ends`."""
        line = json.dumps({"run": asdict(outputs), "ends": astuple(ends)})
        write_all(self._file, f"{line}\n".encode(), self._name)

    def add(self, entries: Iterable[Entry]) -> None:
        """Note that the rows of URLs are on the disk, and all that belongs to them.

        Raises OSError.
        """
        lines = [
            f'{{"url": {json.dumps(entry.url)}, "final": {"true" if entry.is_final else "false"}, '
            f'"ends": [{entry.ends.output}, {entry.ends.warc}]}}\n'
            for entry in entries
        ]
        write_all(self._file, "".join(lines).encode(), self._name)

    def close(self) -> None:
        """Let others use it."""
        self._file.close()

    @property
    def descriptor(self) -> int:
        """What a sync needs."""
        return self._file.fileno()

    def _read(self, path: Path) -> None:
        """Read what earlier runs left, line by line: there may be a million."""
        end = 0
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break  # the last write before a crash of the machine
                try:
                    self._replay(json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError):
                    raise JournalError(
                        f"{path}, line {number}: not a line of a fetch journal"
                    ) from None
                end += len(line)
        self._file.truncate(end)
        self._file.seek(end)

    def _replay(self, entry: dict[str, Any]) -> None:
        output, warc = map(_length, entry["ends"])
        if "run" in entry:
            self._outputs = Outputs(**entry["run"])
        self._rows[self._outputs.output] = output
        self._archives[self._outputs.warc] = warc
        if "run" not in entry and entry["final"] and self.seen.add(entry["url"]):
            self.finished += 1


def _length(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(value)
    return value
