"""Transactions of a database that a queue is in: the context manager of `Event.transaction`.

A handler that writes into the database where its event is has its effect exactly once: its rows
and the removal of the event are one commit.

    async def make_thumbnail(event):
        async with event.transaction() as connection:
            await connection.execute("INSERT INTO thumbnail VALUES (?, ?)", [name, size])

A handler that is `blocking` writes `with` and gets the driver's own connection
(sqlite3.Connection, psycopg.Connection), on which it must not commit. An engine supplies the
TransactionSteps.
"""

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, DeferredSemaphore, fail
from twisted.internet.threads import blockingCallFromThread, deferToThreadPool
from twisted.python import threadable

from evserve.events.errors import QueueError


P = ParamSpec("P")
T = TypeVar("T")


class TransactionSteps(Protocol):
    """What an engine does for the transaction of one event.

    `begin` comes first, then either `rollback` or `claim`, `commit` and `settle`. Each raises
    QueueError.
    """

    def begin(self) -> Any:
        """Return a connection on which a transaction is open. Called in a thread, may wait."""

    def claim(self) -> None:
        """Keep the event from being settled otherwise, until `settle`.

        Called in the reactor's thread. Raises NotReserved.
        """

    def commit(self, raw: Any) -> None:
        """Delete the event on the connection, and commit; or roll back and raise.

        Called in a thread. Raises NotReserved if the event is not reserved any more.
        """

    def rollback(self, raw: Any) -> None:
        """Roll back; called in a thread, and does not raise."""

    def settle(self, *, committed: bool) -> None:
        """Tell the engine what `commit` did; called in the reactor's thread."""


@define(eq=False, repr=False)
class TransactionConnection:
    """A database connection for coroutines: its blocking calls run in the reactor's threads.

    raw: the driver's own connection.  Calls are made one after another, in their order.
    """

    raw: Any
    _reactor: Any
    _calls: DeferredLock = field(factory=DeferredLock, init=False)
    _ended: bool = field(default=False, init=False)

    def execute(self, sql: str, parameters: Any = None) -> Deferred[list[Any]]:
        """Execute one statement; fires with its rows, as the driver makes them."""
        return self.run(_execute, sql, parameters)

    def run(
        self, function: Callable[Concatenate[Any, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T]:
        """Call `function` with the driver's connection and `args` in a thread, as for an ORM."""
        if self._ended:
            return fail(QueueError("the transaction has ended"))
        call = partial(function, self.raw, *args, **kwargs)
        return _uncancelled(self._calls.run(_in_thread, self._reactor, call))

    def end(self) -> Deferred[Any]:
        """Refuse further calls; fires when those before have ended."""
        self._ended = True
        return self._calls.acquire()


def _execute(raw: Any, sql: str, parameters: Any) -> list[Any]:
    cursor = raw.execute(sql) if parameters is None else raw.execute(sql, parameters)
    return list(cursor.fetchall()) if cursor.description else []


def _in_thread(reactor: Any, function: Callable[[], T]) -> Deferred[T]:
    return deferToThreadPool(reactor, reactor.getThreadPool(), function)


def in_reactor_thread() -> bool:
    """Whether this is the reactor's thread, in which nothing may wait for that."""
    return threadable.ioThread is None or threadable.isInIOThread()


def _uncancelled(work: Deferred[T]) -> Deferred[T]:
    """Return a Deferred of the same outcome; cancelling it only ends the wait.

    A thread goes on when its Deferred is cancelled, and what follows must wait for it.
    """
    waiting: Deferred[T] = Deferred()
    work.addBoth(waiting.callback)
    return waiting


# Those that this task or thread has entered, and those that were open where this task began.
_entered: ContextVar[tuple["Transaction", ...]] = ContextVar("_entered", default=())


@define(eq=False, repr=False)
class Transaction:
    """The transaction in which an event is handled: `async with`, or `with` in a thread.

    limit: how many coroutines may have a transaction open; the others wait without a thread. A
    DeferredLock says that there can be one at a time, also in threads.
    """

    reactor: Any
    steps: TransactionSteps
    limit: DeferredLock | DeferredSemaphore
    _connection: TransactionConnection | None = field(default=None, init=False)
    _raw: Any = field(default=None, init=False)
    _abandoned: bool = field(default=False, init=False)
    is_open: bool = field(default=False, init=False)

    def _refuse_nested(self) -> None:
        """Raise QueueError if this task would wait for a transaction that it has open itself."""
        for outer in _entered.get():
            if (
                outer.is_open
                and outer.limit is self.limit
                and isinstance(self.limit, DeferredLock)
            ):
                raise QueueError(
                    "a transaction within another one of the same file (end the first before the "
                    "second begins)"
                )

    def _enter(self) -> None:
        self.is_open = True
        _entered.set((*_entered.get(), self))

    def _leave(self) -> None:
        self.is_open = False
        _entered.set(tuple(each for each in _entered.get() if each is not self))

    async def __aenter__(self) -> TransactionConnection:
        self._refuse_nested()
        try:
            connection = await _uncancelled(Deferred.fromCoroutine(self._begin()))
        except BaseException:  # the wait was cancelled, or `begin` failed
            self._abandoned = True
            if self._connection is not None:
                Deferred.fromCoroutine(self._end(commit=False))
            raise
        self._enter()
        return connection

    async def _begin(self) -> TransactionConnection:
        # Not in the caller's task: one that is cancelled in the turn in which this fires would not
        # know that it has to release it.
        await self.limit.acquire()
        if self._abandoned:
            self.limit.release()
            raise CancelledError
        try:
            raw = await _in_thread(self.reactor, self.steps.begin)
        except BaseException:
            self.limit.release()
            raise
        self._connection = TransactionConnection(raw, self.reactor)
        if self._abandoned:
            await self._end(commit=False)
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()
        await _uncancelled(Deferred.fromCoroutine(self._end(commit=kind is None)))

    async def _end(self, *, commit: bool) -> None:
        connection, steps = self._connection, self.steps
        assert connection is not None
        await connection.end()
        try:
            if not commit:
                await _in_thread(self.reactor, partial(steps.rollback, connection.raw))
                return
            try:
                steps.claim()
            except BaseException:
                await _in_thread(self.reactor, partial(steps.rollback, connection.raw))
                raise
            try:
                await _in_thread(self.reactor, partial(steps.commit, connection.raw))
            except BaseException:
                steps.settle(committed=False)
                raise
            steps.settle(committed=True)
        finally:
            self.limit.release()

    def __enter__(self) -> Any:
        if in_reactor_thread():
            raise QueueError("write `async with event.transaction()`, or run in a thread")
        self._refuse_nested()
        self._raw = self.steps.begin()
        self._enter()
        return self._raw

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()
        steps, call_from_thread = self.steps, self.reactor.callFromThread
        if kind is not None:
            steps.rollback(self._raw)
            return
        try:
            blockingCallFromThread(self.reactor, steps.claim)
        except BaseException:
            steps.rollback(self._raw)
            raise
        try:
            steps.commit(self._raw)
        except BaseException:
            call_from_thread(steps.settle, committed=False)
            raise
        call_from_thread(steps.settle, committed=True)
