"""Room on the disk: kept in reserve, so that a full disk can still be worked off.

Deleting needs room too: it writes to SQLite's journal, and a checkpoint may have to let the
database grow before the journal can be used again. So the store holds a file of nothing beside
itself, as large as the journal gets, and lets it go when the disk is full. Until it can hold that
file again, no events are put.
"""

import errno
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from attrs import define, field


PAGE: Final = 4096
# The ballast is so many bytes, or this part of the free space where there is little.
MOST: Final = 1024 * PAGE
PART: Final = 8

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MAYBE_NO_ROOM: Final = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)


@define(eq=False, repr=False)
class Room:
    """Knows whether there is room for puts. `path` is the database's, `writer` its connection."""

    path: Path
    writer: sqlite3.Connection
    short: bool = field(default=False, init=False)
    _ballast: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._file.unlink(missing_ok=True)
        self._make()

    def _make(self) -> None:
        self._ballast = self._affordable()
        while not self._hold():  # a quota, or a limit on files, that statvfs does not know
            self._ballast //= 2
        self._limit_journal()

    def _limit_journal(self) -> None:
        pages = max(self._ballast // PAGE, 16)
        self.writer.execute(f"PRAGMA wal_autocheckpoint = {pages}")

    def _affordable(self) -> int:
        about = os.statvfs(self.path.parent)
        return min(MOST, (about.f_bavail * about.f_frsize + self._ballast) // PART)

    def grow(self) -> None:
        """Hold twice as much if there is room for that: a server may start on a full disk."""
        wanted = 2 * max(self._ballast, PAGE)
        with suppress(OSError, sqlite3.Error):
            if not self.short and wanted <= self._affordable():
                self._extend(self._ballast, wanted)
                self._ballast = wanted
                self._limit_journal()

    def _extend(self, size: int, wanted: int) -> None:
        """Make the file `wanted` bytes long, or leave it at `size`; raises OSError."""
        with self._file.open("ab") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, wanted)
            except OSError:
                os.ftruncate(file.fileno(), size)
                raise

    @property
    def _file(self) -> Path:
        return Path(f"{self.path}-ballast")

    def _hold(self) -> bool:
        if self._ballast < PAGE:
            return True
        try:
            self._extend(0, self._ballast)
        except OSError:
            self._file.unlink(missing_ok=True)
            return False
        return True

    def let_go(self) -> None:
        """Give the ballast back for good: the store is being closed."""
        with suppress(OSError):  # the next server tries again
            self._file.unlink(missing_ok=True)

    def ran_out(self) -> None:
        """Make what room there is: the disk is full."""
        self.short = True
        self._file.unlink(missing_ok=True)
        self._shrink()

    def look(self) -> None:
        """Try to have the ballast back: there are events to be put."""
        if self.short:
            self._shrink()
            self.short = not self._hold()

    def _shrink(self) -> None:
        try:
            vacuum(self.writer, 1024)
            self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error:
            return  # whoever writes next will hear of it

    def caused(self, error: sqlite3.Error) -> bool:
        """Whether `error` is for want of room. SQLite hides the errno of quotas and limits."""
        code = getattr(error, "sqlite_errorcode", 0)
        return code == sqlite3.SQLITE_FULL or (code in _MAYBE_NO_ROOM and self._cannot_grow())

    def _cannot_grow(self) -> bool:
        """Whether a file as long as the longer one of the store can't grow."""
        probe = Path(f"{self.path}-probe")
        files = (self.path, Path(f"{self.path}-wal"))
        size = max(file.stat().st_size for file in files if file.exists())
        try:
            with probe.open("wb", buffering=0) as file:
                file.seek(size)
                file.write(bytes(16 * PAGE))
                os.fsync(file.fileno())
        except OSError as error:
            return error.errno in _NO_ROOM
        finally:
            probe.unlink(missing_ok=True)
        return False


def vacuum(connection: sqlite3.Connection, pages: int) -> None:
    """Give up to `pages` unused pages back to the disk; outside of a transaction."""
    # As a script, because Python 3.11 ends other statements without columns after one page.
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")
