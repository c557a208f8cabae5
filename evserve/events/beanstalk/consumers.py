"""The connections that consume.

A server answers the commands of one connection in turn, so nothing can be settled on a connection
that waits for an event; and only the connection that reserved an event may settle it. So each
reserved event, and each wait, has a connection to itself, which is used again afterwards.
"""

from collections.abc import Callable, Coroutine
from math import ceil
from typing import Any, TypeVar

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred

from evserve.events.beanstalk import commands
from evserve.events.beanstalk.commands import Command
from evserve.events.beanstalk.connection import Connection
from evserve.events.errors import NotReserved, QueueError
from evserve.events.event import Event


T = TypeVar("T")

RENEW = 30
"""Seconds after which an endless wait is asked for again, so that a dead server is noticed."""


@define(eq=False)
class Reservation:
    """The receipt of an event: where it can be settled, until it is."""

    connection: Connection
    settled: bool = False


@define(eq=False)
class Consumers:
    """Reserves and settles on as many connections as there are reserved events and waits."""

    dial: Callable[[], Coroutine[Any, Any, Connection]]
    now: Callable[[], float]
    _idle: list[Connection] = field(init=False, factory=list)

    async def reserve(self, types: frozenset[str], timeout: float | None) -> Event | None:
        """See EventQueue."""
        connection = await self._connection(types)
        try:
            connection.watch(types)
            event = await self._take(connection, timeout)
        except (CancelledError, QueueError):
            # The server may have given an event already; only hanging up gives it back.
            connection.give_up()
            raise
        if event is None:
            self._idle.append(connection)
            return None
        return evolve(event, receipt=Reservation(connection))

    async def _connection(self, types: frozenset[str]) -> Connection:
        """Take the connection used last, rather one that watches `types` already."""
        for connection in reversed(self._idle):
            if connection.watching == types:
                self._idle.remove(connection)
                return connection
        return self._idle.pop() if self._idle else await self.dial()

    async def _take(self, connection: Connection, timeout: float | None) -> Event | None:
        deadline = None if timeout is None else self.now() + timeout
        while True:
            left = RENEW if deadline is None else max(0.0, deadline - self.now())
            taken = await connection.run(commands.reserve(ceil(min(left, RENEW))))
            if taken is not None:
                event = await connection.run(commands.describe(taken))
                if event is not None:
                    return event
            elif deadline is not None and self.now() >= deadline:
                return None

    def settle(self, event: Event, command: Command[None]) -> Deferred[None]:
        """Run `command`, which ends the reservation of `event`; raises NotReserved."""
        return self.finish(self.claim(event), command)

    def claim(self, event: Event) -> Reservation:
        """Settle `event` as far as the caller is concerned: nobody else can from now on."""
        reservation = self.held(event)
        reservation.settled = True
        return reservation

    def finish(self, reservation: Reservation, command: Command[None]) -> Deferred[None]:
        """Tell the server what became of a claimed event."""
        done = reservation.connection.run(command)
        # Free before the reply: a `reserve` that follows travels with the acknowledgement.
        if reservation.connection.error is None:
            self._idle.append(reservation.connection)
        return done

    def held(self, event: Event) -> Reservation:
        """Return the proof that `event` is reserved here; raises NotReserved."""
        reservation = event.receipt
        if not isinstance(reservation, Reservation) or reservation.settled:
            raise NotReserved(f"event {event.id} ({event.type}) is not reserved here any more")
        if reservation.connection.error is not None:
            raise NotReserved(
                f"event {event.id} ({event.type}) went back: {reservation.connection.error}"
            )
        return reservation

    def touch(self, event: Event) -> Deferred[None]:
        """See EventQueue; raises NotReserved."""
        return self.held(event).connection.run(commands.touch(event))

    def forget(self, connection: Connection) -> None:
        """Use a lost connection no more."""
        if connection in self._idle:
            self._idle.remove(connection)
