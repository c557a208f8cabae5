"""`-o FILE`: a row for each URL, written as soon as it is known."""

import os
from pathlib import Path
from typing import Any

from attrs import define

from evserve.fetch.sinks.outlets import Outlet, outlet


@define(eq=False)
class RowFile:
    """Lines for an outlet. end: how long the file is with all that was encoded."""

    outlet: Outlet
    end: int = 0

    @classmethod
    def open(cls, path: Path, reactor: Any, end: int = 0) -> "RowFile":
        """Open a file to go on after its first `end` bytes; what follows these is cut off."""
        if not end or not path.exists():
            out = path.open("wb", buffering=0)
            return cls(outlet(out, reactor, str(path)))  # which may be /dev/stdout or a pipe
        out = path.open("r+b", buffering=0)
        end = min(end, os.fstat(out.fileno()).st_size)
        out.truncate(end)
        out.seek(end)
        return cls(outlet(out, reactor, str(path)), end)

    def encode(self, line: str) -> bytes:
        """Return a line as `write` wants it; `end` is then as if it were written."""
        data = f"{line}\n".encode()
        self.end += len(data)
        return data
