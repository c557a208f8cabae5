"""BeanstalkQueue: an EventQueue over the beanstalkd protocol."""

from collections.abc import Callable, Collection
from functools import partial, wraps
from math import ceil
from time import time
from typing import ParamSpec, TypeVar

from attrs import Factory, define, evolve, field
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from evserve.events.beanstalk import protocol
from evserve.events.beanstalk.connection import Connection
from evserve.events.beanstalk.pool import ConnectionPool
from evserve.events.beanstalk.protocol import Command
from evserve.events.errors import NotReserved, QueueError, QueueFull, QueueUnavailable
from evserve.events.event import (
    DEFAULT_PRIORITY,
    DEFAULT_TTR,
    ERRORS,
    Event,
    check_binding,
    check_event,
    check_number,
    check_put,
    check_reason,
    check_seconds,
    check_type,
    check_types,
    error_record,
)
from evserve.events.event_queue import Capability, Depth


P = ParamSpec("P")
T = TypeVar("T")

RENEW = 30
"""Seconds after which an endless wait is sent again, so that a dead server is noticed."""


def _never_raising(method: Callable[P, Deferred[T]]) -> Callable[P, Deferred[T]]:
    """Turn a QueueError that `method` raises into a failed Deferred."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        try:
            return method(*args, **kwargs)
        except QueueError as error:
            return fail(error)

    return call


@define(eq=False)
class _Reservation:
    """The receipt of an event: the connection that can settle it, until it is settled.

    event: as the server described it.  until: the earliest time at which the TTR can run out.
    shared: whether another consumer has been given the connection meanwhile.
    """

    connection: Connection
    event: Event
    until: float
    settled: bool = False
    shared: bool = False


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
        init=False, default=Capability.DURABLE | Capability.LIST_TYPES | Capability.FAN_OUT
    )
    _pool: ConnectionPool = field(
        init=False,
        default=Factory(
            lambda self: ConnectionPool(self.endpoint, self.clock, self.server, self.patience),
            takes_self=True,
        ),
    )

    @_never_raising
    def put(
        self,
        event_type: str,
        body: bytes,
        *,
        priority: int = DEFAULT_PRIORITY,
        delay: float = 0,
        ttr: int = DEFAULT_TTR,
    ) -> Deferred[str]:
        tube, data, pri, wait, run = check_put(event_type, body, priority, delay, ttr)
        return self._in_tube(tube, protocol.put(data, pri, wait, run))

    @_never_raising
    def reserve(
        self, types: Collection[str], timeout: float | None = None
    ) -> Deferred[Event | None]:
        wait = None if timeout is None else check_seconds("timeout", timeout)
        return Deferred.fromCoroutine(self._reserve(check_types(types), wait))

    async def _reserve(self, types: frozenset[str], timeout: float | None) -> Event | None:
        connection = await self._pool.acquire(types)
        try:
            connection.watch(types)
            reservation = await self._take(connection, timeout)
        except (CancelledError, QueueError):
            # The server may have given an event already; only closing gives it back.
            connection.close_after_replies()
            raise
        if reservation is None:
            self._pool.release(connection)
            return None
        return evolve(reservation.event, receipt=reservation)

    async def _take(self, connection: Connection, timeout: float | None) -> _Reservation | None:
        deadline = None if timeout is None else self.clock.seconds() + timeout
        while True:
            left = RENEW if deadline is None else max(0.0, deadline - self.clock.seconds())
            taken = await connection.run(protocol.reserve(ceil(min(left, RENEW))))
            if taken is not None:
                asked = self.clock.seconds()
                described = await connection.run(protocol.stats_job(taken))
                if described is not None:
                    event, left = described
                    return _Reservation(connection, event, asked + left)
            elif deadline is not None and self.clock.seconds() >= deadline:
                return None

    @_never_raising
    def ack(self, event: Event) -> Deferred[None]:
        settling = self._settle(self._claim(event), protocol.delete, certain=True)
        return Deferred.fromCoroutine(settling)

    @_never_raising
    def retry(self, event: Event, delay: float = 0) -> Deferred[None]:
        release = partial(protocol.release, delay=check_seconds("delay", delay))
        return Deferred.fromCoroutine(self._settle(self._claim(event), release))

    @_never_raising
    def bury(self, event: Event, reason: str) -> Deferred[None]:
        text, reservation = check_reason(reason), self._claim(event)
        record = None
        if reservation.event.type != ERRORS:
            record = error_record(reservation.event, text, self.wall_clock())
        settling = self._settle(reservation, protocol.bury, certain=True, record=record)
        return Deferred.fromCoroutine(settling)

    @_never_raising
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
        record: bytes | None = None,
    ) -> None:
        """Run `command`, which ends the reservation unless the server has no room to do it.

        certain: only if the event is surely still reserved, because the server would not ask.
        record: put before.
        """
        try:
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
            reservation.settled = False
            reservation.shared = not self._pool.withdraw(reservation.connection)
            raise

    def _check_ttr(self, reservation: _Reservation) -> None:
        """Raise NotReserved if the TTR may be over, and let the event go back if it is not."""
        if self.clock.seconds() >= reservation.until:
            message = f"{reservation.event}: its TTR is shorter than the server's reply took"
            reservation.connection.close(QueueUnavailable(message))
            raise NotReserved(message)

    def _release(self, reservation: _Reservation) -> None:
        if not reservation.shared:
            self._pool.release(reservation.connection)

    @_never_raising
    def kick(self, event_type: str, limit: int) -> Deferred[int]:
        return self._in_tube(check_type(event_type), protocol.kick(check_number("limit", limit)))

    @_never_raising
    def depth(self, event_type: str) -> Deferred[Depth]:
        return self._run(protocol.stats_tube(check_type(event_type)))

    def types(self) -> Deferred[list[str]]:
        return self._run(protocol.list_tubes())

    @_never_raising
    def bind(self, source: str, target: str) -> Deferred[None]:
        return self._run(protocol.bind(*check_binding(source, target)))

    @_never_raising
    def unbind(self, source: str, target: str) -> Deferred[None]:
        return self._run(protocol.unbind(*check_binding(source, target)))

    def close(self) -> Deferred[None]:
        return self._pool.close()

    def _run(self, command: Command[T]) -> Deferred[T]:
        return self._pool.on_shared(lambda connection: connection.run(command))

    def _in_tube(self, tube: str, command: Command[T]) -> Deferred[T]:
        def send(connection: Connection) -> Deferred[T]:
            connection.use(tube)
            return connection.run(command)

        return self._pool.on_shared(send)
