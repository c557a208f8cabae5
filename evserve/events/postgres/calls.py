"""Calls that wait to be sent, and the verbs that turn many calls into one statement."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from psycopg.pq.abc import PGresult
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from evserve.events.errors import QueueError, QueueUnavailable
from evserve.events.postgres.connection import Connection, Query, Statement
from evserve.events.postgres.errors import statement_error


Row = tuple[Any, ...]


class Verb:
    """What a call asks for.

    durable: whether the commit waits for the disk.  ordered: whether it takes effect in the order
    of the calls, of whatever ordered verb.  place: statements of a lower one are run before.
    most: calls of one statement.
    """

    durable = True
    ordered = False
    place = 1
    most = 1000

    def __init__(self, statement: Statement) -> None:
        self.statement = statement

    def query(self, calls: "Sequence[Call]", owner: int) -> Query:
        """Return the statement and its parameters."""
        raise NotImplementedError

    def makes_ready(self, calls: "Sequence[Call]") -> Iterable[str]:
        """Return the type of each event that may be ready afterwards."""
        return ()

    def done(self, calls: "Sequence[Call]", rows: list[Row]) -> None:
        """Answer the calls by the rows of the result, which are committed."""
        raise NotImplementedError

    def failed(self, call: "Call", error: QueueError) -> None:
        """Answer a call that did nothing, or whose outcome is unknown."""
        call.fail(error)


class Call:
    """One call of a verb. `size`: bytes that it sends.  `deadline`: when it gives up waiting."""

    __slots__ = ("args", "deadline", "deferred", "size", "verb")

    def __init__(self, verb: Verb, args: Any, size: int = 0) -> None:
        self.verb = verb
        self.args = args
        self.size = size
        self.deadline = 0.0
        self.deferred: Deferred[Any] = Deferred()

    def answer(self, result: Any) -> None:
        """Fire the Deferred."""
        self.deferred.callback(result)

    def fail(self, error: QueueError) -> None:
        """Fail the Deferred, unless that was done."""
        if not self.deferred.called:
            self.deferred.errback(error)


class Ask(Verb):
    """A statement by itself, with parameters; answers with its rows."""

    most = 1

    def query(self, calls: Sequence[Call], owner: int) -> Query:
        return self.statement, calls[0].args

    def done(self, calls: Sequence[Call], rows: list[Row]) -> None:
        calls[0].answer(rows)


class Lane:
    """The calls of one connection: those that wait to be sent.

    start: called when there is no connection, to make one.  why: returns what to say of calls that
    have waited for longer than `patience` seconds.
    """

    def __init__(
        self,
        clock: IReactorTime,
        patience: float,
        start: Callable[[], None],
        why: Callable[[], QueueUnavailable],
    ) -> None:
        self.connection: Connection | None = None
        self.owner = 0
        self.pending: deque[Call] = deque()
        self.closed: QueueError | None = None
        self._clock = clock
        self._patience = patience
        self._start = start
        self._why = why
        self._expiry: IDelayedCall | None = None

    def add(self, call: Call) -> "Deferred[Any]":
        """Send `call` when its turn comes; returns its Deferred."""
        if self.closed is not None:
            call.fail(self.closed)
            return call.deferred
        self.pending.append(call)
        if self.connection is None:
            call.deadline = self._clock.seconds() + self._patience
            self._expect()
            self._start()
        else:
            self.flush()
        return call.deferred

    def flush(self) -> None:
        """Send what is pending, now or soon."""
        raise NotImplementedError

    def opened(self, connection: Connection, owner: int) -> None:
        """Use a new connection."""
        self.connection, self.owner = connection, owner
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self.flush()

    def lost(self) -> None:
        """Wait for another connection, with what is pending."""
        self.connection = None
        deadline = self._clock.seconds() + self._patience
        for call in self.pending:
            call.deadline = deadline
        self._expect()

    def close(self, error: QueueError) -> None:
        """Fail what is pending, and every later call."""
        self.closed = error
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self.fail_pending(error)

    def fail_pending(self, error: QueueError) -> None:
        """Fail what is pending."""
        pending, self.pending = self.pending, deque()
        for call in pending:
            call.verb.failed(call, error)

    def _expect(self) -> None:
        if self._expiry is None and self.pending:
            left = max(0.0, self.pending[0].deadline - self._clock.seconds())
            self._expiry = self._clock.callLater(left, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        now, pending = self._clock.seconds(), self.pending
        error = self._why() if pending else None
        while error is not None and pending and pending[0].deadline <= now:
            call = pending.popleft()
            call.verb.failed(call, error)
        self._expect()


class SlowLane(Lane):
    """Sends each call at once, as a transaction of its own."""

    def flush(self) -> None:
        connection = self.connection
        while connection is not None and self.pending:
            call = self.pending.popleft()
            connection.send([call.verb.query([call], self.owner)], Single(call))


class Single:
    """The receiver of a call that is a transaction of its own."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def done(self, results: list[PGresult]) -> None:
        verb = self._call.verb
        verb.done([self._call], verb.statement.rows(results[0]))

    def refused(self, result: PGresult) -> None:
        self._call.verb.failed(self._call, statement_error(result))

    def lost(self, error: QueueError) -> None:
        self._call.verb.failed(self._call, error)
