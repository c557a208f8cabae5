"""The verbs of producers, consumers and the sweep: arguments into arrays, rows into answers."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import define
from typing_extensions import override

from evserve.events.errors import NotReserved, QueueError, QueueFull
from evserve.events.event import ERRORS, Event
from evserve.events.postgres.calls import Call, Row, Verb
from evserve.events.postgres.connection import Query, Statement
from evserve.events.postgres.values import (
    bytea_array,
    float8,
    float8_array,
    int4_array,
    int8,
    int8_array,
    text_array,
)
from evserve.events.transaction import Transaction


SWEPT_AT_ONCE = 1000
"""Reservations, and delays, that one sweep ends."""


@define(eq=False, slots=True)
class Reservation:
    """The receipt of an event: what the consumer proves, until it is settled.

    queue: the engine that reserved it.  body: the event's, as it was put.  handled: whether a
    transaction has removed the event, or is about to.  deleted: the row that one has deleted,
    until the history keeps it: priority, delay, TTR, attempts, timeouts, releases, buries, kicks,
    and the times of the put and the reservation in seconds since the epoch.
    """

    queue: Any
    id: int
    attempts: int
    type: str
    body: bytes = b""
    settled: bool = False
    handled: bool = False
    deleted: Row | None = None

    def transaction(self, event: Event) -> Transaction:
        """Return the transaction in which `event` is handled."""
        transaction: Transaction = self.queue.transactions.transaction(self, event)
        return transaction

    def event(self) -> Event:
        """Return what the record of a buried event tells."""
        return Event(str(self.id), self.type, b"", attempts=self.attempts)


class Held:
    """The events that an engine has reserved and not settled, by id.

    is_complete: False after a call failed that would have settled one: it may still be reserved.
    """

    def __init__(self) -> None:
        self.reservations: dict[int, Reservation] = {}
        self.is_complete = True

    def add(self, reservation: Reservation) -> None:
        """Hold an event."""
        self.reservations[reservation.id] = reservation

    def drop(self, reservation: Reservation) -> None:
        """Hold it no more, if this is its last reservation."""
        if self.reservations.get(reservation.id) is reservation:
            del self.reservations[reservation.id]


class Put(Verb):
    """args: type, body, priority, delay, ttr. Answers with the id.

    one: the statement for a single call.  copied: called with the types that got copies.
    """

    ordered = True
    place = 0

    def __init__(
        self, statement: Statement, one: Statement, copied: Callable[[Iterable[str]], None]
    ) -> None:
        super().__init__(statement)
        self._one = one
        self._copied = copied

    @override
    def query(self, calls: Sequence[Call], owner: int) -> Query:
        if len(calls) == 1:
            kind, body, priority, delay, ttr = calls[0].args
            values = [kind.encode(), body, int8(priority), float8(delay), int8(ttr)]
            return self._one, values
        types, bodies, priorities, delays, ttrs = zip(*[call.args for call in calls], strict=True)
        return self.statement, [
            text_array([each.encode() for each in types]),
            bytea_array(bodies),
            int8_array(priorities),
            float8_array(delays),
            int8_array(ttrs),
        ]

    @override
    def makes_ready(self, calls: Sequence[Call]) -> Iterable[str]:
        return [call.args[0] for call in calls if not call.args[3]]

    @override
    def done(self, calls: Sequence[Call], rows: list[Row]) -> None:
        if not rows:
            for call in calls:
                call.fail(QueueFull("the queue is draining and accepts no events"))
            return
        rows.sort()
        for call, row in zip(calls, rows, strict=False):
            call.answer(str(row[0]))
        if len(rows) > len(calls):
            self._copied(row[1] for row in rows[len(calls) :])


class PutKeyed(Verb):
    """args: type, body, priority, delay, ttr, key. Answers with the id.

    again: called with calls that found their key taken by an event that is gone, or that was
    committed only just.
    """

    ordered = True
    place = 0

    def __init__(
        self,
        statement: Statement,
        copied: Callable[[Iterable[str]], None],
        again: Callable[[list[Call]], None],
    ) -> None:
        super().__init__(statement)
        self._copied = copied
        self._again = again

    @override
    def query(self, calls: Sequence[Call], owner: int) -> Query:
        columns = zip(*[call.args for call in calls], strict=True)
        types, bodies, priorities, delays, ttrs, keys = columns
        return self.statement, [
            text_array([each.encode() for each in types]),
            bytea_array(bodies),
            int8_array(priorities),
            float8_array(delays),
            int8_array(ttrs),
            text_array([each.encode() for each in keys]),
        ]

    @override
    def makes_ready(self, calls: Sequence[Call]) -> Iterable[str]:
        return [call.args[0] for call in calls if not call.args[3]]

    @override
    def done(self, calls: Sequence[Call], rows: list[Row]) -> None:
        count = len(calls)
        if not rows:
            for call in calls:
                call.fail(QueueFull("the queue is draining and accepts no events"))
            return
        new, stored = sorted(rows[:count]), {row[0] for row in rows[count:]}
        copied = rows[-1][2]  # the same in the row of each event that was stored
        if copied is not None:
            self._copied(copied.split(" "))
        found: dict[tuple[str, str], int] = {}
        answers: list[tuple[Call, int | None]] = []
        for call, (number, had, _) in zip(calls, new, strict=True):
            name = (call.args[0], call.args[5])
            if number in stored:
                found[name] = number
            answers.append((call, had if number not in stored else number))
        again = []
        for call, number in answers:
            known = number or found.get((call.args[0], call.args[5]))
            if known is None:
                again.append(call)
            else:
                call.answer(str(known))
        if again:
            self._again(again)


class Settle(Verb):
    """A verb of a reservation, which ends it. args: the reservation, then others.

    The call fails with NotReserved unless its row is among those of the result.
    """

    ends = True

    def __init__(self, statement: Statement, held: Held) -> None:
        super().__init__(statement)
        self._held = held

    @override
    def query(self, calls: Sequence[Call], owner: int) -> Query:
        return self.statement, [
            int8_array([call.args[0].id for call in calls]),
            int4_array([call.args[0].attempts for call in calls]),
            int8(owner),
            *self.more(calls),
        ]

    def more(self, calls: Sequence[Call]) -> list[bytes]:
        """Return the parameters after the first three."""
        return []

    @override
    def done(self, calls: Sequence[Call], rows: list[Row]) -> None:
        settled = {row[0] for row in rows}
        for call in calls:
            reservation: Reservation = call.args[0]
            if reservation.id in settled:
                if self.ends:
                    self._held.drop(reservation)
                call.answer(None)
            else:
                reservation.settled = True
                self._held.drop(reservation)
                message = f"event {reservation.id} ({reservation.type}) is not reserved any more"
                call.fail(NotReserved(message))

    @override
    def failed(self, call: Call, error: QueueError) -> None:
        reservation: Reservation = call.args[0]
        if isinstance(error, QueueFull):
            reservation.settled = False
        elif self.ends:
            self._held.drop(reservation)
            self._held.is_complete = False
        call.fail(error)


class AckKept(Settle):
    """args: the reservation, the result, the seconds to keep it."""

    @override
    def more(self, calls: Sequence[Call]) -> list[bytes]:
        return [
            bytea_array([call.args[1] for call in calls]),
            float8_array([call.args[2] for call in calls]),
        ]


class Retry(Settle):
    """args: the reservation, the delay."""

    @override
    def more(self, calls: Sequence[Call]) -> list[bytes]:
        return [float8_array([call.args[1] for call in calls])]

    @override
    def makes_ready(self, calls: Sequence[Call]) -> Iterable[str]:
        return [call.args[0].type for call in calls if not call.args[1]]


class Bury(Settle):
    """args: the reservation, the record, the seconds to keep a copy, the reason as it is kept.

    copied: called with the types that got copies of the records, and that of the records.
    """

    def __init__(
        self, statement: Statement, held: Held, copied: Callable[[Iterable[str]], None]
    ) -> None:
        super().__init__(statement, held)
        self._copied = copied

    @override
    def more(self, calls: Sequence[Call]) -> list[bytes]:
        return [
            bytea_array([call.args[1] for call in calls]),
            float8_array([call.args[2] for call in calls]),
            text_array([call.args[3].encode() for call in calls]),
        ]

    @override
    def makes_ready(self, calls: Sequence[Call]) -> Iterable[str]:
        return [ERRORS] * len(calls)

    @override
    def done(self, calls: Sequence[Call], rows: list[Row]) -> None:
        if rows and rows[0][1] is not None:
            self._copied(each for each in rows[0][1].split(" ") if each != ERRORS)
        super().done(calls, rows)


class Touch(Settle):
    """args: the reservation."""

    durable = False
    ends = False


class Unreserve(Settle):
    """args: the reservation, of an event whose caller has stopped waiting."""

    durable = False

    @override
    def makes_ready(self, calls: Sequence[Call]) -> Iterable[str]:
        return [call.args[0].type for call in calls]


class Sweep(Verb):
    """args: the time from which on to look. Answers with the row of the result."""

    durable = False
    place = 2
    most = 1

    @override
    def query(self, calls: Sequence[Call], owner: int) -> Query:
        return self.statement, [float8(calls[0].args), int8(SWEPT_AT_ONCE)]

    @override
    def done(self, calls: Sequence[Call], rows: list[Row]) -> None:
        calls[0].answer(rows[0])


class Ordered(Verb):
    """A statement by itself that takes effect in its turn; answers with its rows."""

    ordered = True
    place = 0
    most = 1

    @override
    def query(self, calls: Sequence[Call], owner: int) -> Query:
        return self.statement, calls[0].args

    @override
    def done(self, calls: Sequence[Call], rows: list[Row]) -> None:
        calls[0].answer(rows)


class ReserveEvent(Ordered):
    """args: the id. Answers with the row of the event, if it could be reserved.

    give_back: called with the row if its caller has gone.
    """

    def __init__(self, statement: Statement, give_back: Callable[[list[Row]], None]) -> None:
        super().__init__(statement)
        self._give_back = give_back

    @override
    def query(self, calls: Sequence[Call], owner: int) -> Query:
        return self.statement, [int8(calls[0].args), int8(owner)]

    @override
    def done(self, calls: Sequence[Call], rows: list[Row]) -> None:
        if calls[0].deferred.called:
            self._give_back(rows)
        super().done(calls, rows)


class GiveBack(Verb):
    """Makes ready what the owner has reserved, except what it holds. Answers with the types.

    It comes before what this batch reserves.
    """

    durable = False
    place = -1
    most = 1

    def __init__(self, statement: Statement, held: Held) -> None:
        super().__init__(statement)
        self._held = held

    @override
    def query(self, calls: Sequence[Call], owner: int) -> Query:
        return self.statement, [int8(owner), int8_array(list(self._held.reservations))]

    @override
    def done(self, calls: Sequence[Call], rows: list[Row]) -> None:
        calls[0].answer([row[0] for row in rows])
