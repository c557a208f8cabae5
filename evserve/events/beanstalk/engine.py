"""BeanstalkQueue: an EventQueue over the beanstalkd protocol."""

from collections.abc import Awaitable, Callable, Collection
from functools import partial
from math import ceil
from time import time
from typing import Any, TypeVar

from attrs import Factory, define, evolve, field
from twisted.internet.defer import CancelledError, Deferred, FirstError, fail, gatherResults
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from evserve.events.beanstalk import protocol
from evserve.events.beanstalk.connection import Connection
from evserve.events.beanstalk.pool import ConnectionPool
from evserve.events.beanstalk.protocol import Command, Taken
from evserve.events.errors import (
    NotReserved,
    QueueError,
    QueueFull,
    QueueUnavailable,
    Unsupported,
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
    check_no_connection,
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
from evserve.events.event_queue import Capability, Depth, never_raising


T = TypeVar("T")

RENEW = 30
"""Seconds after which an endless wait is sent again, so that a dead server is noticed."""


@define(eq=False)
class _Loan:
    """A connection that is not in the pool, because events which it reserved are not settled.

    held: how many these are.  shared: whether another consumer has been given the connection
    meanwhile.
    """

    connection: Connection
    held: int
    shared: bool = False


@define(eq=False)
class _Reservation:
    """The receipt of an event: the connection that can settle it, until it is settled.

    event: as the server described it.  until: the earliest time at which the TTR can run out.
    """

    loan: _Loan
    event: Event
    until: float
    settled: bool = False

    @property
    def connection(self) -> Connection:
        return self.loan.connection


@define(eq=False)
class BeanstalkQueue:
    """An EventQueue served by beanstalkd or by evserve.

    endpoint: where the server is.  server: its name in messages.  patience: seconds that a call
    waits for a connection, and a connection for a sign of life while replies are due.
    wall_clock: dates the error records.
    """

    endpoint: IStreamClientEndpoint
    clock: IReactorTime
    server: str
    patience: float = 5.0
    wall_clock: Callable[[], float] = time
    capabilities: Capability = field(
        init=False,
        default=(
            Capability.DURABLE
            | Capability.LIST_TYPES
            | Capability.FAN_OUT
            | Capability.KEYS
            | Capability.TRUNCATE
            | Capability.SEQUENCES
            | Capability.HISTORY
            | Capability.SHARED
            | Capability.DRAIN
        ),
    )
    _pool: ConnectionPool = field(
        init=False,
        default=Factory(
            lambda self: ConnectionPool(self.endpoint, self.clock, self.server, self.patience),
            takes_self=True,
        ),
    )

    def open(self) -> None:
        """Do nothing: the first call connects."""

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
        tube, data, pri, wait, run = check_put(event_type, body, priority, delay, ttr)
        only = check_key(key)
        check_no_connection(connection)
        if only is None:
            return self._in_tube(tube, protocol.put(data, pri, wait, run))
        command = protocol.put_key(only, data, pri, wait, run)
        return self._in_tube(tube, command, extended=True)

    @never_raising
    def reserve(
        self, types: Collection[str], timeout: float | None = None
    ) -> Deferred[Event | None]:
        taken = self.reserve_many(types, 1, timeout)
        return taken.addCallback(lambda events: events[0] if events else None)

    @never_raising
    def reserve_many(
        self, types: Collection[str], limit: int, timeout: float | None = None
    ) -> Deferred[list[Event]]:
        wait = None if timeout is None else check_seconds("timeout", timeout)
        return Deferred.fromCoroutine(self._reserve(check_types(types), check_many(limit), wait))

    async def _reserve(
        self, types: frozenset[str], limit: int, timeout: float | None
    ) -> list[Event]:
        async def take(connection: Connection) -> list[tuple[Event, float]]:
            connection.watch(types)
            deadline = None if timeout is None else self.clock.seconds() + timeout
            while True:
                left = RENEW if deadline is None else max(0.0, deadline - self.clock.seconds())
                taken = await _take_ready(connection, limit, ceil(min(left, RENEW)))
                if described := await self._describe(connection, taken):
                    return described
                if not taken and deadline is not None and self.clock.seconds() >= deadline:
                    return []

        return await self._borrow(types, take)

    @never_raising
    def reserve_event(self, event_id: str) -> Deferred[Event | None]:
        return Deferred.fromCoroutine(self._reserve_event(check_id(event_id)))

    async def _reserve_event(self, number: int) -> Event | None:
        async def take(connection: Connection) -> list[tuple[Event, float]]:
            taken = await connection.run(protocol.reserve_job(number))
            return [] if taken is None else await self._describe(connection, [taken])

        events = await self._borrow(frozenset(), take)
        return events[0] if events else None

    async def _describe(
        self, connection: Connection, taken: list[Taken]
    ) -> list[tuple[Event, float]]:
        """Return the events `taken`, and the earliest times at which their TTRs can run out."""
        asked = self.clock.seconds()
        asking = [connection.run(protocol.stats_job(each)) for each in taken]
        if len(asking) == 1:  # gatherResults would take as long as all the rest
            described = [await asking[0]]
        else:
            described = await _all(asking)
        return [(each.event, asked + each.left) for each in described if each is not None]

    async def _borrow(
        self,
        types: frozenset[str],
        take: Callable[[Connection], Awaitable[list[tuple[Event, float]]]],
    ) -> list[Event]:
        """Reserve with `take` on a connection, which stays lent until all events are settled."""
        connection = await self._pool.acquire(types)
        try:
            described = await take(connection)
        except (CancelledError, QueueError):
            # The server may have given an event already; only closing gives it back.
            connection.close_after_replies()
            raise
        if not described:
            self._pool.release(connection)
        loan = _Loan(connection, len(described))
        return [
            evolve(event, receipt=_Reservation(loan, event, until)) for event, until in described
        ]

    @never_raising
    def ack(self, event: Event, *, result: bytes = b"", keep: float = 0) -> Deferred[None]:
        value, kept_for = check_keep(result, keep)
        delete: Callable[[Event], Command[None]] = protocol.delete
        if kept_for:
            delete = partial(protocol.delete_keep, seconds=kept_for, result=value)
        settling = self._settle(self._claim(event), delete, certain=True, extended=bool(kept_for))
        return Deferred.fromCoroutine(settling)

    @never_raising
    def retry(self, event: Event, delay: float = 0) -> Deferred[None]:
        release = partial(protocol.release, delay=check_seconds("delay", delay))
        return Deferred.fromCoroutine(self._settle(self._claim(event), release))

    @never_raising
    def bury(self, event: Event, reason: str, *, keep: float = 0) -> Deferred[None]:
        text, kept_for = check_reason(reason), check_seconds("keep", keep)
        bury: Callable[[Event], Command[None]] = protocol.bury
        if kept_for:
            bury = partial(protocol.bury_keep, seconds=kept_for, reason=kept_reason(text))
        reservation = self._claim(event)
        record = None
        if reservation.event.type != ERRORS:
            record = error_record(reservation.event, text, self.wall_clock())
        settling = self._settle(
            reservation, bury, certain=True, extended=bool(kept_for), record=record
        )
        return Deferred.fromCoroutine(settling)

    @never_raising
    def touch(self, event: Event) -> Deferred[None]:
        return Deferred.fromCoroutine(self._touch(self._held(event)))

    async def _touch(self, reservation: _Reservation) -> None:
        sent = self.clock.seconds()
        try:
            await reservation.connection.run(protocol.touch(reservation.event))
        except NotReserved:
            if not reservation.settled:
                reservation.settled = True
                self._release(reservation)
            raise
        reservation.until = sent + reservation.event.ttr

    def _held(self, event: Event) -> _Reservation:
        """Return the reservation of `event`; raises NotReserved."""
        held = check_event(event).receipt
        if not isinstance(held, _Reservation) or held.settled or held.event.id != event.id:
            raise NotReserved(f"{event} is not reserved here any more")
        if held.connection.error is not None:
            raise NotReserved(f"{event} went back: {held.connection.error}")
        return held

    def _claim(self, event: Event) -> _Reservation:
        """Return the reservation of `event`, which no other call can settle from now on."""
        reservation = self._held(event)
        reservation.settled = True
        return reservation

    async def _settle(
        self,
        reservation: _Reservation,
        command: Callable[[Event], Command[None]],
        *,
        certain: bool = False,
        extended: bool = False,
        record: bytes | None = None,
    ) -> None:
        """Run `command`, which ends the reservation unless the server has no room to do it.

        certain: only if the event is surely still reserved, because the server would not ask.
        extended: only on a server that surely knows it.  record: put before.
        """
        try:
            if extended:
                await _require_extended(reservation.connection)
            # A command may be under way for as long as its reply is waited for.
            if certain and self.clock.seconds() + self.patience >= reservation.until:
                await self._touch(reservation)
                self._check_ttr(reservation)
            if record is not None:
                await self.put(ERRORS, record)
        except NotReserved:
            self._release(reservation)
            raise
        except BaseException:
            reservation.settled = False
            raise
        done = reservation.connection.run(command(reservation.event))
        # Released before the reply: a `reserve` that follows travels with the acknowledgement.
        self._release(reservation)
        try:
            await done
        except QueueFull:
            loan, reservation.settled = reservation.loan, False
            if not loan.held:
                loan.shared = not self._pool.withdraw(loan.connection)
            loan.held += 1
            raise

    def _check_ttr(self, reservation: _Reservation) -> None:
        """Raise NotReserved if the TTR may be over, and let the event go back if it is not."""
        if self.clock.seconds() >= reservation.until:
            message = f"{reservation.event}: its TTR is shorter than the server's reply took"
            reservation.connection.close(QueueUnavailable(message))
            raise NotReserved(message)

    def _release(self, reservation: _Reservation) -> None:
        loan = reservation.loan
        loan.held -= 1
        if not (loan.held or loan.shared):
            self._pool.release(loan.connection)

    @never_raising
    def kick(self, event_type: str, limit: int) -> Deferred[int]:
        return self._in_tube(check_type(event_type), protocol.kick(check_number("limit", limit)))

    @never_raising
    def peek(self, event_type: str, state: State = State.READY) -> Deferred[Stored | None]:
        shown = self._peek(check_type(event_type), check_shown_state(state))
        return Deferred.fromCoroutine(shown)

    async def _peek(self, tube: str, state: State) -> Stored | None:
        while (found := await self._in_tube(tube, protocol.peek(state))) is not None:
            stored = await self._run(protocol.stats_job(found))
            if stored is not None:  # else it has been settled meanwhile: look again
                return stored
        return None

    @never_raising
    def find(self, event_id: str) -> Deferred[Stored | None]:
        return Deferred.fromCoroutine(self._find(check_id(event_id)))

    async def _find(self, number: int) -> Stored | None:
        found = await self._run(protocol.peek_job(number))
        return None if found is None else await self._run(protocol.stats_job(found))

    @never_raising
    def delete(self, event_id: str) -> Deferred[bool]:
        return self._run(protocol.delete_job(check_id(event_id)))

    @never_raising
    def truncate(self, event_type: str) -> Deferred[int]:
        return Deferred.fromCoroutine(self._truncate(check_type(event_type)))

    async def _truncate(self, tube: str) -> int:
        """Truncate on a connection of its own: that may take long, and others should not wait."""
        connection = await self._pool.acquire(frozenset())
        try:
            count = await connection.run(protocol.truncate(tube))
        except (CancelledError, QueueError):
            connection.close_after_replies()
            raise
        self._pool.release(connection)
        return count

    @never_raising
    def pause(self, event_type: str, seconds: int) -> Deferred[None]:
        tube, length = check_type(event_type), check_number("seconds", seconds)
        # The tube must exist, and does when it is in use; beanstalkd forgets the pause of a tube
        # that has no event when no client watches it and it is not in use any more.
        return self._in_tube(tube, protocol.pause_tube(tube, length))

    def drain(self, *, on: bool) -> Deferred[None]:
        return self._run(protocol.drain(on=on))

    @never_raising
    def depth(self, event_type: str) -> Deferred[Depth]:
        return self._run(protocol.stats_tube(check_type(event_type)))

    def types(self) -> Deferred[list[str]]:
        return self._run(protocol.list_tubes())

    @never_raising
    def bind(self, source: str, target: str) -> Deferred[None]:
        return self._run(protocol.bind(*check_binding(source, target)))

    @never_raising
    def unbind(self, source: str, target: str) -> Deferred[None]:
        return self._run(protocol.unbind(*check_binding(source, target)))

    def bindings(self) -> Deferred[list[tuple[str, str]]]:
        return self._run(protocol.list_bindings()).addCallback(sorted)

    @never_raising
    def position(self, sequence: str) -> Deferred[int | None]:
        return self._run(protocol.position(check_type(sequence)))

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
        if event_type is None:
            return self._run(protocol.advance(name, wanted))
        tube, data, pri, _, run = check_put(event_type, body, priority, 0, ttr)
        command = protocol.advance_put(name, wanted, tube, data, priority=pri, ttr=run)
        return self._in_tube(tube, command, extended=True)

    @never_raising
    def history(self, event_type: str | None = None, limit: int = 100) -> Deferred[list[Handled]]:
        return self._run(protocol.history(*check_history(event_type, limit)))

    def close(self) -> Deferred[None]:
        return self._pool.close()

    def _run(self, command: Command[T]) -> Deferred[T]:
        return self._pool.on_shared(lambda connection: connection.run(command))

    def _in_tube(self, tube: str, command: Command[T], *, extended: bool = False) -> Deferred[T]:
        """Run `command` for `tube`; extended: only on a server that surely knows it."""

        def send(connection: Connection) -> Deferred[T]:
            if extended and not connection.extended:
                return fail(_lacking())
            connection.use(tube)
            return connection.run(command)

        return self._pool.on_shared(send, extended=extended)


async def _require_extended(connection: Connection) -> None:
    """Return if the server has the verbs that evserve adds; raises Unsupported."""
    if connection.extended is None:
        connection.extended = await connection.run(protocol.probe())
    if not connection.extended:
        raise _lacking()


def _lacking() -> Unsupported:
    return Unsupported("the server is beanstalkd, which has no keys, no sequences and no history")


async def _take_ready(connection: Connection, limit: int, seconds: int) -> list[Taken]:
    """Reserve up to `limit` jobs that are ready when the first one is; wait for it."""
    if limit > 1 and connection.extended is not False:
        try:
            return await connection.run(protocol.reserve_batch(limit, seconds))
        except Unsupported:
            connection.extended = False
    taken: list[Taken] = []
    while len(taken) < limit:
        each = await connection.run(protocol.reserve(0 if taken else seconds))
        if each is None:
            break
        taken.append(each)
    return taken


async def _all(results: list[Deferred[T]]) -> list[T]:
    """Return the results of all, or raise the error of the first that fails."""
    try:
        return await gatherResults(results, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
