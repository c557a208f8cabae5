"""`-o FILE`: a row for each URL; and how lines get into files, pipes and terminals."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any

from attrs import define, field

from evserve.fetch.output.disk import is_regular_file, open_stream, write_all


OnDone = Callable[[OSError | None], object]


@define(eq=False)
class RowFile:
    """The file of rows. size: its length with all rows that were encoded."""

    writer: "LineWriter"
    size: int = 0

    @classmethod
    def open(cls, path: Path, reactor: Any, size: int | None = 0) -> "RowFile":
        """Open a file to append after its first `size` bytes; the rest is cut off.

        size: None to append to all that is there. A last row without its line end stays, on a
        line of its own. Pipes and devices are just written to.
        """
        out = open_stream(path)
        rows = cls(line_writer(out, reactor, str(path)))
        if is_regular_file(out.fileno()):
            found = os.fstat(out.fileno()).st_size
            rows.size = found if size is None else min(size, found)
            out.truncate(rows.size)
            out.seek(rows.size)
            if rows.size and not _ends_a_line(path, rows.size):
                out.write(rows.encode(""))
        return rows

    def encode(self, line: str) -> bytes:
        """Return the bytes of a line, which the caller must write next."""
        data = f"{line}\n".encode()
        self.size += len(data)
        return data


def _ends_a_line(path: Path, size: int) -> bool:
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"


@define(eq=False)
class DirectWriter:
    """Writes at once, to files and terminals.

    A terminal may block, too, when its user stops it. But the log and the progress bar would block
    there as well, so a thread for the rows would not help.
    """

    _out: IO[bytes]
    _name: str = "standard output"

    def write(self, data: bytes, on_done: OnDone) -> None:
        """Write `data`, and call `on_done` with None or the error."""
        on_done(_write(self._out, data, self._name))

    def abandon(self) -> None:
        """Do nothing, because nothing waits for a reader."""

    def close(self) -> None:
        self._out.close()

    @property
    def descriptor(self) -> int:
        """For a sync."""
        return self._out.fileno()


@define(eq=False)
class BackgroundWriter:
    """Writes to a pipe or a socket in a thread.

    A write to a full pipe blocks, and would block the reactor with all connections and deadlines.
    Lines that arrive during a write go out together after it; the caller must not offer more
    than it can keep. After an error all further writes fail. A thread that is blocked ends with
    the process.
    """

    _out: IO[bytes]
    _reactor: Any
    _name: str = "standard output"
    _work: "SimpleQueue[bytes | None]" = field(factory=SimpleQueue, init=False)
    _has_thread: bool = field(default=False, init=False)
    _writing: list[OnDone] = field(factory=list, init=False)  # for what the thread is writing
    _lines: list[bytes] = field(factory=list, init=False)  # for its next write
    _waiting: list[OnDone] = field(factory=list, init=False)  # for these
    _error: OSError | None = field(default=None, init=False)

    def write(self, data: bytes, on_done: OnDone) -> None:
        """Write `data` soon, and then call `on_done` with None or the error."""
        if self._error is not None:
            on_done(self._error)
            return
        self._lines.append(data)
        self._waiting.append(on_done)
        if not self._writing:
            self._begin()

    def abandon(self) -> None:
        """Stop waiting for the reader; what is not written fails."""
        self._done(BrokenPipeError(errno.EPIPE, "the reader does not read", self._name))

    def close(self) -> None:
        if self._has_thread:
            self._work.put(None)
        else:
            self._out.close()

    @property
    def descriptor(self) -> int:
        """For a sync."""
        return self._out.fileno()

    def _begin(self) -> None:
        if not self._has_thread:
            self._has_thread = True
            Thread(target=self._run, name="evserve-fetch-lines", daemon=True).start()
        self._writing, self._waiting = self._waiting, []
        data, self._lines = b"".join(self._lines), []
        self._work.put(data)

    def _run(self) -> None:
        while (data := self._work.get()) is not None:
            error = _write(self._out, data, self._name)
            self._reactor.callFromThread(self._done, error)
        self._out.close()

    def _done(self, error: OSError | None) -> None:
        if self._error is not None:  # abandoned during the write
            return
        self._error = error
        done, self._writing = self._writing, []
        if error is not None:
            done += self._waiting
            self._lines, self._waiting = [], []
        elif self._waiting:
            self._begin()
        for on_done in done:
            on_done(error)


LineWriter = DirectWriter | BackgroundWriter


def line_writer(out: IO[bytes] | Any, reactor: Any, name: str = "standard output") -> LineWriter:
    """Return a writer for an open stream without a buffer; `name` is for errors."""
    mode = os.fstat(out.fileno()).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return BackgroundWriter(out, reactor, name)
    return DirectWriter(out, name)


def _write(out: IO[bytes], data: bytes, name: str) -> OSError | None:
    try:
        write_all(out, data, name)
    except OSError as error:
        return error
    return None
