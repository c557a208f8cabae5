"""Transactions on Postgres: what a handler writes, and the end of its event, in one commit.

Each has a connection of psycopg's, one of those that are kept for this. The event's row is deleted
on it as an acknowledgement does: if it is reserved by this engine, for this attempt, in time.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from threading import Lock
from typing import Any, Final

import psycopg
from attrs import define, field
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from twisted.internet.defer import Deferred, DeferredSemaphore, fail, succeed
from typing_extensions import override

from evserve.events.errors import BadEvent, NotReserved, QueueError, QueueUnavailable
from evserve.events.event import Event
from evserve.events.postgres.errors import driver_error
from evserve.events.postgres.schema import prepare_schema
from evserve.events.postgres.verbs import Held, Reservation
from evserve.events.transaction import Transaction, TransactionConnection, TransactionSteps


IDLE: Final = TransactionStatus.IDLE

_DELETE: Final = """
DELETE FROM "{}".event AS e
WHERE e.id = %s AND e.attempts = %s AND e.owner = %s AND e.state = 1
    AND e.due > statement_timestamp()
RETURNING e.priority, e.delay, e.ttr, e.attempts, e.timeouts, e.releases, e.buries, e.kicks,
    extract(epoch FROM e.created)::float8, extract(epoch FROM e.reserved_at)::float8
"""


class Transactions:
    """Makes the transactions of an engine.

    owner: returns the number under which the engine reserves.  claim: marks an event's reservation
    as settled; raises NotReserved.
    """

    def __init__(
        self,
        conninfo: str,
        schema: str,
        reactor: Any,
        *,
        held: Held,
        owner: Callable[[], int],
        claim: Callable[[Event], Reservation],
    ) -> None:
        self.held, self.owner, self.claim = held, owner, claim
        self.delete = _DELETE.format(schema)
        self._put = f'SELECT "{schema}".put(%s, %s, %s, %s, %s, %s)'
        self._has_put = f"SELECT to_regproc('\"{schema}\".put') IS NOT NULL"
        self._is_prepared = False
        self._conninfo = conninfo
        self._schema = schema
        self._reactor = reactor
        self._limit: DeferredSemaphore | None = None
        self._lock = Lock()
        self._idle: list[psycopg.Connection] = []
        self._closed = False

    def transaction(self, reservation: Reservation, event: Event) -> Transaction:
        """Return the transaction in which `event` is handled."""
        if self._limit is None:  # one who waits for a lock must not keep its holder from a thread
            self._limit = DeferredSemaphore(max(1, self._reactor.getThreadPool().max - 1))
        return Transaction(self._reactor, _Steps(self, reservation, event), self._limit)

    def put(self, connection: Any, values: tuple[Any, ...]) -> Deferred[str]:
        """Put an event on the caller's connection; fires with its id.

        connection: a TransactionConnection; a psycopg.Connection, in any thread; or a
        psycopg.AsyncConnection, in its loop.  values: type, body, priority, delay, TTR and key.
        Fails with QueueError.
        """
        if isinstance(connection, TransactionConnection):
            return connection.run(self._put_now, values)
        if isinstance(connection, psycopg.AsyncConnection):
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return fail(
                    BadEvent("a psycopg.AsyncConnection works only where asyncio's loop runs")
                )
            return Deferred.fromFuture(loop.create_task(self._put_async(connection, values)))
        try:
            return succeed(self._put_now(connection, values))
        except QueueError as error:
            return fail(error)

    def _put_now(self, connection: Any, values: tuple[Any, ...]) -> str:
        if not isinstance(connection, psycopg.Connection):
            raise BadEvent(
                "connection is a psycopg.Connection or AsyncConnection for this queue, not "
                f"{type(connection).__name__}"
            )
        try:
            cursor = connection.cursor(row_factory=tuple_row)
            if not self._is_prepared:
                [(self._is_prepared,)] = cursor.execute(self._has_put).fetchall()
                if not self._is_prepared:
                    self._prepare()
            [(number,)] = cursor.execute(self._put, values).fetchall()
        except psycopg.Error as error:
            raise driver_error(error) from error
        return str(number)

    async def _put_async(
        self, connection: "psycopg.AsyncConnection[Any]", values: tuple[Any, ...]
    ) -> str:
        try:
            cursor = connection.cursor(row_factory=tuple_row)
            if not self._is_prepared:
                await cursor.execute(self._has_put)
                [(self._is_prepared,)] = await cursor.fetchall()
                if not self._is_prepared:
                    await asyncio.to_thread(self._prepare)
            await cursor.execute(self._put, values)
            [(number,)] = await cursor.fetchall()
        except psycopg.Error as error:
            raise driver_error(error) from error
        return str(number)

    def _prepare(self) -> None:
        """Make the schema: the first thing that this queue is asked for is a caller's put."""
        with psycopg.Connection.connect(self._conninfo, autocommit=True) as connection:
            prepare_schema(connection.pgconn, self._schema)
        self._is_prepared = True

    def begin(self) -> tuple[psycopg.Connection, AbstractContextManager[psycopg.Transaction]]:
        """Begin a transaction, on a connection that is idle or new; raises QueueUnavailable.

        While psycopg's Transaction is open, the connection's `commit` and `rollback` raise.
        """
        while True:
            with self._lock:
                idle = self._idle.pop() if self._idle else None
            try:
                connection = idle or psycopg.Connection.connect(self._conninfo, autocommit=True)
                block = connection.transaction()
                block.__enter__()
            except psycopg.Error as error:
                if idle is None:
                    raise driver_error(error) from error
                idle.close()  # it was lost while it was idle
            else:
                return connection, block

    def give_back(self, connection: psycopg.Connection) -> None:
        """Keep a connection for the next transaction, if it is fit for that."""
        with self._lock:
            if not self._closed and connection.info.transaction_status == IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle now, and the others when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for each in idle:
            each.close()


@define(eq=False, repr=False)
class _Steps(TransactionSteps):
    transactions: Transactions
    reservation: Reservation
    event: Event
    _block: AbstractContextManager[psycopg.Transaction] | None = field(default=None, init=False)
    _values: tuple[int, int, int] = field(default=(0, 0, 0), init=False)
    _deleted: tuple[Any, ...] | None = field(default=None, init=False)

    @override
    def begin(self) -> psycopg.Connection:
        connection, self._block = self.transactions.begin()
        return connection

    @override
    def claim(self) -> None:
        held = self.transactions.claim(self.event)
        held.handled = True
        self._values = (held.id, held.attempts, self.transactions.owner())

    @override
    def commit(self, raw: psycopg.Connection) -> None:
        assert self._block is not None
        try:
            if raw.info.transaction_status == IDLE:
                raise QueueUnavailable(
                    f"{self.event}: its handler has ended the transaction by itself"
                )
            cursor = raw.cursor(row_factory=tuple_row)
            self._deleted = cursor.execute(self.transactions.delete, self._values).fetchone()
            if self._deleted is None:
                raise NotReserved(f"{self.event} is not reserved here any more")
            self._block.__exit__(None, None, None)
        except psycopg.Error as error:
            self.rollback(raw)
            raise driver_error(error) from error
        except QueueError:
            self.rollback(raw)
            raise
        self.transactions.give_back(raw)

    @override
    def rollback(self, raw: psycopg.Connection) -> None:
        assert self._block is not None
        with suppress(psycopg.Error):
            self._block.__exit__(psycopg.Rollback, psycopg.Rollback(), None)
        self.transactions.give_back(raw)

    @override
    def settle(self, *, committed: bool) -> None:
        if committed:
            self.reservation.deleted = self._deleted
            self.transactions.held.drop(self.reservation)
        else:
            self.reservation.settled = self.reservation.handled = False
