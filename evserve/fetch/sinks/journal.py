"""`--journal FILE`: which URLs are finished, so that a run that was cut short goes on.

One JSON object a line, only ever appended to. A line `{"run": ..., "ends": ...}` says where a
run's outputs go, a line `{"url": ..., "final": ..., "ends": ...}` that a URL's row is written.
`ends` is how long the outputs were then: what they hold beyond that is of URLs that are not in
the journal; it is cut off, and these are fetched again.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import Any, BinaryIO, Self

from attrs import asdict, astuple, define, field, frozen

from evserve.fetch.polite.seen import Seen


class JournalError(Exception):
    """The journal cannot be used; the message is one line."""


@frozen
class Outputs:
    """The files of a run, as given; None for none."""

    output: str | None = None
    warc: str | None = None


@frozen
class Ends:
    """How long the files of a run are, in bytes."""

    output: int = 0
    warc: int = 0


@define(eq=False)
class Journal:
    """Remembers finished URLs over runs; one process has it at a time."""

    _file: BinaryIO
    seen: Seen = field(factory=Seen)
    finished: int = 0  # URLs that earlier runs finished
    _last: Outputs = Outputs()
    _ends: Ends = Ends()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or begin a journal; raises OSError, JournalError."""
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise JournalError(f"{path}: another run is using this journal") from None
        journal = cls(file)
        try:
            journal._read(path)
        except BaseException:
            file.close()
            raise
        return journal

    def begin(self, outputs: Outputs) -> Ends:
        """Note a run that writes to `outputs`; return from where on it must write them."""
        ends = Ends(
            self._ends.output if outputs.output == self._last.output else 0,
            self._ends.warc if outputs.warc == self._last.warc else 0,
        )
        self._write({"run": asdict(outputs), "ends": astuple(ends)})
        return ends

    def add(self, url: str, ends: Ends, *, is_final: bool) -> None:
        """Note that the row of a URL is written, and all that belongs to it; raises OSError."""
        self._write({"url": url, "final": is_final, "ends": astuple(ends)})

    def close(self) -> None:
        """Let others use it."""
        self._file.close()

    def _write(self, entry: dict[str, object]) -> None:
        # One call, so that a line is there or not, whenever this process is killed.
        self._file.write(json.dumps(entry).encode() + b"\n")

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
        self._ends = Ends(*entry["ends"])
        if "run" in entry:
            self._last = Outputs(**entry["run"])
        elif entry["final"] and self.seen.add(entry["url"]):
            self.finished += 1
