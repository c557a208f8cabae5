"""Where lines go: a file takes them at once, a pipe when its reader gets to it.

A write to a full pipe waits, and a reactor that waits serves nobody: connections stand still,
deadlines pass. So a thread writes to pipes and sockets, and whoever gives lines is told when they
are written, and gives no more than it can bear to keep. A terminal that its user has stopped would
stop the log and the progress bar, too, so that a thread would help nobody there.
"""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any, Protocol

from attrs import define, field

from evserve.fetch.output.disk import Stream, is_file, open_stream, write_all


Done = Callable[[OSError | None], object]


class Outlet(Protocol):
    """Takes lines in order."""

    def write(self, data: bytes, done: Done) -> None:
        """Write, and call `done` with what went wrong, or None; maybe at once."""

    def give_up(self) -> None:
        """Wait for no reader any more: what is not written fails."""

    def close(self) -> None:
        """Close it; nothing is written any more."""

    @property
    def descriptor(self) -> int:
        """What a sync needs."""


def outlet(out: IO[bytes] | Any, reactor: Any, name: str = "standard output") -> Outlet:
    """Return the outlet for an open file without a buffer; errors have `name` as file name."""
    if _may_wait(out.fileno()):
        return Pipe(out, reactor, name)
    return File(out, name)


def _may_wait(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


@define(eq=False)
class File:
    """Writes at once: a line that was written survives the death of this process."""

    _out: IO[bytes]
    _name: str = "standard output"

    def write(self, data: bytes, done: Done) -> None:
        """See Outlet."""
        done(_error_of(self._out, data, self._name))

    def give_up(self) -> None:
        """See Outlet: nothing waits."""

    def close(self) -> None:
        """See Outlet."""
        self._out.close()

    @property
    def descriptor(self) -> int:
        """See Outlet."""
        return self._out.fileno()


@define(eq=False)
class Pipe:
    """Writes in a thread; what is given while it writes goes out together after that.

    After an error everything else fails, too. The thread ends with the process, which no reader
    who reads nothing can keep alive.
    """

    _out: IO[bytes]
    _reactor: Any
    _name: str = "standard output"
    _work: "SimpleQueue[bytes | None]" = field(factory=SimpleQueue, init=False)
    _has_thread: bool = field(default=False, init=False)
    _written: list[Done] = field(factory=list, init=False)  # told when the thread is done
    _lines: list[bytes] = field(factory=list, init=False)  # for the thread's next turn
    _waiting: list[Done] = field(factory=list, init=False)  # told after that
    _trouble: OSError | None = field(default=None, init=False)

    def write(self, data: bytes, done: Done) -> None:
        """See Outlet."""
        if self._trouble is not None:
            done(self._trouble)
            return
        self._lines.append(data)
        self._waiting.append(done)
        if not self._written:
            self._begin()

    def give_up(self) -> None:
        """See Outlet."""
        self._over(BrokenPipeError(errno.EPIPE, "nobody reads on", self._name))

    def close(self) -> None:
        """See Outlet; a thread that waits for a reader is left to the end of the process."""
        if self._has_thread:
            self._work.put(None)
        else:
            self._out.close()

    @property
    def descriptor(self) -> int:
        """See Outlet."""
        return self._out.fileno()

    def _begin(self) -> None:
        if not self._has_thread:
            self._has_thread = True
            Thread(target=self._run, name="evserve-fetch-lines", daemon=True).start()
        self._written, self._waiting = self._waiting, []
        data, self._lines = b"".join(self._lines), []
        self._work.put(data)

    def _run(self) -> None:
        while (data := self._work.get()) is not None:
            error = _error_of(self._out, data, self._name)
            self._reactor.callFromThread(self._over, error)
        self._out.close()

    def _over(self, error: OSError | None) -> None:
        if self._trouble is not None:  # given up meanwhile
            return
        self._trouble = error
        told, self._written = self._written, []
        if error is not None:
            told += self._waiting
            self._lines, self._waiting = [], []
        elif self._waiting:
            self._begin()
        for done in told:
            done(error)


def _error_of(out: Stream, data: bytes, name: str) -> OSError | None:
    """Write; return what went wrong."""
    try:
        write_all(out, data, name)
    except OSError as error:
        return error
    return None


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
