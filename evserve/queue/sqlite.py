"""The durable store: one SQLite file in WAL mode, one commit for a whole batch.

sqlite3 gives the interpreter lock up around every step of a statement, and getting it back from
a busy reactor is slow. So a batch is a handful of statements, not one per row: many-row INSERTs,
and one DELETE and one UPDATE that take their rows as JSON.
"""

import errno
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Any, Final, Self

from attrs import define, field
from twisted.logger import Logger

from evserve.queue.core import Book
from evserve.queue.model import Event, State
from evserve.queue.store import Batch, Outcome, PutRow, StoreError, Written


# "evsq" in ASCII; SQLite keeps it in the file's header, where file(1) and we can see it.
APPLICATION_ID: Final = 0x65767371
SCHEMA_VERSION: Final = 1

# The body comes last, so a pass over the index does not read the overflow pages of large bodies.
# No id comes twice, not even that of a deleted event: `next_id` is beyond all that were given. It
# is moved by thousands, because AUTOINCREMENT would write a page of its own with every commit.
TABLES: Final = """
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    tube TEXT NOT NULL,
    state INTEGER NOT NULL,
    pri INTEGER NOT NULL,
    delay INTEGER NOT NULL,
    ttr INTEGER NOT NULL,
    created REAL NOT NULL,
    due REAL NOT NULL,
    reserves INTEGER NOT NULL DEFAULT 0,
    timeouts INTEGER NOT NULL DEFAULT 0,
    releases INTEGER NOT NULL DEFAULT 0,
    buries INTEGER NOT NULL DEFAULT 0,
    kicks INTEGER NOT NULL DEFAULT 0,
    key TEXT,
    body BLOB NOT NULL
);
CREATE TABLE binding (
    source TEXT NOT NULL,
    target TEXT NOT NULL,
    PRIMARY KEY (source, target)
) WITHOUT ROWID;
CREATE TABLE next_id (value INTEGER NOT NULL);
INSERT INTO next_id VALUES (1);
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection that any one thread at a time may use."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=300
    )
    connection.execute("PRAGMA busy_timeout = 2000")
    connection.execute("PRAGMA cache_size = -8192")
    return connection


def lock_file(path: Path) -> int:
    """Claim the store for this process; returns the descriptor that holds the claim.

    The lock is on a file of its own: closing any other descriptor of the database would drop the
    locks SQLite has on it.
    """
    try:
        if path.exists() and not path.is_file():
            what = "a directory" if path.is_dir() else "no regular file"
            raise StoreError(f"cannot open store {path}: it is {what}")
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"cannot open store {path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreError(f"store {path} is in use by another server") from error
    return descriptor


def prepare(connection: sqlite3.Connection, path: Path, *, sync: str) -> None:
    """Check that the file is a store of ours, or make it one; raises StoreError, sqlite3.Error."""
    version = _pragma(connection, "user_version")
    if _pragma(connection, "schema_version") == 0:
        _create(connection)
    elif _pragma(connection, "application_id") != APPLICATION_ID:
        raise StoreError(f"cannot open store {path}: it is another program's SQLite database")
    elif version > SCHEMA_VERSION:
        raise StoreError(
            f"cannot open store {path}: it has schema version {version}, newer than this "
            f"evserve knows ({SCHEMA_VERSION}); run the evserve that wrote it"
        )
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(f"cannot open store {path}: its disk does not support WAL mode")
    connection.execute(f"PRAGMA synchronous = {sync}")
    # A write, so that a file which can only be read is refused now and not at the first put.
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.executescript(
        f"BEGIN; PRAGMA application_id = {APPLICATION_ID};"
        f"PRAGMA user_version = {SCHEMA_VERSION}; {TABLES} COMMIT;"
    )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


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


# Seconds between looks: a commit takes a tenth of a millisecond, and should go on doing so.
_EVERY: Final = 1.0


@define(eq=False, repr=False)
class Presence:
    """Remembers which file is at `path`. now: the time in seconds, from any start."""

    path: Path
    now: Callable[[], float] = monotonic
    _file: tuple[int, int] | None = field(default=None, init=False)
    _looked: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._file, self._looked = self._found(), self.now()

    def _found(self) -> tuple[int, int] | None:
        try:
            about = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # it cannot be seen now, which says nothing
            return self._file
        return about.st_dev, about.st_ino

    def is_lost(self) -> bool:
        """Look, if the last look was a while ago; True if another file is there, or none."""
        now = self.now()
        if now - self._looked < _EVERY:
            return False
        if self._found() != self._file:
            return True
        self._looked = now
        return False


_log = Logger()

_PUT: Final = (
    "INSERT INTO event (id, tube, state, pri, delay, ttr, created, due, key, body) VALUES "
)
_PUT_ROW: Final = "(?,?,?,?,?,?,?,?,?,?)"
_MOST_ROWS: Final = 1000
_NEXT_ID: Final = "UPDATE next_id SET value = ?"
_IDS_AT_ONCE: Final = 10_000
_BIND: Final = "INSERT OR IGNORE INTO binding VALUES (?, ?)"
_UNBIND: Final = "DELETE FROM binding WHERE source = ? AND target = ?"
_DELETE: Final = "DELETE FROM event WHERE id IN (SELECT value FROM json_each(?))"
_UPDATE: Final = """
UPDATE event SET
    state = json_extract(row.value, '$[1]'), pri = json_extract(row.value, '$[2]'),
    delay = json_extract(row.value, '$[3]'), due = json_extract(row.value, '$[4]'),
    reserves = json_extract(row.value, '$[5]'), timeouts = json_extract(row.value, '$[6]'),
    releases = json_extract(row.value, '$[7]'), buries = json_extract(row.value, '$[8]'),
    kicks = json_extract(row.value, '$[9]')
FROM json_each(?) AS row WHERE event.id = json_extract(row.value, '$[0]')
"""
# Most events of a large store are as they were put: half of the columns say nothing about them,
# and it is columns that reading a million rows into Python costs.
_UNTOUCHED: Final = """
state = 0 AND key IS NULL AND reserves + timeouts + releases + buries + kicks = 0
"""
_LOAD_UNTOUCHED: Final = f"""
SELECT id, tube, pri, delay, ttr, created, length(body) FROM event WHERE {_UNTOUCHED} ORDER BY id
"""  # noqa: S608 - constants
_LOAD_REST: Final = f"""
SELECT id, tube, pri, delay, ttr, created, length(body), key, state, due,
    reserves, timeouts, releases, buries, kicks
FROM event WHERE NOT ({_UNTOUCHED}) ORDER BY id
"""  # noqa: S608 - constants
# Every so many commits the file is looked at, and shrunk by some pages if much of it is unused.
_VACUUM_EVERY: Final = 256
_VACUUM_PAGES: Final = 512


@define(eq=False, repr=False)
class SQLiteStore:
    """See Store. `write` and `load` belong to the writer thread, `body` to the reactor's."""

    path: Path
    _lock: int
    _writer: sqlite3.Connection
    _reader: sqlite3.Connection
    _room: Room
    _presence: Presence
    _commits: int = field(default=0, init=False)
    _next_id: int = field(default=1, init=False)
    _last_id: int = field(default=1, init=False)
    durable: bool = field(default=True, init=False)

    @classmethod
    def open(cls, path: Path, *, sync: str = "full") -> Self:
        """Open or make the store at `path`; sync: "full" or "normal". Raises StoreError."""
        lock = lock_file(path)
        try:
            return cls._open(path, lock, sync)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def _open(cls, path: Path, lock: int, sync: str) -> Self:
        try:
            writer = connect(path)
            prepare(writer, path, sync=sync)
            reader = connect(path)
            place = path.absolute()  # the process may go elsewhere
            return cls(path, lock, writer, reader, Room(place, writer), Presence(place))
        except sqlite3.Error as error:
            raise StoreError(f"cannot open store {path}: {error}") from error
        except OSError as error:
            cause = f"{error.strerror} ({error.filename})"
            raise StoreError(f"cannot open store {path}: {cause}") from error

    def load(self, book: Book) -> None:
        """See Store."""
        execute = self._writer.execute
        try:
            for source, target in execute("SELECT source, target FROM binding"):
                book.bind(source, target)
            book.load(_untouched(book, execute(_LOAD_UNTOUCHED)))
            book.load(_rest(book, execute(_LOAD_REST)))
            book.sort()
            next_id: int = execute("SELECT value FROM next_id").fetchone()[0]
        except (sqlite3.Error, IndexError, TypeError) as error:
            raise StoreError(f"cannot read store {self.path}: {error}") from error
        self._next_id = self._last_id = book.next_id = next_id

    def write(self, batch: Batch) -> Written:
        """See Store."""
        started = time.perf_counter()
        if self._presence.is_lost():
            _log.error("store {path} was deleted, moved or replaced", path=str(self.path))
            return Written(Outcome.BROKEN, Outcome.BROKEN)
        puts = self._try(batch, with_puts=True) if self._has_room(batch) else Outcome.FULL
        if puts is Outcome.FULL and not self._room.short:
            self._room.ran_out()
            if self._has_room(batch):
                puts = self._try(batch, with_puts=True)
                if puts is Outcome.FULL:
                    self._room.ran_out()
        rest = puts
        if puts is Outcome.FULL and batch.rows > len(batch.puts):
            rest = self._try(batch, with_puts=False)
        return Written(puts, rest, time.perf_counter() - started)

    def _has_room(self, batch: Batch) -> bool:
        if batch.puts:
            self._room.look()
        return not (batch.puts and self._room.short)

    def _try(self, batch: Batch, *, with_puts: bool) -> Outcome:
        statements = list(_statements(batch, with_puts=with_puts))
        next_id = self._next_id
        if batch.puts and batch.puts[-1][0] >= next_id:
            next_id = batch.puts[-1][0] + _IDS_AT_ONCE
            statements.append((_NEXT_ID, (next_id,)))
        if len(statements) > 1:  # one alone is a transaction by itself
            statements = [("BEGIN IMMEDIATE", ()), *statements, ("COMMIT", ())]
        try:
            for statement, values in statements:
                self._writer.execute(statement, values)
        except sqlite3.Error as error:
            return self._failed(error)
        self._commits += 1
        self._next_id = next_id
        if batch.puts:
            self._last_id = batch.puts[-1][0] + 1
        return Outcome.COMMITTED

    def _failed(self, error: sqlite3.Error) -> Outcome:
        """Roll back; tell a disk without room, which mends itself, from one that is broken."""
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error as another:
            error = another
        if self._room.caused(error):
            return Outcome.FULL
        _log.error("store {path} failed: {error}", path=str(self.path), error=error)
        return Outcome.BROKEN

    def tidy(self) -> None:
        """Give unused pages back to the disk, some at a time; called between batches."""
        if self._commits % _VACUUM_EVERY:
            return
        self._room.grow()
        try:
            free = self._writer.execute("PRAGMA freelist_count").fetchone()[0]
            pages = self._writer.execute("PRAGMA page_count").fetchone()[0]
            if free > _VACUUM_PAGES and 4 * free > pages:
                vacuum(self._writer, _VACUUM_PAGES)
        except sqlite3.Error as error:
            _log.warn(
                "store {path} could not be shrunk: {error}", path=str(self.path), error=error
            )

    def body(self, event_id: int) -> bytes:
        """See Store."""
        try:
            row = self._reader.execute(
                "SELECT body FROM event WHERE id = ?", (event_id,)
            ).fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"cannot read event {event_id} of {self.path}: {error}") from error
        if row is None:
            raise StoreError(f"event {event_id} is missing from {self.path}")
        return bytes(row[0])

    def _give_ids_back(self) -> None:
        """Let the next server go on where this one ends, unless it ends by accident."""
        if self._last_id < self._next_id:
            with suppress(sqlite3.Error):
                self._writer.execute(_NEXT_ID, (self._last_id,))

    def close(self) -> None:
        """See Store."""
        self._reader.close()
        self._give_ids_back()
        self._writer.close()
        self._room.let_go()
        os.close(self._lock)


def _statements(batch: Batch, *, with_puts: bool) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for rows in _batched(batch.puts) if with_puts else ():
        yield _put_statement(len(rows)), tuple(chain.from_iterable(rows))
    if batch.updates:
        yield _UPDATE, (json.dumps(batch.updates),)
    if batch.deletes:
        yield _DELETE, (json.dumps(batch.deletes),)
    for binding in batch.bindings:
        yield _BIND if binding.bound else _UNBIND, (binding.source, binding.target)


def _batched(rows: list[PutRow]) -> Iterator[list[PutRow]]:
    """Split what a fan-out multiplied: a statement takes 32,766 values."""
    for start in range(0, len(rows), _MOST_ROWS):
        yield rows[start : start + _MOST_ROWS]


@cache
def _put_statement(rows: int) -> str:
    return _PUT + ",".join([_PUT_ROW] * rows)


def _untouched(book: Book, rows: Iterable[tuple[Any, ...]]) -> Iterator[Event]:
    tubes = book.tubes
    for event_id, name, pri, delay, ttr, created, size in rows:
        tube = tubes.get(name) or book.tube(name)
        yield Event(event_id, tube, pri, delay, ttr, created, size, None)


def _rest(book: Book, rows: Iterable[tuple[Any, ...]]) -> Iterator[Event]:
    states = tuple(State)
    for event_id, name, pri, delay, ttr, created, size, key, state, due, *counts in rows:
        place = (key, states[state], due, None)
        tube = book.tube(name)
        yield Event(event_id, tube, pri, delay, ttr, created, size, None, *place, *counts)
