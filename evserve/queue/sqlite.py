"""The durable store: one SQLite file in WAL mode, one commit for a whole batch.

sqlite3 gives the interpreter lock up around every step of a statement, and getting it back from
a busy reactor is slow. So a batch is a handful of statements, not one per row: many-row INSERTs,
and one DELETE and one UPDATE that take their rows as JSON.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self

from attrs import define, field
from twisted.logger import Logger

from evserve.queue import schema
from evserve.queue.book import Book
from evserve.queue.journal import Batch, Outcome, PutRow, Written
from evserve.queue.model import Event
from evserve.queue.presence import Presence
from evserve.queue.room import Room, vacuum
from evserve.queue.states import State
from evserve.queue.store import StoreError


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
        lock = schema.lock(path)
        try:
            return cls._open(path, lock, sync)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def _open(cls, path: Path, lock: int, sync: str) -> Self:
        try:
            writer = schema.connect(path)
            schema.prepare(writer, path, sync=sync)
            reader = schema.connect(path)
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
