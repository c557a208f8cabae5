"""`--journal FILE`: which URLs are finished, so that an interrupted run can resume.

One JSON object a line, only ever appended to. A line `{"run": ..., "ends": ...}` tells where a
run's outputs go, a line `{"url": ..., "final": ..., "ends": ...}` that a URL's row is written.
`ends` are the sizes of the outputs at that time. What they hold beyond that belongs to URLs that
are not in the journal: it is cut off, and these are fetched again.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Self

from attrs import asdict, astuple, define, field, frozen

from evserve.fetch.output.disk import open_file, write_all
from evserve.fetch.scheduler import DuplicateFilter


class JournalError(Exception):
    """The journal cannot be used; the message is one line."""


@frozen
class OutputPaths:
    """The output files of a run; None without one."""

    output: str | None = None
    warc: str | None = None


@frozen
class OutputSizes:
    """The sizes of a run's output files in bytes; None for whatever the file has."""

    output: int | None = 0
    warc: int | None = 0


@frozen
class JournalEntry:
    """A URL whose row and record are within the first `sizes` bytes of their files."""

    url: str
    sizes: OutputSizes
    is_final: bool


@define(eq=False)
class Journal:
    """Remembers finished URLs from run to run. Only one process can have it open."""

    _file: BinaryIO
    _name: str
    urls: DuplicateFilter = field(factory=DuplicateFilter)  # finished by earlier runs
    finished: int = 0  # their number
    _paths: OutputPaths = OutputPaths()  # of the run whose entries are being read
    _row_sizes: dict[str | None, int] = field(factory=dict)  # by path, over all runs
    _warc_sizes: dict[str | None, int] = field(factory=dict)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or create a journal; raises OSError and JournalError."""
        file = open_file(path)
        journal = cls(file, str(path))
        try:
            journal._read(path)
        except BaseException:
            file.close()
            raise
        return journal

    def sizes(self, paths: OutputPaths) -> OutputSizes:
        """Return after how many bytes a run must continue its outputs.

        None for a file that no run has written, which keeps its content: it may be one of ours
        under another name, and its rows would not be written again.
        """
        return OutputSizes(self._row_sizes.get(paths.output), self._warc_sizes.get(paths.warc))

    def begin(self, paths: OutputPaths, sizes: OutputSizes) -> None:
        """Add a run whose outputs are open and continue after `sizes`."""
        line = json.dumps({"run": asdict(paths), "ends": astuple(sizes)})
        write_all(self._file, f"{line}\n".encode(), self._name)

    def add(self, entries: Iterable[JournalEntry]) -> None:
        """Add URLs whose rows, files and records are on disk. Raises OSError."""
        lines = [
            f'{{"url": {json.dumps(entry.url)}, "final": {"true" if entry.is_final else "false"}, '
            f'"ends": [{entry.sizes.output}, {entry.sizes.warc}]}}\n'
            for entry in entries
        ]
        write_all(self._file, "".join(lines).encode(), self._name)

    def close(self) -> None:
        """Close the file, and unlock it with that."""
        self._file.close()

    @property
    def descriptor(self) -> int:
        """For a sync."""
        return self._file.fileno()

    def _read(self, path: Path) -> None:
        """Read the lines of earlier runs, one by one: there may be a million."""
        size = 0
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break  # the last write before the machine crashed
                try:
                    self._replay(json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError):
                    raise JournalError(
                        f"{path}, line {number}: not a line of a fetch journal"
                    ) from None
                size += len(line)
        self._file.truncate(size)
        self._file.seek(size)

    def _replay(self, line: dict[str, Any]) -> None:
        row_size, warc_size = map(_size, line["ends"])
        if "run" in line:
            self._paths = OutputPaths(**line["run"])
        self._row_sizes[self._paths.output] = row_size
        self._warc_sizes[self._paths.warc] = warc_size
        if "run" not in line and line["final"] and self.urls.add(line["url"]):
            self.finished += 1


def _size(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(value)
    return value
