"""The outbox: a table of the store into which other connections insert events.

A program that opens the store's database, in any language, puts an event within a transaction of
its own by inserting a row; its columns are a public contract (docs/handlers.md).
Here the rows are taken out, each in the commit that puts its event, so that an event exists
exactly if the transaction was committed, and once.
"""

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from evserve.events import BadEvent, QueueUnavailable
from evserve.queue.core import Change
from evserve.queue.model import Refusal
from evserve.queue.store import OutboxRow, Outcome, StoreError, Taken


if TYPE_CHECKING:
    from evserve.queue.broker import Broker


_log = Logger()

# Seconds between two looks: soon after a row is expected or was found, then less and less often.
_SOON: Final = 0.002
_SELDOM: Final = 0.25

_INSERT: Final = """
INSERT INTO "{}".outbox (type, body, priority, delay, ttr, key, event_id)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""


@define(eq=False, repr=False)
class Outbox:
    """Moves the events of a store's outbox into the queue.

    A look without rows is one small query, so nothing cheaper has to tell whether one is needed.
    """

    broker: "Broker"
    _timer: IDelayedCall | None = field(default=None, init=False)
    _pause: float = field(default=0.0, init=False)
    _moving: int = field(default=0, init=False)
    _stopped: bool = field(default=False, init=False)
    _failed: bool = field(default=False, init=False)

    def look_soon(self) -> None:
        """Look for rows shortly: some are there, or about to be committed."""
        self._pause = 0.0
        self._look_after(0.0)

    def stop(self) -> None:
        """Look for nothing more."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _look_after(self, seconds: float) -> None:
        if self._stopped or self._moving:
            return
        if self._timer is None or not self._timer.active():
            self._timer = self.broker.clock.callLater(seconds, self._look)
        elif self._timer.getTime() > self.broker.clock.seconds() + seconds:
            self._timer.reset(seconds)

    def _look(self) -> None:
        rows = self._read()
        for row in rows:
            self._move(row)
        if self._moving:
            self._pause = 0.0
            self.broker.pump()
        else:
            self._pause = min(max(2 * self._pause, _SOON), _SELDOM)
            self._look_after(self._pause)

    def _read(self) -> list[OutboxRow]:
        if self.broker.draining or self.broker.broken:
            return []
        try:
            rows = self.broker.store.outbox()
        except StoreError as error:
            if not self._failed:
                _log.error("store: {error}", error=str(error))
            self._failed = True
            return []
        self._failed = False
        return rows

    def _move(self, row: OutboxRow) -> None:
        core, put_at = self.broker.core, min(row.put_at, self.broker.now())
        # An id that was not promised to this row would be another event's.
        promised = row.event_id is not None and 0 < row.event_id < core.next_id
        delay = int(row.delay) if row.delay == int(row.delay) else row.delay
        changes = core.put(
            core.tube(row.type),
            row.body,
            put_at,
            pri=row.priority,
            delay=delay,
            ttr=row.ttr,
            key=row.key,
            event_id=row.event_id if promised and row.event_id not in core.events else None,
        )
        taken: list[Change] = []
        if isinstance(changes, list):
            taken = changes
        elif isinstance(changes, Refusal) or not changes.is_settled:
            return  # there is no room, or the event with its key may still go
        self._moving += 1
        self.broker.submit(self._moved, taken, Taken(row.row))

    def _moved(self, outcome: Outcome) -> None:
        self._moving -= 1
        if outcome is not Outcome.COMMITTED:
            self._pause = _SELDOM
        self._look_after(self._pause)


def insert(connection: Any, path: Path, event_id: int, values: tuple[Any, ...]) -> None:
    """Insert a row for the store at `path` on the caller's connection to its file.

    connection: a sqlite3.Connection to the file, or to which it is attached.  values: type, body,
    priority, delay, TTR and key.  Raises BadEvent, QueueUnavailable.
    """
    if not isinstance(connection, sqlite3.Connection):
        kind = type(connection).__name__
        raise BadEvent(f"connection is a sqlite3.Connection for this queue, not {kind}")
    cursor = connection.cursor()
    cursor.row_factory = None
    try:
        for _, name, file in cursor.execute("PRAGMA database_list").fetchall():
            if file and Path(file).samefile(path):
                cursor.execute(_INSERT.format(name.replace('"', '""')), (*values, event_id))
                return
    except (sqlite3.Error, OSError) as error:
        raise QueueUnavailable(f"the event was not put: {error}") from error
    raise BadEvent(f"connection is to another database: open or attach {path}")
