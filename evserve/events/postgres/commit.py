"""Group commit: what is called while a commit is under way shares the next one.

A batch is one transaction with one statement for each verb, however many calls: puts in their
order, then what settles, then what reserves, so that an event may be put and reserved in one
batch. The server's answer to the commit answers all of them.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from psycopg.pq.abc import PGresult
from twisted.internet.defer import Deferred

from evserve.events.errors import QueueError, QueueUnavailable
from evserve.events.event import Event
from evserve.events.postgres.calls import Call, Lane, Row, Verb
from evserve.events.postgres.connection import Query
from evserve.events.postgres.errors import READ_ONLY, sqlstate, statement_error
from evserve.events.postgres.statements import Statements
from evserve.events.postgres.values import int8, int8_array, text_array
from evserve.events.postgres.waits import Group, Waits


MAX_CALLS: Final = 1000
"""Calls of one batch."""

MAX_BYTES: Final = 8 * 1024 * 1024
"""Bytes of bodies after which no more are added to a batch."""


class GroupCommit(Lane):
    """The lane of producers and consumers.

    alone: whether no other engine is there to be notified.  take: makes the Event of a row that
    was reserved.  give_back: called with rows whose callers have stopped waiting.
    """

    def __init__(
        self,
        reactor: Any,
        patience: float,
        statements: Statements,
        waits: Waits,
        *,
        start: Callable[[], None],
        why: Callable[[], QueueUnavailable],
        take: Callable[[Row], Event],
        give_back: Callable[[list[Row]], None],
    ) -> None:
        super().__init__(reactor, patience, start, why)
        self.waits = waits
        self.take = take
        self.give_back = give_back
        self._reactor = reactor
        self.statements = statements
        self._under_way: set[_Batch] = set()
        self._scheduled = False
        self._answering = False
        self._ready: set[str] = set()
        self.alone = False
        self._idle: Deferred[None] | None = None

    def flush(self) -> None:
        """Send a batch at the end of this turn of the reactor, or of the answers to another."""
        if not self._scheduled and not self._answering:
            self._scheduled = True
            self._reactor.callLater(0, self._send_scheduled)

    def announce(self, types: Iterable[str]) -> None:
        """Tell others, and who waits here, that there are ready events of `types`."""
        ready = set(types)
        if self.waits.wake(ready):
            self.flush()
        if ready and not self.alone:
            self._ready |= ready
            self.flush()

    def send_alone(self, calls: Iterable[Call], groups: Iterable[Group]) -> None:
        """Send each as a batch of its own: one of them failed for all."""
        for call in calls:
            batch = _Batch(self)
            batch.add(call)
            self._send_batch(batch)
        for group in groups:
            batch = _Batch(self)
            batch.ask(group)
            self._send_batch(batch)

    def send_last(self, call: Call) -> "Deferred[Any]":
        """Send a call although the lane is closed to others."""
        self.pending.append(call)
        self.flush()
        return call.deferred

    def undone(self, calls: list[Call]) -> None:
        """Put calls that did nothing before those that are pending."""
        self.pending.extendleft(reversed(calls))

    def when_idle(self) -> "Deferred[None]":
        """Fire when every batch that was sent has been answered."""
        self._idle = Deferred()
        self._check_idle()
        return self._idle

    def answer(self, batch: "_Batch", answer: Callable[[], None]) -> None:
        """Call `answer`, which answers a batch; then send what was called meanwhile."""
        self._under_way.discard(batch)
        self._answering = True
        try:
            answer()
        finally:
            self._answering = False
        self._send()
        self._check_idle()

    def _check_idle(self) -> None:
        if self._idle is not None and not self._under_way and not self._idle.called:
            self._idle.callback(None)

    def _send_scheduled(self) -> None:
        self._scheduled = False
        self._send()

    def _send(self) -> None:
        connection = self.connection
        if connection is None:
            return
        if self._ready:
            self._notify(self._ready)
            self._ready = set()
        if self._under_way:
            return
        batch = _Batch(self)
        size = 0
        pending = self.pending
        while pending and batch.count < MAX_CALLS and size < MAX_BYTES:
            call = pending.popleft()
            size += call.size
            batch.add(call)
        batch.ask_for_waiters()
        if batch:
            self._send_batch(batch)

    def _send_batch(self, batch: "_Batch") -> None:
        if self.connection is None:  # lost since the batch before
            batch.lost(self._why())
            return
        self._under_way.add(batch)
        self.connection.send(batch.queries(self.statements), batch)
        if batch.announced and not self.alone:
            self._notify(batch.announced)

    def _notify(self, types: Iterable[str]) -> None:
        """Notify in a transaction of its own.

        At its commit a transaction with notifications takes a lock of the whole cluster: the disk
        must not be waited for meanwhile.
        """
        assert self.connection is not None
        values = [text_array([each.encode() for each in types])]
        self.connection.send([(self.statements.notify, values)], _NOTHING)


class _Nothing:
    """The receiver of what needs no answer."""

    def done(self, results: list[PGresult]) -> None:
        """Do nothing: no caller waits."""

    def refused(self, result: PGresult) -> None:
        """Nothing: those who wait for a notification also look by themselves."""

    def lost(self, error: QueueError) -> None:
        """Do nothing: no caller waits."""


_NOTHING: Final = _Nothing()


class _Batch:
    """One transaction: a receiver.

    announced: types of which others are told at once; what is made ready for waiters here is
    announced when they have left some of it.
    """

    __slots__ = ("_durable", "_groups", "_lane", "_of_verb", "_waiting", "announced", "count")

    def __init__(self, lane: GroupCommit) -> None:
        self.count = 0
        self.announced: set[str] = set()
        self._lane = lane
        self._durable = False
        self._groups: list[tuple[Verb, list[Call]]] = []
        self._of_verb: dict[Verb, list[Call]] = {}
        self._waiting: list[Group] = []

    def __bool__(self) -> bool:
        return bool(self._groups or self._waiting)

    def add(self, call: Call) -> None:
        """Add a call to those of its verb; of ordered verbs, only to the last ones."""
        self.count += 1
        verb = call.verb
        calls = self._of_verb.get(verb)
        if calls is not None and len(calls) < verb.most:
            calls.append(call)
            return
        calls = [call]
        self._durable = self._durable or verb.durable
        if verb.ordered:
            for each, _ in self._groups:
                if each.ordered:
                    self._of_verb.pop(each, None)
        self._groups.append((verb, calls))
        self._of_verb[verb] = calls

    def ask_for_waiters(self) -> None:
        """Reserve for those who wait, also what this batch makes ready."""
        waits = self._lane.waits
        ready: set[str] = set()
        for verb, calls in self._groups:
            ready.update(verb.makes_ready(calls))
        waits.wake(ready)
        self._waiting = waits.due()
        self.announced = ready.difference(*(group.types for group in self._waiting))

    def ask(self, group: Group) -> None:
        """Reserve for one group, which has asked before."""
        self._waiting.append(group)

    def queries(self, statements: Statements) -> list[Query]:
        """Return the statements, in the order in which they are run."""
        lane = self._lane
        self._groups.sort(key=_place)
        queries = [verb.query(calls, lane.owner) for verb, calls in self._groups]
        reserve = statements.reserve if self._durable else statements.reserve_lazily
        for group in self._waiting:
            starts = lane.waits.starts(group)
            types = text_array([each.encode() for each in group.names])
            priorities = int8_array([priority for priority, _ in starts])
            ids = int8_array([number for _, number in starts])
            values = [types, priorities, ids, int8(group.asking), int8(lane.owner)]
            queries.append((reserve, values))
        return queries

    def done(self, results: list[PGresult]) -> None:
        self._lane.answer(self, lambda: self._answer(results))

    def _answer(self, results: list[PGresult]) -> None:
        lane, waits = self._lane, self._lane.waits
        for (verb, calls), result in zip(self._groups, results, strict=False):
            verb.done(calls, verb.statement.rows(result))
        rows_of = lane.statements.reserve.rows
        left: list[Row] = []
        for group, result in zip(self._waiting, results[len(self._groups) :], strict=True):
            rows = rows_of(result)
            if len(rows) >= group.asking:
                lane.announce(self._left_over(group, rows))
            left += waits.serve(group, rows, lane.take, alone=not self._groups)
        if left:
            lane.give_back(left)

    def _left_over(self, group: Group, rows: list[Row]) -> set[str]:
        """Return the types of which this batch made more ready than it reserved.

        What was ready before was announced before.
        """
        ready = Counter(each for verb, calls in self._groups for each in verb.makes_ready(calls))
        ready.subtract(row[1] for row in rows)
        return {each for each, count in ready.items() if count > 0 and each in group.types}

    def refused(self, result: PGresult) -> None:
        self._lane.answer(self, lambda: self._refuse(result))

    def _refuse(self, result: PGresult) -> None:
        lane = self._lane
        calls = [call for _, calls in self._groups for call in calls]
        if sqlstate(result) == READ_ONLY:
            for group in self._waiting:
                lane.waits.unasked(group)
            lane.undone(calls)
            if lane.connection is not None:
                lane.connection.abort(QueueUnavailable("the server has become read-only"))
        elif len(calls) + len(self._waiting) > 1:
            lane.send_alone(calls, self._waiting)
            lane.announce(each for verb, calls in self._groups for each in verb.makes_ready(calls))
        else:
            error = statement_error(result)
            self._fail_calls(error)
            for group in self._waiting:
                group.asking = 0
                lane.waits.fail_group(group, error)

    def lost(self, error: QueueError) -> None:
        self._lane.answer(self, lambda: self._fail_calls(error))  # who waits has been told

    def _fail_calls(self, error: QueueError) -> None:
        for verb, calls in self._groups:
            for call in calls:
                verb.failed(call, error)


def _place(entry: tuple[Verb, list[Call]]) -> int:
    return entry[0].place
