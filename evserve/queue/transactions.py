"""Transactions in a store's file: what a handler writes, and the end of its event, in one commit.

Each has a SQLite connection of its own. It holds the store's turn, so that the queue writes
nothing meanwhile. At the end the core is asked for the event, as for a deletion; the transaction
deletes the row; and the core applies that, as if the queue's own writer had done it.
"""

import sqlite3
from contextlib import suppress
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
    _limit: DeferredLock = field(factory=DeferredLock, init=False)

    def transaction(self, receipt: "Receipt", event: Event) -> Transaction:
        """Return the transaction in which `event` is handled."""
        steps = _Steps(self.broker, self.store, receipt, event)
        return Transaction(self.reactor, steps, self._limit)

    def put(self, connection: Any, values: tuple[Any, ...]) -> Deferred[str]:
        """Insert an event into the outbox on the caller's connection; fires with its id.

        connection: a TransactionConnection, or a sqlite3.Connection in any thread.  values: type,
        body, priority, delay, TTR and key.  Fails with BadEvent, QueueUnavailable.
        """
        new_id, outbox, path = self.broker.core.new_id, self.broker.outbox, self.store.path
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


@define(eq=False, repr=False)
class Receipt:
    """Of one reservation: a later one of the event has a higher `reserves`.

    is_handled: whether a transaction has removed the event, or is about to.
    """

    id: int
    reserves: int
    transactions: Transactions | None
    is_handled: bool = field(default=False, init=False)

    def transaction(self, event: Event) -> Transaction:
        """Return the transaction in which `event` is handled; raises Unsupported."""
        if self.transactions is None:
            raise Unsupported(f"{event}: memory: has no transactions")
        return self.transactions.transaction(self, event)


@define(eq=False, repr=False)
class _Steps(TransactionSteps):
    broker: Broker
    store: SQLiteStore
    receipt: Receipt
    event: Event
    _change: Change | None = field(default=None, init=False)

    @override
    def begin(self) -> sqlite3.Connection:
        if not self.store.turn.acquire(timeout=TURN_TIMEOUT):
            raise QueueUnavailable(f"another transaction takes more than {TURN_TIMEOUT} seconds")
        try:
            return self._connect()
        except BaseException:
            self.store.turn.release()
            raise

    def _connect(self) -> sqlite3.Connection:
        try:
            raw = sqlite3.connect(
                f"{self.store.path.absolute().as_uri()}?mode=rw",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as error:
            raise self._failure(error) from error
        try:
            raw.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT}")
            raw.execute("PRAGMA synchronous = FULL")
            raw.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raw.close()
            raise self._failure(error) from error
        return raw

    def _failure(self, error: sqlite3.Error) -> QueueFull | QueueUnavailable:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            return QueueFull("the disk is full")
        return QueueUnavailable(f"{self.event}: its transaction failed: {error}")

    @override
    def claim(self) -> None:
        core, receipt = self.broker.core, self.receipt
        held = core.events.get(receipt.id)
        if held is None or held.owner is None or held.reserves != receipt.reserves:
            raise NotReserved(f"{self.event} is not reserved here any more")
        change = core.delete(held.owner, held.id)
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
                raise QueueUnavailable(f"{self.event} is missing from {self.store.path}")
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
        raw.close()
        self.store.turn.release()

    @override
    def settle(self, *, committed: bool) -> None:
        broker, change = self.broker, self._change
        assert change is not None
        if committed:
            broker.core.apply(change, broker.now())
        else:
            self.receipt.is_handled = False
            broker.core.revert(change, broker.now())
        if broker.outbox is not None:
            broker.outbox.look_soon()
        broker.pump()
