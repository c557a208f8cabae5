"""`-o FILE`: a row for each URL, written as soon as it is known."""

import os
from pathlib import Path
from typing import IO

from attrs import define

from evserve.fetch.sinks.opening import is_file, open_stream


@define(eq=False)
class RowFile:
    """Appends lines to a file or stream.

    Unbuffered, so that a line that was written survives the death of this process.
    end: the file's length.
    """

    _out: IO[bytes]
    end: int = 0
    _name: str = "standard output"

    @classmethod
    def open(cls, path: Path, end: int | None = 0) -> "RowFile":
        """Open a file to go on after its first `end` bytes; what follows these is cut off.

        end: None for after all that is there.  What is not a file, but a pipe or /dev/stdout, is
        just written to. A row that somebody has cut short stays, on a line of its own.
        """
        out = open_stream(path)
        rows = cls(out, 0, str(path))
        if is_file(out.fileno()):
            size = os.fstat(out.fileno()).st_size
            rows.end = size if end is None else min(end, size)
            out.truncate(rows.end)
            out.seek(rows.end)
            if rows.end and not _ends_a_line(path, rows.end):
                rows.write(rows.encode(""))
        return rows

    def encode(self, line: str) -> bytes:
        """Return a line as `write` wants it; `end` is then as if it were written."""
        data = f"{line}\n".encode()
        self.end += len(data)
        return data

    def write(self, data: bytes) -> None:
        """Write lines; raises OSError."""
        try:
            while data:
                data = data[self._out.write(data) :]
        except OSError as error:
            error.filename = self._name
            raise

    @property
    def descriptor(self) -> int:
        """What a sync needs."""
        return self._out.fileno()

    def close(self) -> None:
        """Close the file."""
        self._out.close()


def _ends_a_line(path: Path, end: int) -> bool:
    with path.open("rb") as file:
        file.seek(end - 1)
        return file.read(1) == b"\n"
