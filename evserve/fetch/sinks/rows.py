"""`-o FILE`: a row for each URL, written as soon as it is known."""

import os
from pathlib import Path
from typing import IO

from attrs import define


@define(eq=False)
class RowFile:
    """Appends lines to a file or stream.

    Unbuffered, so that a line that was written survives the death of this process.
    end: the file's length.
    """

    _out: IO[bytes]
    end: int = 0

    @classmethod
    def open(cls, path: Path, end: int = 0) -> "RowFile":
        """Open a file to go on after its first `end` bytes; what follows these is cut off."""
        if not end or not path.exists():
            return cls(path.open("wb", buffering=0))  # which may be /dev/stdout or a pipe
        out = path.open("r+b", buffering=0)
        end = min(end, os.fstat(out.fileno()).st_size)
        out.truncate(end)
        out.seek(end)
        return cls(out, end)

    def encode(self, line: str) -> bytes:
        """Return a line as `write` wants it; `end` is then as if it were written."""
        data = f"{line}\n".encode()
        self.end += len(data)
        return data

    def write(self, data: bytes) -> None:
        """Write lines; raises OSError."""
        while data:
            data = data[self._out.write(data) :]

    @property
    def descriptor(self) -> int:
        """What a sync needs."""
        return self._out.fileno()

    def close(self) -> None:
        """Close the file."""
        self._out.close()
