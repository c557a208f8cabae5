"""BeanstalkQueue: an EventQueue over the beanstalkd protocol."""

from collections.abc import Callable, Collection
from functools import wraps
from math import ceil
from time import time
from typing import NoReturn, ParamSpec, TypeVar

from attrs import Factory, define, evolve, field
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure

from evserve.events.beanstalk import protocol
from evserve.events.beanstalk.connection import Connection
from evserve.events.beanstalk.pool import ConnectionPool
from evserve.events.beanstalk.protocol import Command
from evserve.events.errors import NotReserved, QueueError, QueueFull
from evserve.events.event import (
    DEFAULT_PRIORITY,
    DEFAULT_TTR,
    ERRORS,
    Event,
    check_number,
    check_put,
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

    shared: whether another consumer has been given the connection meanwhile.
    """

    connection: Connection
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
        check_put(event_type, body, priority, delay, ttr)
        return self._in_tube(event_type, protocol.put(body, priority, delay, ttr))

    @_never_raising
    def reserve(
        self, types: Collection[str], timeout: float | None = None
    ) -> Deferred[Event | None]:
        return Deferred.fromCoroutine(self._reserve(check_types(types), timeout))

    async def _reserve(self, types: frozenset[str], timeout: float | None) -> Event | None:
        connection = await self._pool.acquire(types)
        try:
            connection.watch(types)
            event = await self._take(connection, timeout)
        except (CancelledError, QueueError):
            # The server may have given an event already; only closing gives it back.
            connection.close_after_replies()
            raise
        if event is None:
            self._pool.release(connection)
            return None
        return evolve(event, receipt=_Reservation(connection))

    async def _take(self, connection: Connection, timeout: float | None) -> Event | None:
        deadline = None if timeout is None else self.clock.seconds() + timeout
        while True:
            left = RENEW if deadline is None else max(0.0, deadline - self.clock.seconds())
            taken = await connection.run(protocol.reserve(ceil(min(left, RENEW))))
            if taken is not None:
                event = await connection.run(protocol.stats_job(taken))
                if event is not None:
                    return event
            elif deadline is not None and self.clock.seconds() >= deadline:
                return None

    @_never_raising
    def ack(self, event: Event) -> Deferred[None]:
        return self._settle(self._claim(event), protocol.delete(event))

    @_never_raising
    def retry(self, event: Event, delay: float = 0) -> Deferred[None]:
        check_number("delay", delay, int | float, least=0)
        return self._settle(self._claim(event), protocol.release(event, delay))

    def bury(self, event: Event, reason: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._bury(event, reason))

    async def _bury(self, event: Event, reason: str) -> None:
        reservation = self._claim(event)
        if event.type != ERRORS:
            try:
                await self.put(ERRORS, error_record(event, reason, self.wall_clock()))
            except BaseException:
                reservation.settled = False
                raise
        await self._settle(reservation, protocol.bury(event))

    @_never_raising
    def touch(self, event: Event) -> Deferred[None]:
        return self._held(event).connection.run(protocol.touch(event))

    def _held(self, event: Event) -> _Reservation:
        """Return the reservation of `event`; raises NotReserved."""
        reservation = event.receipt
        if not isinstance(reservation, _Reservation) or reservation.settled:
            raise NotReserved(f"{event} is not reserved here any more")
        if reservation.connection.error is not None:
            raise NotReserved(f"{event} went back: {reservation.connection.error}")
        return reservation

    def _claim(self, event: Event) -> _Reservation:
        """Return the reservation of `event`, which no other call can settle from now on."""
        reservation = self._held(event)
        reservation.settled = True
        return reservation

    def _settle(self, reservation: _Reservation, command: Command[None]) -> Deferred[None]:
        """Run `command`, which ends the reservation."""
        done = reservation.connection.run(command)
        # Released before the reply: a `reserve` that follows travels with the acknowledgement.
        if not reservation.shared:
            self._pool.release(reservation.connection)
        return done.addErrback(self._refused, reservation)

    def _refused(self, failure: Failure, reservation: _Reservation) -> NoReturn:
        """Let the event be settled again if the server had no room to do it."""
        if isinstance(failure.value, QueueFull):
            reservation.settled = False
            reservation.shared = not self._pool.withdraw(reservation.connection)
        failure.raiseException()

    @_never_raising
    def kick(self, event_type: str, limit: int) -> Deferred[int]:
        return self._in_tube(check_type(event_type), protocol.kick(limit))

    @_never_raising
    def depth(self, event_type: str) -> Deferred[Depth]:
        return self._run(protocol.stats_tube(check_type(event_type)))

    def types(self) -> Deferred[list[str]]:
        return self._run(protocol.list_tubes())

    @_never_raising
    def bind(self, source: str, target: str) -> Deferred[None]:
        return self._run(protocol.bind(check_type(source), check_type(target)))

    @_never_raising
    def unbind(self, source: str, target: str) -> Deferred[None]:
        return self._run(protocol.unbind(check_type(source), check_type(target)))

    def close(self) -> Deferred[None]:
        return self._pool.close()

    def _run(self, command: Command[T]) -> Deferred[T]:
        return self._pool.on_shared(lambda connection: connection.run(command))

    def _in_tube(self, tube: str, command: Command[T]) -> Deferred[T]:
        def send(connection: Connection) -> Deferred[T]:
            connection.use(tube)
            return connection.run(command)

        return self._pool.on_shared(send)
