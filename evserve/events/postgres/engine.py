"""PostgresQueue: an EventQueue in a Postgres database, for any number of processes."""

from collections.abc import Collection
from math import inf
from random import random
from time import time
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from evserve.events.errors import (
    BadEvent,
    NotReserved,
    QueueClosed,
    QueueError,
    QueueUnavailable,
)
from evserve.events.event import (
    DEFAULT_PRIORITY,
    DEFAULT_TTR,
    ERRORS,
    Event,
    Handled,
    State,
    Stored,
    check_binding,
    check_event,
    check_history,
    check_id,
    check_keep,
    check_key,
    check_many,
    check_number,
    check_put,
    check_reason,
    check_seconds,
    check_sequence,
    check_shown_state,
    check_type,
    check_types,
    error_record,
    kept_reason,
)
from evserve.events.event_queue import Capability, Depth, EventQueue, never_raising
from evserve.events.postgres import verbs
from evserve.events.postgres.calls import Ask, Call, Row, SlowLane
from evserve.events.postgres.commit import GroupCommit
from evserve.events.postgres.connection import Statement
from evserve.events.postgres.errors import UnusableError
from evserve.events.postgres.session import Session, Sessions
from evserve.events.postgres.statements import Statements
from evserve.events.postgres.transactions import Transactions
from evserve.events.postgres.values import float8, int4, int8
from evserve.events.postgres.verbs import Held, Reservation
from evserve.events.postgres.waits import Pace, Waits


POLL: Final = 1.0
"""Seconds between two sweeps, after which those who wait look for events too."""

LOOK_AGAIN: Final = 0.05
"""Seconds in which others have reserved what they were told of together with us."""

OWNERS_INTERVAL: Final = 5.0
"""Seconds between two looks at the locks of other engines; one that lacks twice has died."""

SILENCE: Final = 10.0
"""Seconds without a sign of life, while an answer is due, after which a connection is given up."""

SLOW_SILENCE: Final = 300.0
"""The same for the connection of what may take long."""

MAX_BODY: Final = 256 * 1024 * 1024
"""Bytes of a body: a value and a message of Postgres end at 1 GB, and it needs some copies."""

CHUNK: Final = 1000
"""Events of one statement of `kick` or `truncate`."""

_log = Logger()


class PostgresQueue:
    """An EventQueue in a schema of a Postgres database.

    conninfo: for libpq.  where: the database's name in messages.  patience: seconds that a call
    waits for a connection.
    """

    capabilities = (
        Capability.DURABLE
        | Capability.LIST_TYPES
        | Capability.FAN_OUT
        | Capability.KEYS
        | Capability.TRUNCATE
        | Capability.SEQUENCES
        | Capability.HISTORY
        | Capability.TRANSACTIONS
        | Capability.SHARED
        | Capability.DRAIN
    )

    def __init__(
        self, conninfo: str, schema: str, where: str, reactor: Any, *, patience: float = 5.0
    ) -> None:
        self.schema = schema
        self._reactor = reactor
        self._where = where
        self._patience = patience
        self._closing: Deferred[None] | None = None
        self._refusal: QueueError | None = None
        self._held = Held()
        self._waits = Waits(reactor)
        self._pace = Pace()
        self._swept_to = 0.0
        self._sweeping = False
        self._sweep_call: IDelayedCall | None = None
        self._look_call: IDelayedCall | None = None
        self._wait_expiry: IDelayedCall | None = None
        self._missing: set[int] = set()
        self._owners_at = 0.0
        self._statements = statements = Statements(schema)
        self._sessions = Sessions(
            reactor,
            conninfo,
            schema,
            where,
            notified=self._notified,
            opened=self._opened,
            lost=self._lost,
            failed=self._failed,
        )
        self._fast = fast = GroupCommit(
            reactor,
            patience,
            statements,
            self._waits,
            start=self._sessions.start,
            why=self._why,
            take=self._take,
            give_back=self._give_back,
        )
        self._slow = SlowLane(reactor, patience, self._sessions.start, self._why)
        self.transactions = Transactions(
            conninfo,
            schema,
            reactor,
            held=self._held,
            owner=lambda: fast.owner,
            claim=self._claim,
        )
        self._put = verbs.Put(statements.put, statements.put_one, fast.announce)
        self._put_keyed = verbs.PutKeyed(statements.put_keyed, fast.announce, fast.undone)
        self._ack = verbs.Settle(statements.ack, self._held)
        self._ack_kept = verbs.AckKept(statements.ack_kept, self._held)
        self._keep = Ask(statements.keep)
        self._retry = verbs.Retry(statements.retry, self._held)
        self._bury = verbs.Bury(statements.bury, self._held, fast.announce)
        self._touch = verbs.Touch(statements.touch, self._held)
        self._unreserve = verbs.Unreserve(statements.unreserve, self._held)
        self._give_back_rest = verbs.GiveBack(statements.give_back, self._held)
        self._reserve_event = verbs.ReserveEvent(statements.reserve_id, self._give_back)
        self._sweep_verb = verbs.Sweep(statements.sweep)
        self._advance = verbs.Ordered(statements.advance)

    def open(self) -> None:
        """Do nothing: the first call connects."""

    # Producers

    @never_raising
    def put(
        self,
        event_type: str,
        body: bytes,
        *,
        priority: int = DEFAULT_PRIORITY,
        delay: float = 0,
        ttr: int = DEFAULT_TTR,
        key: str | None = None,
        connection: Any = None,
    ) -> Deferred[str]:
        args = check_put(event_type, body, priority, delay, ttr)
        size = len(args[1])
        if size > MAX_BODY:
            raise BadEvent(f"a body of {size} bytes; at most {MAX_BODY} are allowed")
        if connection is not None:
            return self.transactions.put(connection, (*args, check_key(key)))
        self._waits.lower(args[0], args[2])
        if 0 < args[3] < POLL:
            self._sweep_in(args[3])
        if key is None:
            return self._fast.add(Call(self._put, args, size))
        return self._fast.add(Call(self._put_keyed, (*args, check_key(key)), size))

    @never_raising
    def advance(
        self,
        sequence: str,
        number: int,
        event_type: str | None = None,
        body: bytes = b"",
        *,
        priority: int = DEFAULT_PRIORITY,
        ttr: int = DEFAULT_TTR,
    ) -> Deferred[bool]:
        name, wanted = check_sequence(sequence, number)
        values: list[bytes | None] = [name.encode(), int8(wanted), None, None, None, None]
        if event_type is not None:
            kind, data, level, _, run = check_put(event_type, body, priority, 0, ttr)
            values[2:] = [kind.encode(), data, int8(level), int8(run)]
            self._waits.lower(kind, level)
        return self._fast.add(Call(self._advance, values, len(body))).addCallback(bool)

    # Consumers

    def reserve(
        self, types: Collection[str], timeout: float | None = None
    ) -> Deferred[Event | None]:
        taken = self.reserve_many(types, 1, timeout)
        return taken.addCallback(lambda events: events[0] if events else None)

    @never_raising
    def reserve_many(
        self, types: Collection[str], limit: int, timeout: float | None = None
    ) -> Deferred[list[Event]]:
        wanted, most = check_types(types), check_many(limit)
        wait = None if timeout is None else check_seconds("timeout", timeout)
        if self._refusal is not None:
            raise self._refusal
        waiter = self._waits.add(wanted, most, wait)
        if self._fast.connection is None:
            self._sessions.start()
            if self._wait_expiry is None:
                self._wait_expiry = self._reactor.callLater(self._patience, self._expire_waits)
        else:
            self._fast.flush()
        return waiter.deferred

    @never_raising
    def reserve_event(self, event_id: str) -> Deferred[Event | None]:
        reserved = self._fast.add(Call(self._reserve_event, check_id(event_id)))
        return reserved.addCallback(lambda rows: self._take(rows[0]) if rows else None)

    @never_raising
    def ack(self, event: Event, *, result: bytes = b"", keep: float = 0) -> Deferred[None]:
        value, seconds = check_keep(result, keep)
        if (receipt := _handled_receipt(event)) is not None:
            return self._keep_handled(receipt, value, seconds)
        reservation = self._claim(event)
        if not seconds:
            return self._fast.add(Call(self._ack, (reservation,)))
        return self._fast.add(Call(self._ack_kept, (reservation, value, seconds), len(value)))

    def _keep_handled(
        self, reservation: Reservation, result: bytes, seconds: float
    ) -> Deferred[None]:
        """Have the history keep an event that a transaction has removed, once."""
        if not seconds or reservation.deleted is None:
            return succeed(None)
        priority, delay, ttr, *counters, put_at, reserved_at = reservation.deleted
        values = [
            int8(reservation.id),
            reservation.type.encode(),
            int8(priority),
            float8(delay),
            int8(ttr),
            *map(int4, counters),
            reservation.body,
            result,
            float8(put_at),
            float8(reserved_at),
            float8(seconds),
        ]
        call = Call(self._keep, values, len(reservation.body) + len(result))

        def kept(_: object) -> None:
            reservation.deleted = None

        return self._fast.add(call).addCallback(kept)

    @never_raising
    def retry(self, event: Event, delay: float = 0) -> Deferred[None]:
        wait = check_seconds("delay", delay)
        reservation = self._claim(event)
        self._waits.lower(reservation.type)
        if 0 < wait < POLL:
            self._sweep_in(wait)
        return self._fast.add(Call(self._retry, (reservation, wait)))

    @never_raising
    def bury(self, event: Event, reason: str, *, keep: float = 0) -> Deferred[None]:
        text, seconds = check_reason(reason), check_seconds("keep", keep)
        reservation = self._claim(event)
        record = error_record(reservation.event(), text, time())
        self._waits.lower(ERRORS)
        args = (reservation, record, seconds, kept_reason(text))
        return self._fast.add(Call(self._bury, args, len(record)))

    @never_raising
    def touch(self, event: Event) -> Deferred[None]:
        if _handled_receipt(event) is not None:
            return succeed(None)
        return self._fast.add(Call(self._touch, (self._reserved(event),)))

    # Operators

    @never_raising
    def kick(self, event_type: str, limit: int) -> Deferred[int]:
        most = check_number("limit", limit)
        return Deferred.fromCoroutine(self._kick(check_type(event_type), most))

    async def _kick(self, event_type: str, limit: int) -> int:
        self._waits.lower(event_type)
        for statement in (self._statements.kick_buried, self._statements.kick_delayed):
            count = await self._in_chunks(statement, [event_type.encode()], limit)
            if count:
                self._fast.announce([event_type])
                return count
        return 0

    async def _in_chunks(self, statement: Statement, values: list[bytes], limit: int) -> int:
        """Run a statement that counts what it did until there is no more to do."""
        total = 0
        while total < limit:
            most = min(CHUNK, limit - total)
            [(count,)] = await self._ask(statement, [*values, int8(most)])
            total += count
            if count < most:
                break
        return total

    @never_raising
    def peek(self, event_type: str, state: State = State.READY) -> Deferred[Stored | None]:
        statements = {
            State.READY: self._statements.peek_ready,
            State.DELAYED: self._statements.peek_delayed,
            State.BURIED: self._statements.peek_buried,
        }
        statement = statements[check_shown_state(state)]
        return self._ask(statement, [check_type(event_type).encode()]).addCallback(_stored)

    @never_raising
    def find(self, event_id: str) -> Deferred[Stored | None]:
        return self._ask(self._statements.find, [int8(check_id(event_id))]).addCallback(_stored)

    @never_raising
    def delete(self, event_id: str) -> Deferred[bool]:
        return self._ask(self._statements.delete, [int8(check_id(event_id))]).addCallback(bool)

    @never_raising
    def truncate(self, event_type: str) -> Deferred[int]:
        return Deferred.fromCoroutine(self._truncate(check_type(event_type).encode()))

    async def _truncate(self, event_type: bytes) -> int:
        [(last,)] = await self._ask(self._statements.last_id, [])
        count = 0
        for statement in (self._statements.truncate_ready, self._statements.truncate_other):
            values = [event_type, int8(last)]
            count += await self._in_chunks(statement, values, 2**63)
        return count

    @never_raising
    def pause(self, event_type: str, seconds: int) -> Deferred[None]:
        name, length = check_type(event_type), check_number("seconds", seconds)
        if length:
            values = [name.encode(), float8(length)]
            return self._ask(self._statements.pause, values).addCallback(_nothing)
        ended = self._ask(self._statements.end_pause, [name.encode()])
        return ended.addCallback(lambda _: self._fast.announce([name]))

    @never_raising
    def drain(self, *, on: bool) -> Deferred[None]:
        statement = self._statements.drain if on else self._statements.end_drain
        return self._ask(statement, []).addCallback(_nothing)

    @never_raising
    def depth(self, event_type: str) -> Deferred[Depth]:
        counted = self._ask(self._statements.depth, [check_type(event_type).encode()])
        return counted.addCallback(lambda rows: Depth(*rows[0]))

    @never_raising
    def types(self) -> Deferred[list[str]]:
        listed = self._ask(self._statements.types, [])
        return listed.addCallback(lambda rows: [row[0] for row in rows])

    @never_raising
    def bind(self, source: str, target: str) -> Deferred[None]:
        values = [each.encode() for each in check_binding(source, target)]
        return self._ask(self._statements.bind, values).addCallback(_nothing)

    @never_raising
    def unbind(self, source: str, target: str) -> Deferred[None]:
        values = [each.encode() for each in check_binding(source, target)]
        return self._ask(self._statements.unbind, values).addCallback(_nothing)

    @never_raising
    def bindings(self) -> Deferred[list[tuple[str, str]]]:
        return self._ask(self._statements.bindings, [])

    @never_raising
    def position(self, sequence: str) -> Deferred[int | None]:
        asked = self._ask(self._statements.position, [check_type(sequence).encode()])
        return asked.addCallback(lambda rows: rows[0][0] if rows else None)

    @never_raising
    def history(self, event_type: str | None = None, limit: int = 100) -> Deferred[list[Handled]]:
        wanted, most = check_history(event_type, limit)
        if wanted is None:
            listed = self._ask(self._statements.history, [int8(most)])
        else:
            values = [int8(most), wanted.encode()]
            listed = self._ask(self._statements.history_of, values)
        return listed.addCallback(lambda rows: [_handled(row) for row in rows])

    def close(self) -> Deferred[None]:
        if self._closing is None:
            self._closing = Deferred.fromCoroutine(self._close())
        done: Deferred[None] = Deferred()
        self._closing.addBoth(lambda _: done.callback(None))
        return done

    async def _close(self) -> None:
        refusal = self._refusal = QueueClosed("the queue was closed")
        for timer in (self._sweep_call, self._look_call, self._wait_expiry):
            if timer is not None and timer.active():
                timer.cancel()
        self._waits.fail(refusal)
        self._fast.close(refusal)
        self._slow.close(refusal)
        if self._fast.connection is not None:
            try:
                leaving = Deferred.fromCoroutine(self._leave())
                await leaving.addTimeout(self._patience, self._reactor)
            except Exception as error:  # whatever: others give the events back
                _log.info("{where}: closed late: {error}", where=self._where, error=error)
        self._sessions.close(refusal)
        self.transactions.close()

    async def _leave(self) -> None:
        """Give back what is reserved, and sign off, once what was sent is answered."""
        forget = verbs.Ordered(self._statements.forget_owner)
        await self._fast.send_last(Call(forget, [int8(self._fast.owner)]))
        await self._fast.when_idle()

    # Reservations

    def _take(self, row: Row) -> Event:
        """Make the event of a row that was reserved."""
        number, kind, body, priority, delay, ttr, attempts = row[:7]
        reservation = Reservation(self, number, attempts, kind, body)
        self._held.add(reservation)
        return Event(
            str(number),
            kind,
            body,
            priority,
            _whole(delay),
            ttr,
            attempts,
            row[7],
            row[8],
            row[9],
            row[10],
            reservation,
        )

    def _give_back(self, rows: list[Row]) -> None:
        """Make ready what was reserved for calls that have gone."""
        for row in rows:
            reservation = Reservation(self, row[0], row[6], row[1], settled=True)
            call = Call(self._unreserve, (reservation,))
            call.deferred.addErrback(lambda _: None)  # then it is ready already, or will be
            self._fast.add(call)

    def _reserved(self, event: Event) -> Reservation:
        """Return the reservation of `event`; raises NotReserved."""
        if self._refusal is not None:
            raise self._refusal
        held = check_event(event).receipt
        if (
            not isinstance(held, Reservation)
            or held.settled
            or self._held.reservations.get(held.id) is not held
            or str(held.id) != event.id
        ):
            raise NotReserved(f"{event} is not reserved here any more")
        return held

    def _claim(self, event: Event) -> Reservation:
        """Return the reservation of `event`, which no other call can settle from now on."""
        reservation = self._reserved(event)
        reservation.settled = True
        return reservation

    # Sessions

    def _ask(self, statement: Statement, values: list[bytes]) -> Deferred[list[Row]]:
        return self._slow.add(Call(Ask(statement), values))

    def _why(self) -> QueueUnavailable:
        return QueueUnavailable(f"cannot reach {self._where}: {self._sessions.cause}")

    def _opened(self, session: Session) -> None:
        if self._wait_expiry is not None:
            self._wait_expiry.cancel()
            self._wait_expiry = None
        self._fast.connection, self._fast.owner = session.fast, session.owner
        self._fast.alone = False  # who has come meanwhile was not heard
        self._fast.pending.appendleft(self._giving_back_rest())
        self._waits.wake_all()
        self._fast.opened(session.fast, session.owner)
        self._slow.opened(session.slow, session.owner)
        self._sweep_in(0)

    def _giving_back_rest(self) -> Call:
        """Return a call that makes ready what is reserved although it is not held."""
        call = Call(self._give_back_rest, None)
        self._held.is_complete = True
        call.deferred.addCallbacks(self._fast.announce, self._not_given_back)
        return call

    def _not_given_back(self, _: object) -> None:
        self._held.is_complete = False

    def _lost(self, error: QueueUnavailable) -> None:
        self._fast.lost()
        self._slow.lost()
        self._waits.fail(error)

    def _failed(self, error: QueueError) -> None:
        if isinstance(error, UnusableError):
            why = self._why()
            self._fast.fail_pending(why)
            self._slow.fail_pending(why)
            self._waits.fail(why)

    def _expire_waits(self) -> None:
        self._wait_expiry = None
        if self._fast.connection is None:
            self._waits.expire(self._reactor.seconds() - self._patience, self._why)
            if (oldest := self._waits.oldest()) is not None:
                left = oldest + self._patience - self._reactor.seconds()
                self._wait_expiry = self._reactor.callLater(max(0.0, left), self._expire_waits)

    def _notified(self, payload: str) -> None:
        """Take a notification: a type with ready events, @ and the seconds of a delay, or !.

        The last one is from an engine that has come.
        """
        if payload == "!":
            self._fast.alone = False
        elif payload.startswith("@"):
            try:
                seconds = float(payload[1:])
            except ValueError:  # anybody may notify
                return
            if 0 <= seconds < POLL:
                self._sweep_in(seconds)
        elif self._waits.wake([payload]):
            self._fast.flush()
            if self._waits.is_waited_for_with_others(payload):
                self._look_again_soon()

    def _look_again_soon(self) -> None:
        """Look again after what others have been told as well.

        One of them may lock the first event of each type while it takes one of them; the others
        are passed over here, and no notification comes when they are free again.
        """
        if self._look_call is not None and self._look_call.active():
            self._look_call.reset(LOOK_AGAIN)
        elif self._refusal is None:
            self._look_call = self._reactor.callLater(LOOK_AGAIN, self._look_again)

    def _look_again(self) -> None:
        if self._waits.wake_all():
            self._fast.flush()

    # The sweep

    def _sweep_in(self, seconds: float) -> None:
        """Sweep in so many seconds, unless one comes before."""
        at = self._reactor.seconds() + seconds
        call = self._sweep_call
        if call is not None and call.active():
            if call.getTime() <= at:
                return
            call.cancel()
        if self._refusal is None:
            self._sweep_call = self._reactor.callLater(seconds, self._sweep)

    def _sweep(self) -> None:
        session = self._sessions.session
        if session is None:
            return  # the next one begins with a sweep
        self._sweep_in(POLL * (0.9 + 0.2 * random()))  # noqa: S311 - spreads the load
        if session.fast.silence() > SILENCE or session.slow.silence() > SLOW_SILENCE:
            session.fast.abort(QueueUnavailable("Postgres does not answer"))
            return
        if self._sweeping:
            return
        self._sweeping = True
        now = self._reactor.seconds()
        full = self._pace.is_due(now)
        call = Call(self._sweep_verb, 0.0 if full else self._swept_to)
        call.deferred.addCallbacks(self._swept, self._not_swept, callbackArgs=(full,))
        self._waits.wake_all()
        if not self._held.is_complete:
            self._fast.add(self._giving_back_rest())
        self._fast.add(call)
        self._look_after_others(now)

    def _swept(self, row: Row, full: bool) -> None:
        self._sweeping = False
        count, types, wait, at, seconds = row
        if full:
            self._pace.took(seconds, self._reactor.seconds())
        if count < verbs.SWEPT_AT_ONCE:
            self._swept_to = at
            if wait is not None and wait < POLL:
                self._sweep_in(max(0.0, wait))
        else:
            self._sweep_in(0)
        if types:
            for each in types.split(" "):
                self._waits.lower(each)
            self._fast.announce(types.split(" "))

    def _not_swept(self, _: object) -> None:
        self._sweeping = False

    def _look_after_others(self, now: float) -> None:
        """Remove what the history has kept for long enough, and give back what the dead held."""
        expired = self._ask(self._statements.expire, [int8(CHUNK)])
        expired.addErrback(lambda _: None)
        if now - self._owners_at >= OWNERS_INTERVAL:
            self._owners_at = inf  # until it is answered: two looks must not be made at one time
            owners = self._ask(self._statements.owners, [])
            owners.addCallbacks(self._found_owners, lambda _: None)
            owners.addBoth(self._looked_at_owners)

    def _looked_at_owners(self, _: object) -> None:
        self._owners_at = self._reactor.seconds()

    def _found_owners(self, rows: list[Row]) -> None:
        others = [(owner, lives) for owner, lives in rows if owner != self._fast.owner]
        self._fast.alone = not others
        missing = {owner for owner, lives in others if not lives}
        dead, self._missing = missing & self._missing, missing
        for owner in dead:
            forgotten = self._ask(self._statements.forget_owner, [int8(owner)])
            forgotten.addErrback(lambda _: None)


def _whole(seconds: float) -> float:
    """Return seconds as `check_seconds` does: a whole number as an integer."""
    return int(seconds) if seconds == int(seconds) else seconds


def _plain_event(row: Row) -> Event:
    """Return the event in the first columns of a row, without a receipt."""
    number, kind, body, priority, delay, *rest = row[:11]
    return Event(str(number), kind, body, priority, _whole(delay), *rest)


def _stored(rows: list[Row]) -> Stored | None:
    if not rows:
        return None
    state, age, left = rows[0][11:]
    return Stored(_plain_event(rows[0]), State(state), age, left)


def _handled(row: Row) -> Handled:
    return Handled(_plain_event(row), *row[11:])


def _handled_receipt(event: Event) -> Reservation | None:
    """Return the receipt of an event that a transaction has removed; None of another one."""
    receipt = check_event(event).receipt
    return receipt if isinstance(receipt, Reservation) and receipt.handled else None


def _nothing(_: object) -> None:
    return None


if TYPE_CHECKING:
    _conforms: type[EventQueue] = PostgresQueue
