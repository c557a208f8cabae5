"""The durable store: one SQLite file in WAL mode, one commit for a whole batch.

sqlite3 releases the interpreter lock around every step of a statement, and getting it back from a
busy reactor is slow. So a batch is a handful of statements, not one per row: many-row INSERTs,
and one DELETE and one UPDATE that take their rows as JSON.
"""

import errno
import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from threading import Lock
from time import monotonic, perf_counter, time
from typing import Any, Final, Self
from zlib import crc32

from attrs import define, field
from twisted.logger import Logger
from typing_extensions import override

from evserve.queue.core import Change, Core
from evserve.queue.store import (
    BATCH_BYTES,
    BATCH_ROWS,
    Batch,
    DamagedEventError,
    Kept,
    OutboxRow,
    Outcome,
    Store,
    StoreError,
    WriteResult,
    listed,
)


_log = Logger()

# "evsq" in ASCII, in the file's header, where file(1) can show it.
_APPLICATION_ID: Final = 0x65767371
_SCHEMA_VERSION: Final = 3

# The body comes behind what a start reads, so that this skips the overflow pages of large bodies.
# The checksum is NULL for events that schema version 1 stored.
# No id is given twice, not even that of a deleted event: `next_id` is beyond all that were given.
# It is moved by thousands, because AUTOINCREMENT would write a page of its own in every commit.
_SINCE_VERSION_3: Final = """
CREATE TABLE sequence (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE handled (
    serial INTEGER PRIMARY KEY,
    id INTEGER NOT NULL,
    tube TEXT NOT NULL,
    pri INTEGER NOT NULL,
    delay INTEGER NOT NULL,
    ttr INTEGER NOT NULL,
    created REAL NOT NULL,
    reserves INTEGER NOT NULL,
    timeouts INTEGER NOT NULL,
    releases INTEGER NOT NULL,
    buries INTEGER NOT NULL,
    kicks INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    result BLOB NOT NULL,
    error TEXT NOT NULL,
    reserved_at REAL NOT NULL,
    settled_at REAL NOT NULL,
    expires REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX handled_by_tube ON handled (tube);
CREATE INDEX handled_by_expiry ON handled (expires);
"""
_TABLES: Final = """
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
    body BLOB NOT NULL,
    checksum INTEGER
);
CREATE TABLE binding (
    source TEXT NOT NULL,
    target TEXT NOT NULL,
    PRIMARY KEY (source, target)
) WITHOUT ROWID;
CREATE TABLE next_id (value INTEGER NOT NULL);
INSERT INTO next_id VALUES (1);
"""
# What any program may insert into, so it is checked here. The core never sees an invalid row.
_OUTBOX: Final = """
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    type TEXT NOT NULL CHECK (
        typeof(type) = 'text' AND length(type) BETWEEN 1 AND 200 AND instr(type, char(0)) = 0
        AND type NOT GLOB '*[^-A-Za-z0-9+/;.$_()]*' AND type NOT GLOB '-*'
    ),
    body BLOB NOT NULL CHECK (
        typeof(body) IN ('blob', 'text') AND length(CAST(body AS BLOB)) <= 536870912
    ),
    priority INTEGER NOT NULL DEFAULT 1024 CHECK (
        typeof(priority) = 'integer' AND priority BETWEEN 0 AND 4294967295
    ),
    delay REAL NOT NULL DEFAULT 0 CHECK (
        typeof(delay) = 'real' AND delay BETWEEN 0 AND 4294967295
    ),
    ttr INTEGER NOT NULL DEFAULT 60 CHECK (
        typeof(ttr) = 'integer' AND ttr BETWEEN 1 AND 4294967295
    ),
    key TEXT CHECK (
        key IS NULL OR typeof(key) = 'text' AND length(key) BETWEEN 1 AND 200
        AND instr(key, char(0)) = 0
        AND key NOT GLOB '*[^-A-Za-z0-9+/;.$_()]*' AND key NOT GLOB '-*'
    ),
    put_at REAL NOT NULL DEFAULT ((julianday('now') - 2440587.5) * 86400.0) CHECK (
        typeof(put_at) = 'real'
    ),
    event_id INTEGER CHECK (event_id IS NULL OR typeof(event_id) = 'integer')
);
"""
# What makes a store of each older version one of the next.
_MIGRATIONS: Final = {
    1: "ALTER TABLE event ADD COLUMN checksum INTEGER;",
    2: _SINCE_VERSION_3 + _OUTBOX,
}

_PUT: Final = (
    "INSERT INTO event "
    "(id, tube, state, pri, delay, ttr, created, due, key, body, checksum) VALUES "
)
_PUT_ROW: Final = "(?,?,?,?,?,?,?,?,?,?,?)"
_MAX_PUT_ROWS: Final = 1000  # of one statement, which takes 32,766 values
_NEXT_ID: Final = "UPDATE next_id SET value = ?"
_IDS_AT_ONCE: Final = 10_000
_BIND: Final = "INSERT OR IGNORE INTO binding VALUES (?, ?)"
_UNBIND: Final = "DELETE FROM binding WHERE source = ? AND target = ?"
_ADVANCE: Final = "INSERT OR REPLACE INTO sequence VALUES (?, ?)"
# A body that is not in memory comes from the event's row; a row that lacks both is ignored. The
# event of a transaction has no row any more.
_KEPT: Final = ", ".join(Kept._fields)
_KEEP: Final = (
    f"WITH row ({_KEPT}) AS (VALUES {{}}) "  # noqa: S608 - constants
    f"INSERT OR IGNORE INTO handled ({_KEPT}) "
    f"SELECT {', '.join(f'row.{name}' for name in Kept._fields[:-1])}, "
    "coalesce(row.body, event.body) FROM row LEFT JOIN event ON event.id = row.id"
)
_KEEP_ROW: Final = f"({','.join('?' * len(Kept._fields))})"
_HISTORY: Final = f"SELECT {_KEPT} FROM handled WHERE +expires > ?"  # noqa: S608
_EXPIRE: Final = """
DELETE FROM handled WHERE serial IN
    (SELECT serial FROM handled WHERE expires <= ? ORDER BY expires LIMIT ?)
"""
_DELETE: Final = "DELETE FROM event WHERE id IN (SELECT value FROM json_each(?))"
_TAKE: Final = "DELETE FROM outbox WHERE id IN (SELECT value FROM json_each(?))"
_READ_OUTBOX: Final = """
SELECT id, event_id, type, CAST(body AS BLOB), priority, delay, ttr, key, put_at
FROM outbox ORDER BY id LIMIT ?
"""
_PROMISED_ID: Final = "SELECT max(event_id) FROM outbox WHERE event_id < 1 << 62"
_UPDATE: Final = """
UPDATE event SET
    state = json_extract(row.value, '$[1]'), pri = json_extract(row.value, '$[2]'),
    delay = json_extract(row.value, '$[3]'), due = json_extract(row.value, '$[4]'),
    reserves = json_extract(row.value, '$[5]'), timeouts = json_extract(row.value, '$[6]'),
    releases = json_extract(row.value, '$[7]'), buries = json_extract(row.value, '$[8]'),
    kicks = json_extract(row.value, '$[9]')
FROM json_each(?) AS row WHERE event.id = json_extract(row.value, '$[0]')
"""
# Most events of a large store are as they were put: most of the columns say nothing about them,
# and reading a million rows into Python costs by the column.
_UNCHANGED: Final = """
state = 0 AND delay = 0 AND key IS NULL AND reserves + timeouts + releases + buries + kicks = 0
"""
_LOAD_UNCHANGED: Final = f"""
SELECT id, tube, pri, ttr, created, length(body) FROM event WHERE {_UNCHANGED} ORDER BY id
"""  # noqa: S608 - constants
_LOAD_CHANGED: Final = f"""
SELECT id, tube, pri, ttr, created, length(body), key, state, delay, due,
    reserves, timeouts, releases, buries, kicks
FROM event WHERE NOT ({_UNCHANGED}) ORDER BY id
"""  # noqa: S608 - constants

# So many rows of the history that have expired are deleted at once, and when there are no more, so
# many seconds pass before the next look.
_EXPIRE_ROWS: Final = 500
_EXPIRE_INTERVAL: Final = 1.0

# Every so many commits, the file is shrunk by up to so many pages if much of it is unused.
_VACUUM_COMMITS: Final = 256
_VACUUM_PAGES: Final = 512
# On a full disk it is shrunk by fewer pages at a time: each may cost four in the WAL.
_VACUUM_STEP: Final = 64

_PAGE: Final = 4096
# The size of the disk reserve; at most one part in so many of the space that a store could have.
MAX_RESERVE: Final = 2048 * _PAGE
_RESERVE_PART: Final = 8
# Bytes that must be free beside the reserve for events to be put again.
_ROOM: Final = 32 * _PAGE

# The page cache of a connection; a negative number is KiB.
_CACHE: Final = "PRAGMA cache_size = -8192"

# Milliseconds that a statement waits for another program's lock.
_BUSY_TIMEOUT: Final = 2000

# Seconds that the writer waits for a handler's transaction, and one of these for another.
TURN_TIMEOUT: Final = 10.0

# Seconds between two looks at a file's identity, which would slow down every commit.
_IDENTITY_INTERVAL: Final = 1.0

_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MAYBE_NO_SPACE: Final = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)

# Primary codes of errors that come before anything is written, and pass.
_PASSING: Final = (
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL),
    *(sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_NOMEM),
)
_PASSING_IO: Final = (sqlite3.SQLITE_IOERR_NOMEM, sqlite3.SQLITE_IOERR_BLOCKED)
# Errors of one page.
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_DAMAGE_IO: Final = (
    *(sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ),
    sqlite3.SQLITE_IOERR_CORRUPTFS,
)


@define(eq=False, repr=False)
class SQLiteStore(Store):
    """A store in a file. Only the writer thread uses `_writer`, only the reactor's `_reader`.

    turn: held by who writes, the writer thread or a handler's transaction. SQLite has a lock of
    its own, but those who wait for that try again after pauses, and give up.
    now: the time in seconds since the epoch, by which the history expires.
    """

    path: Path
    _lock: int
    _writer: sqlite3.Connection
    _reader: sqlite3.Connection
    _reserve: "DiskReserve"
    _identity: "FileIdentity"
    _commits: int = field(default=0, init=False)
    _next_id: int = field(default=1, init=False)
    _last_id: int = field(default=1, init=False)
    _cause: str = field(default="", init=False)
    _has_history: bool = field(default=True, init=False)
    _next_expiry: float = field(default=0.0, init=False)
    _forgets: bool = field(default=False, init=False)
    now: Callable[[], float] = field(default=time, kw_only=True)
    durable: bool = field(default=True, init=False)
    has_outbox: bool = field(default=True, init=False)
    heartbeat: float | None = field(default=None, init=False)
    turn: Lock = field(factory=Lock, init=False)

    @classmethod
    def open(cls, path: Path, *, sync: str = "full") -> Self:
        """Open or create the store at `path`; sync: "full" or "normal". Raises StoreError."""
        lock = _lock(path)
        try:
            absolute = path.absolute()  # because the process may change its folder
            left = _remove_reserve(absolute)  # first: the disk may be full
            writer = _connect(path)
            _prepare(writer, path, sync=sync)
            reader = _connect(path)
            reserve, identity = DiskReserve(absolute, writer, left), FileIdentity(absolute)
            return cls(path, lock, writer, reader, reserve, identity)
        except BaseException as error:
            os.close(lock)
            if isinstance(error, sqlite3.Error):
                hint = " (its disk is full: free some space)" if _is_full(path) else ""
                raise StoreError(f"cannot open store {path}: {error}{hint}") from error
            if isinstance(error, OSError):
                cause = f"{error.strerror} ({error.filename})"
                raise StoreError(f"cannot open store {path}: {cause}") from error
            raise

    @override
    def load(self, core: Core) -> None:
        execute = self._writer.execute
        try:
            for source, target in execute("SELECT source, target FROM binding"):
                core.bind(source, target)
            core.sequences.update(execute("SELECT name, number FROM sequence"))
            core.load_unchanged(execute(_LOAD_UNCHANGED))
            core.load_changed(execute(_LOAD_CHANGED))
            core.finish_loading()
            next_id: int = execute("SELECT value FROM next_id").fetchone()[0]
            promised: int = execute(_PROMISED_ID).fetchone()[0] or 0
        except (sqlite3.Error, IndexError, TypeError, ValueError, OverflowError) as error:
            raise StoreError(f"cannot read store {self.path}: {error}") from error
        self._next_id = self._last_id = next_id
        core.next_id = max(next_id, promised + 1)

    @override
    def write(self, batch: Batch) -> WriteResult:
        if not self.turn.acquire(timeout=TURN_TIMEOUT):
            cause = f"{self.path}: a handler's transaction takes more than {TURN_TIMEOUT} seconds"
            return WriteResult(Outcome.BUSY, Outcome.BUSY, cause=cause)
        try:
            return self._write(batch)
        finally:
            self.turn.release()

    def _write(self, batch: Batch) -> WriteResult:
        started = perf_counter()
        if self._identity.has_changed():
            self._cause = f"{self.path} was deleted, moved or replaced"
            return WriteResult(Outcome.BROKEN, Outcome.BROKEN, cause=self._cause)
        grows = batch.puts or batch.kept
        puts = self._try(batch, with_puts=True) if self._has_room(batch) else Outcome.FULL
        if puts is Outcome.FULL and grows and not self._reserve.is_released:
            # The WAL and the database's unused pages may be what fills the disk.
            self._reserve.release()
            if self._has_room(batch):
                puts = self._try(batch, with_puts=True)
                if puts is Outcome.FULL:
                    self._reserve.release()
        rest = puts
        if puts is Outcome.FULL and batch.rows > len(batch.puts) + len(batch.taken):
            rest = self._try(batch, with_puts=False)
            if rest is Outcome.FULL:
                self._reserve.release()
                rest = self._try(batch, with_puts=False)
        if puts in (Outcome.COMMITTED, Outcome.FULL):
            self._tell_kept(batch, kept=puts is Outcome.COMMITTED)
        return WriteResult(puts, rest, perf_counter() - started, self._cause)

    def _tell_kept(self, batch: Batch, *, kept: bool) -> None:
        """Log when the history begins to forget, because the disk is full, and when it ends."""
        if batch.kept and self._forgets is kept:
            self._forgets = not kept
            if kept:
                _log.info("store {path}: keeps what was handled again", path=str(self.path))
            else:
                _log.warn(
                    "store {path}: full, so what is handled now is not kept in the history",
                    path=str(self.path),
                )

    def _has_room(self, batch: Batch) -> bool:
        """Whether the events of `batch` can be put and kept without using the disk reserve."""
        return not (batch.puts or batch.kept) or self._reserve.leaves_room(batch.size)

    def _try(self, batch: Batch, *, with_puts: bool) -> Outcome:
        statements = list(_statements(batch, with_puts=with_puts))
        next_id = self._next_id
        highest = max([put.event.id for put in batch.puts], default=0)
        if highest >= next_id:
            next_id = highest + _IDS_AT_ONCE
            statements.append((_NEXT_ID, (next_id,)))
        if len(statements) != 1:  # one alone is a transaction by itself
            statements = [("BEGIN IMMEDIATE", ()), *statements, ("COMMIT", ())]
        try:
            for statement, values in statements:
                self._writer.execute(statement, values)
        except (sqlite3.Error, MemoryError) as error:
            return self._failed(error)
        self._commits += 1
        self._has_history = self._has_history or bool(batch.kept)
        self._next_id = next_id
        self._last_id = max(self._last_id, highest + 1)
        return Outcome.COMMITTED

    def _failed(self, error: sqlite3.Error | MemoryError) -> Outcome:
        """Roll back; tell what can pass, such as a full disk, from a broken store."""
        with suppress(sqlite3.Error, MemoryError):
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        self._cause = f"{self.path}: {error or 'out of memory'}"
        if self._writer.in_transaction:  # it would take in the next statement
            return Outcome.BROKEN
        if self._reserve.is_space_error(error):
            return Outcome.FULL
        if _is_damage(error):
            return Outcome.DAMAGED
        return Outcome.BUSY if _is_passing(error) else Outcome.BROKEN

    @override
    def maintain(self) -> None:
        if self.turn.acquire(blocking=False):
            try:
                self._maintain()
            finally:
                self.turn.release()

    def _maintain(self) -> None:
        if self._has_history and (now := self.now()) >= self._next_expiry:
            self._expire(now)
        if self._commits % _VACUUM_COMMITS:
            return
        self._reserve.grow()
        try:
            free = self._writer.execute("PRAGMA freelist_count").fetchone()[0]
            pages = self._writer.execute("PRAGMA page_count").fetchone()[0]
            if free > _VACUUM_PAGES and 4 * free > pages:
                _vacuum(self._writer, _VACUUM_STEP if self._reserve.is_released else _VACUUM_PAGES)
        except sqlite3.Error as error:
            _log.warn("store {path}: not shrunk: {error}", path=str(self.path), error=error)

    def _expire(self, now: float) -> None:
        """Delete some of what has expired."""
        self._next_expiry = now + _EXPIRE_INTERVAL
        try:
            found = self._writer.execute("SELECT min(expires) FROM handled").fetchone()[0]
            self._has_history = found is not None
            if found is not None and found <= now:
                done = self._writer.execute(_EXPIRE, (now, _EXPIRE_ROWS)).rowcount
                if done == _EXPIRE_ROWS:
                    self._next_expiry = now
        except sqlite3.Error as error:
            _log.warn(
                "store {path}: the history is not shortened: {error}",
                path=str(self.path),
                error=error,
            )

    @override
    def history(self, tube: str | None, most: int, now: float) -> list[Kept]:
        where, values = (" AND tube = ?", (now, tube)) if tube is not None else ("", (now,))
        try:
            rows = self._reader.execute(f"{_HISTORY}{where} ORDER BY serial DESC", values)
            return listed(map(Kept._make, rows), most)
        except (sqlite3.Error, MemoryError) as error:
            raise StoreError(f"cannot read the history of {self.path}: {error}") from error

    @override
    def body(self, event_id: int) -> bytes:
        try:
            row = self._reader.execute(
                "SELECT body, checksum FROM event WHERE id = ?", (event_id,)
            ).fetchone()
        except (sqlite3.Error, MemoryError) as error:
            kind = DamagedEventError if _is_damage(error) else StoreError
            raise kind(f"cannot read event {event_id} of {self.path}: {error}") from error
        if row is None:
            raise DamagedEventError(f"event {event_id} is missing from {self.path}")
        body = row[0]
        if not isinstance(body, bytes) or row[1] not in (None, checksum(event_id, body)):
            raise DamagedEventError(
                f"the body of event {event_id} in {self.path} is not what was put"
            )
        return body

    @override
    def outbox(self) -> list[OutboxRow]:
        rows: list[OutboxRow] = []
        size = 0
        try:
            with closing(self._reader.execute(_READ_OUTBOX, (BATCH_ROWS,))) as found:
                for each in found:
                    rows.append(OutboxRow(*each))
                    size += len(rows[-1].body)
                    if size > BATCH_BYTES:
                        break
        except (sqlite3.Error, MemoryError) as error:
            raise StoreError(f"cannot read the outbox of {self.path}: {error}") from error
        return rows

    @override
    def close(self) -> None:
        self._reader.close()
        if self._last_id < self._next_id:
            with suppress(sqlite3.Error):  # or the next server skips some ids
                self._writer.execute(_NEXT_ID, (self._last_id,))
        self._writer.close()
        self._reserve.remove()
        os.close(self._lock)


def _code(error: BaseException) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code


def _is_passing(error: BaseException) -> bool:
    code = _code(error)
    return isinstance(error, MemoryError) or code & 0xFF in _PASSING or code in _PASSING_IO


def _is_damage(error: BaseException) -> bool:
    code = _code(error)
    return code & 0xFF in _DAMAGE or code in _DAMAGE_IO


def _statements(batch: Batch, *, with_puts: bool) -> Iterator[tuple[str, Sequence[Any]]]:
    for start in range(0, len(batch.puts) if with_puts else 0, _MAX_PUT_ROWS):
        puts = batch.puts[start : start + _MAX_PUT_ROWS]
        yield _put_statement(len(puts)), _put_values(puts)
    if batch.taken and with_puts:
        yield _TAKE, (json.dumps(batch.taken),)
    if batch.kept and with_puts:
        values = [value for row in batch.kept for value in row]
        yield _keep_statement(len(batch.kept)), values
    for advance in batch.advances:
        if with_puts or not advance.with_put:
            yield _ADVANCE, (advance.sequence, advance.number)
    if batch.updates:
        yield _UPDATE, (json.dumps(batch.updates),)
    if batch.deletes:
        yield _DELETE, (json.dumps(batch.deletes),)
    for binding in batch.bindings:
        yield _BIND if binding.bound else _UNBIND, (binding.source, binding.target)


def _put_values(puts: Iterable[Change]) -> list[Any]:
    values: list[Any] = []
    for put in puts:
        event = put.event
        body = event.body or b""
        values += (
            event.id,
            event.tube.name,
            int(event.state),
            event.pri,
            put.delay,
            event.ttr,
            event.created,
            put.due,
            event.key,
            body,
            checksum(event.id, body),
        )
    return values


def checksum(event_id: int, body: bytes) -> int:
    """Return what is kept beside a body; another event's body has another."""
    return crc32(body, event_id & 0xFFFFFFFF)


@cache
def _put_statement(rows: int) -> str:
    return _PUT + ",".join([_PUT_ROW] * rows)


@cache
def _keep_statement(rows: int) -> str:
    return _KEEP.format(",".join([_KEEP_ROW] * rows))


# Opening a store: every error is one line.


def _lock(path: Path) -> int:
    """Lock the store for this process; returns the descriptor that holds the lock.

    The lock is on a file of its own: closing any other descriptor of the database would drop the
    locks SQLite has on it.
    """
    try:
        if path.exists() and not path.is_file():
            what = "a directory" if path.is_dir() else "not a regular file"
            raise StoreError(f"cannot open store {path}: it is {what}")
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"cannot open store {path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreError(f"store {path} is in use by another process") from error
    return descriptor


def _is_full(path: Path) -> bool:
    """Whether the disk has no room for the files of an open store."""
    disk = os.statvfs(path.parent)
    return disk.f_bavail * disk.f_frsize < _ROOM


def _connect(path: Path) -> sqlite3.Connection:
    """Open a connection that any one thread at a time may use."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=300
    )
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT}")
    connection.execute(_CACHE)
    connection.execute("PRAGMA temp_store = MEMORY")  # the disk of temporary files may be full
    connection.execute(f"PRAGMA journal_size_limit = {MAX_RESERVE}")
    # Debian's SQLite overwrites every page that becomes unused: 15 for a body of 60,000 bytes.
    connection.execute("PRAGMA secure_delete = FAST")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, *, sync: str) -> None:
    """Check that the file is a store, or make it one; raises StoreError, sqlite3.Error."""
    version = _pragma(connection, "user_version")
    if _pragma(connection, "schema_version") == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.executescript(
            f"BEGIN; PRAGMA application_id = {_APPLICATION_ID};"
            f"PRAGMA user_version = {_SCHEMA_VERSION};"
            f"{_TABLES} {_SINCE_VERSION_3} {_OUTBOX} COMMIT;"
        )
    elif _pragma(connection, "application_id") != _APPLICATION_ID:
        raise StoreError(f"cannot open store {path}: it is another program's SQLite database")
    elif version > _SCHEMA_VERSION:
        raise StoreError(
            f"cannot open store {path}: its schema version {version} is newer than this "
            f"evserve's ({_SCHEMA_VERSION}); run the evserve that wrote it"
        )
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(f"cannot open store {path}: its disk does not support WAL mode")
    connection.execute(f"PRAGMA synchronous = {sync}")
    for older in range(version, _SCHEMA_VERSION) if version else ():
        connection.executescript(
            f"BEGIN IMMEDIATE; {_MIGRATIONS[older]} PRAGMA user_version = {older + 1}; COMMIT;"
        )
    # A write, so that a read-only file is refused now and not at the first put.
    connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _vacuum(connection: sqlite3.Connection, pages: int) -> None:
    """Give up to `pages` unused pages back to the disk; outside of a transaction."""
    # As a script, because Python 3.11 ends other statements without columns after one page.
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")


def _remove_reserve(path: Path) -> int:
    """Remove the disk reserve that a killed server left; returns its size. Raises OSError."""
    file = _reserve_file(path)
    try:
        size = file.stat().st_size
        file.unlink()
    except FileNotFoundError:
        return 0
    return size


def _reserve_file(path: Path) -> Path:
    return Path(f"{path}-ballast")


@define(eq=False, repr=False)
class DiskReserve:
    """A file of zeros beside the store, released when the disk is full.

    Deleting events needs space too: it writes to SQLite's WAL, and a checkpoint may have to let
    the database grow before the WAL can be used again. So the WAL is checkpointed when it is half
    as large as the reserve, and a quarter once the reserve is released. While it is, no events
    are put.

    left: the size of the reserve that a killed server left.
    """

    path: Path  # of the database
    writer: sqlite3.Connection
    left: int = 0
    is_released: bool = field(default=False, init=False)
    _file: Path = field(init=False)
    _size: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._file = _reserve_file(self.path)
        self._checkpoint()  # what is in the WAL may need the space first
        self._size = min(MAX_RESERVE, max(self.left, self._affordable()))
        while not self._allocate():  # a quota or a limit on files, which statvfs does not show
            self._size //= 2
        self._grow_wal(self._limit_wal())

    def _free(self) -> int:
        disk = os.statvfs(self.path.parent)
        return disk.f_bavail * disk.f_frsize

    def _affordable(self) -> int:
        # With the database, or each start on a full disk would make a smaller reserve.
        space = self._free() + self._size + self.path.stat().st_size
        return min(MAX_RESERVE, space // _RESERVE_PART)

    def _allocate(self) -> bool:
        if self._size < _PAGE:
            return True
        try:
            self._extend(0, self._size)
        except OSError:
            self._file.unlink(missing_ok=True)
            return False
        return True

    def _extend(self, size: int, wanted: int) -> None:
        """Make the file `wanted` bytes long, or leave it at `size`; raises OSError."""
        with self._file.open("ab") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, wanted)
            except OSError:
                os.ftruncate(file.fileno(), size)
                raise

    def _limit_wal(self) -> int:
        """Set after how many pages the WAL is checkpointed; returns that number."""
        pages = max(self._size // _PAGE // (4 if self.is_released else 2), 16)
        self.writer.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        return pages

    def _grow_wal(self, pages: int) -> None:
        """Make the WAL's file as long as it will become: commits that do so take twice as long.

        SQLite does it, so that its file is valid at any moment: the pages of a transaction that do
        not fit into its cache go to the WAL at once, and stay there unread after a rollback.
        """
        execute = self.writer.execute
        execute("PRAGMA cache_size = 10")
        try:
            execute("BEGIN IMMEDIATE")
            execute("CREATE TABLE filling (body BLOB)")
            # And some more: ten stay in the cache, and the last commit writes several.
            execute("INSERT INTO filling VALUES (zeroblob(?))", ((pages + 32) * _PAGE,))
            execute("ROLLBACK")
            # A commit, so that the file is synced now and not with the first put.
            execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        except sqlite3.Error:  # such as a full disk, which needs the space more
            if self.writer.in_transaction:
                execute("ROLLBACK")
            self._checkpoint()
        execute(_CACHE)

    def _checkpoint(self) -> None:
        with suppress(sqlite3.Error):  # the next write reports it
            # Without a wait for another program that reads the store.
            self.writer.execute("PRAGMA busy_timeout = 0")
            self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self.writer.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT}")

    def grow(self) -> None:
        """Double the reserve if the disk has the space: a server may start on a full disk."""
        wanted = min(2 * max(self._size, _PAGE), MAX_RESERVE)
        with suppress(OSError, sqlite3.Error):
            if not self.is_released and self._size < wanted <= self._affordable():
                self._extend(self._size, wanted)
                self._size = wanted
                self._limit_wal()

    def release(self) -> None:
        """Make as much space as possible: the disk is full."""
        self.is_released = True
        self._file.unlink(missing_ok=True)
        self._limit_wal()
        self._checkpoint()

    def leaves_room(self, size: int) -> bool:
        """Whether bodies of `size` bytes together fit beside the reserve, made again if need be.

        They are written to the WAL, and again to the database. If they are a good part of the
        reserve, it could not do its duty when there is only space for the first.
        """
        need = 2 * size
        if not self.is_released:
            return 4 * size <= self._size or self._is_free(need)
        self._checkpoint()
        while not (self._is_free(self._size + need + _ROOM) and self._allocate()):
            if not self._shrink():
                return False
        self.is_released = False
        self._limit_wal()
        return True

    def _is_free(self, size: int) -> bool:
        try:
            return self._free() >= size
        except OSError:  # the write will tell
            return True

    def _shrink(self) -> bool:
        """Give some of the database's unused pages back to the disk; False if that fails."""
        try:
            unused = _pragma(self.writer, "freelist_count")
            _vacuum(self.writer, _VACUUM_STEP)
            self._checkpoint()
            return _pragma(self.writer, "freelist_count") < unused
        except sqlite3.Error:
            return False

    def remove(self) -> None:
        """Remove the file: the store is being closed."""
        with suppress(OSError):  # the next server tries again
            self._file.unlink(missing_ok=True)

    def is_space_error(self, error: BaseException) -> bool:
        """Whether `error` is for want of space. SQLite hides the errno of quotas and limits."""
        code = _code(error)
        return code == sqlite3.SQLITE_FULL or (code in _MAYBE_NO_SPACE and self._cannot_grow())

    def _cannot_grow(self) -> bool:
        """Whether a file as long as the longer one of the store cannot grow."""
        probe = Path(f"{self.path}-probe")
        files = (self.path, Path(f"{self.path}-wal"))
        size = max(file.stat().st_size for file in files if file.exists())
        try:
            with probe.open("wb", buffering=0) as file:
                file.seek(size)
                file.write(bytes(16 * _PAGE))
                os.fsync(file.fileno())
        except OSError as error:
            return error.errno in _NO_SPACE
        finally:
            probe.unlink(missing_ok=True)
        return False


@define(eq=False, repr=False)
class FileIdentity:
    """Notices that the file at `path` was deleted, moved or replaced: what is written is lost.

    now: the time in seconds, from any start.
    """

    path: Path
    now: Callable[[], float] = monotonic
    _file: tuple[int, int] | None = field(default=None, init=False)
    _looked: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._file, self._looked = self._find(), self.now()

    def _find(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # not accessible now, which does not mean that it has changed
            return self._file
        return status.st_dev, status.st_ino

    def has_changed(self) -> bool:
        """Whether there is another file, or none; looks once a second at most."""
        now = self.now()
        if now - self._looked < _IDENTITY_INTERVAL:
            return False
        if self._find() != self._file:
            return True
        self._looked = now
        return False
