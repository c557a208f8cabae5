"""`-o FILE`: a row for each URL, written as soon as it is known."""

import os
from pathlib import Path
from typing import Any

from attrs import define

from evserve.fetch.sinks.opening import is_file, open_stream
from evserve.fetch.sinks.outlets import Outlet, outlet


@define(eq=False)
class RowFile:
    """Lines for an outlet. end: how long the file is with all that was encoded."""

    outlet: Outlet
    end: int = 0

    @classmethod
    def open(cls, path: Path, reactor: Any, end: int | None = 0) -> "RowFile":
        """Open a file to go on after its first `end` bytes; what follows these is cut off.

        end: None for after all that is there.  What is not a file, but a pipe or /dev/stdout, is
        just written to. A row that somebody has cut short stays, on a line of its own.
        """
        out = open_stream(path)
        rows = cls(outlet(out, reactor, str(path)))
        if is_file(out.fileno()):
            size = os.fstat(out.fileno()).st_size
            rows.end = size if end is None else min(end, size)
            out.truncate(rows.end)
            out.seek(rows.end)
            if rows.end and not _ends_a_line(path, rows.end):
                out.write(rows.encode(""))
        return rows

    def encode(self, line: str) -> bytes:
        """Return a line as `write` wants it; `end` is then as if it were written."""
        data = f"{line}\n".encode()
        self.end += len(data)
        return data


def _ends_a_line(path: Path, end: int) -> bool:
    with path.open("rb") as file:
        file.seek(end - 1)
        return file.read(1) == b"\n"
