"""Transactions in a store's file: what a handler writes, and the end of its event, in one commit.

It has a SQLite connection of its own, and holds the store's turn, so that the queue writes nothing
meanwhile. At the end the core is asked for the event, as for a deletion; the transaction deletes
the row; and the core applies that, as if the queue's own writer had done it.
"""

import sqlite3
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredLock, fail, succeed
from twisted.internet.threads import blockingCallFromThread
from typing_extensions import override

from evserve.events import (
    Event,
    NotReserved,
    QueueError,
    QueueFull,
    QueueUnavailable,
    Unsupported,
)
from evserve.events.transaction import (
    Transaction,
    TransactionConnection,
    TransactionSteps,
    in_reactor_thread,
)
from evserve.queue.broker import Broker
from evserve.queue.core import Change
from evserve.queue.outbox import insert
from evserve.queue.sqlite import TURN_TIMEOUT, SQLiteStore


# Milliseconds that a transaction waits for another program's.
_BUSY_TIMEOUT: Final = 5000


@define(eq=False, repr=False)
class Transactions:
    """Makes the transactions of a queue whose events are in `store`."""

    broker: Broker
    store: SQLiteStore
    reactor: Any
    _path: Path = field(init=False)
    _limit: DeferredLock = field(factory=DeferredLock, init=False)
    _lock: Lock = field(factory=Lock, init=False)
    _idle: sqlite3.Connection | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._path = self.store.path.absolute()  # because the process may change its folder

    def transaction(self, receipt: "Receipt", event: Event) -> Transaction:
        """Return the transaction in which `event` is handled."""
        steps = _Steps(self, receipt, event)
        return Transaction(self.reactor, steps, self._limit)

    def put(self, connection: Any, values: tuple[Any, ...]) -> Deferred[str]:
        """Insert an event into the outbox on the caller's connection; fires with its id.

        connection: a TransactionConnection, or a sqlite3.Connection in any thread.  values: type,
        body, priority, delay, TTR and key.  Fails with BadEvent, QueueUnavailable.
        """
        new_id, outbox, path = self.broker.core.new_id, self.broker.outbox, self._path
        assert outbox is not None
        is_in_thread = not in_reactor_thread()
        event_id = blockingCallFromThread(self.reactor, new_id) if is_in_thread else new_id()
        if isinstance(connection, TransactionConnection):
            return connection.run(insert, path, event_id, values).addCallback(
                lambda _: str(event_id)
            )
        try:
            insert(connection, path, event_id, values)
        except QueueError as error:
            return fail(error)
        if is_in_thread:
            self.reactor.callFromThread(outbox.look_soon)
        else:
            outbox.look_soon()
        return succeed(str(event_id))

    def connect(self) -> sqlite3.Connection:
        """Return a connection to the store's file; raises sqlite3.Error."""
        with self._lock:
            idle, self._idle = self._idle, None
        if idle is not None:
            return idle
        uri = f"{self._path.as_uri()}?mode=rw"
        raw = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        raw.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT}")
        raw.execute("PRAGMA synchronous = FULL")
        return raw

    def give_back(self, raw: sqlite3.Connection) -> None:
        """Keep a connection for the next transaction: opening one costs as much as using it."""
        with self._lock:
            if self._idle is None and not (self._closed or raw.in_transaction):
                self._idle = raw
                return
        raw.close()

    def close(self) -> None:
        """Close the connection that is idle, or the one in use when it is given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, None
        if idle is not None:
            idle.close()


@define(eq=False, repr=False)
class Receipt:
    """Of one reservation: a later one of the event has a higher `reserves`.

    body: the event's, as it was put.  is_handled: whether a transaction has removed the event, or
    is about to.  deletion: what one has committed, until the history keeps it.
    """

    id: int
    reserves: int
    body: bytes
    transactions: Transactions | None
    is_handled: bool = field(default=False, init=False)
    deletion: Change | None = field(default=None, init=False)

    def transaction(self, event: Event) -> Transaction:
        """Return the transaction in which `event` is handled; raises Unsupported."""
        if self.transactions is None:
            raise Unsupported(f"{event}: memory: has no transactions")
        return self.transactions.transaction(self, event)


@define(eq=False, repr=False)
class _Steps(TransactionSteps):
    transactions: Transactions
    receipt: Receipt
    event: Event
    _change: Change | None = field(default=None, init=False)

    @override
    def begin(self) -> sqlite3.Connection:
        turn = self.transactions.store.turn
        if not turn.acquire(timeout=TURN_TIMEOUT):
            raise QueueUnavailable(f"another transaction takes more than {TURN_TIMEOUT} seconds")
        raw = None
        try:
            raw = self.transactions.connect()
            raw.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            if raw is not None:
                raw.close()
            turn.release()
            if isinstance(error, sqlite3.Error):
                raise self._failure(error) from error
            raise
        return raw

    def _failure(self, error: sqlite3.Error) -> QueueFull | QueueUnavailable:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            return QueueFull("the disk is full")
        return QueueUnavailable(f"{self.event}: its transaction failed: {error}")

    @override
    def claim(self) -> None:
        core, receipt = self.transactions.broker.core, self.receipt
        held = core.events.get(receipt.id)
        owner = None if held is None else held.delivery.owner
        if held is None or owner is None or held.delivery.reserves != receipt.reserves:
            raise NotReserved(f"{self.event} is not reserved here any more")
        change = core.delete(owner, held.id)
        assert isinstance(change, Change)  # its owner asked
        self._change = change
        receipt.is_handled = True

    @override
    def commit(self, raw: sqlite3.Connection) -> None:
        try:
            if not raw.in_transaction:
                raise QueueUnavailable(
                    f"{self.event}: its handler has ended the transaction by itself"
                )
            deleted = raw.execute("DELETE FROM main.event WHERE id = ?", (self.receipt.id,))
            if deleted.rowcount != 1:
                raise QueueUnavailable(f"{self.event} is missing from the store")
            raw.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failure(error) from error
        finally:
            self.rollback(raw)

    @override
    def rollback(self, raw: sqlite3.Connection) -> None:
        with suppress(sqlite3.Error):
            if raw.in_transaction:
                raw.execute("ROLLBACK")
        self.transactions.give_back(raw)
        self.transactions.store.turn.release()

    @override
    def settle(self, *, committed: bool) -> None:
        broker, change = self.transactions.broker, self._change
        assert change is not None
        if committed:
            broker.core.apply(change, broker.now())
            self.receipt.deletion = change
        else:
            self.receipt.is_handled = False
            broker.core.revert(change, broker.now())
        if broker.outbox is not None:
            broker.outbox.look_soon()
        broker.pump()
