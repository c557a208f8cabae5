"""BeanstalkQueue: an EventQueue over the beanstalkd protocol."""

from collections.abc import Callable, Collection
from functools import wraps
from time import time
from typing import ParamSpec, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from evserve.events.beanstalk import commands
from evserve.events.beanstalk.commands import Command
from evserve.events.beanstalk.connection import Connection
from evserve.events.beanstalk.connections import Connections
from evserve.events.beanstalk.consumers import Consumers
from evserve.events.errors import QueueError
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


def _never_raising(method: Callable[P, Deferred[T]]) -> Callable[P, Deferred[T]]:
    """Let a QueueError that `method` raises come through its Deferred."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        try:
            return method(*args, **kwargs)
        except QueueError as error:
            return fail(error)

    return call


@define(eq=False)
class BeanstalkQueue:
    """An EventQueue served by beanstalkd or by evserve.

    One connection puts and asks, pipelined; see Consumers for the others.

    endpoint: where the server is.  server: its name in messages.  patience: seconds a call waits
    for a connection, and a connection for a sign of life while replies are due.  wall_clock:
    dates the error records.
    """

    endpoint: IStreamClientEndpoint
    clock: IReactorTime
    server: str
    patience: float = 5.0
    wall_clock: Callable[[], float] = time
    capabilities: Capability = field(
        init=False, default=Capability.DURABLE | Capability.LIST_TYPES | Capability.FAN_OUT
    )
    _connections: Connections = field(init=False)
    _consumers: Consumers = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._connections = Connections(
            self.endpoint, self.clock, self.server, self.patience, self._lost
        )
        self._consumers = Consumers(self._connections.dial, self.clock.seconds)

    def _lost(self, connection: Connection) -> None:
        self._consumers.forget(connection)

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
        """See EventQueue."""
        check_put(event_type, body, priority, delay, ttr)
        return self._in_tube(event_type, commands.put(body, priority, delay, ttr))

    @_never_raising
    def reserve(
        self, types: Collection[str], timeout: float | None = None
    ) -> Deferred[Event | None]:
        """See EventQueue."""
        return Deferred.fromCoroutine(self._consumers.reserve(check_types(types), timeout))

    @_never_raising
    def ack(self, event: Event) -> Deferred[None]:
        """See EventQueue."""
        return self._consumers.settle(event, commands.delete(event))

    @_never_raising
    def retry(self, event: Event, delay: float = 0) -> Deferred[None]:
        """See EventQueue."""
        check_number("delay", delay, int | float, least=0)
        return self._consumers.settle(event, commands.release(event, delay))

    def bury(self, event: Event, reason: str) -> Deferred[None]:
        """See EventQueue."""
        return Deferred.fromCoroutine(self._bury(event, reason))

    async def _bury(self, event: Event, reason: str) -> None:
        reservation = self._consumers.claim(event)
        if event.type != ERRORS:
            try:
                await self.put(ERRORS, error_record(event, reason, self.wall_clock()))
            except BaseException:
                reservation.settled = False
                raise
        await self._consumers.finish(reservation, commands.bury(event))

    @_never_raising
    def touch(self, event: Event) -> Deferred[None]:
        """See EventQueue."""
        return self._consumers.touch(event)

    @_never_raising
    def kick(self, event_type: str, limit: int) -> Deferred[int]:
        """See EventQueue."""
        return self._in_tube(check_type(event_type), commands.kick(limit))

    @_never_raising
    def depth(self, event_type: str) -> Deferred[Depth]:
        """See EventQueue."""
        return self._ask(commands.depth(check_type(event_type)))

    def types(self) -> Deferred[list[str]]:
        """See EventQueue."""
        return self._ask(commands.tubes())

    @_never_raising
    def bind(self, source: str, target: str) -> Deferred[None]:
        """See EventQueue."""
        return self._ask(commands.bind(check_type(source), check_type(target)))

    @_never_raising
    def unbind(self, source: str, target: str) -> Deferred[None]:
        """See EventQueue."""
        return self._ask(commands.unbind(check_type(source), check_type(target)))

    def close(self) -> Deferred[None]:
        """See EventQueue."""
        return self._connections.close()

    def _in_tube(self, tube: str, command: Command[T]) -> Deferred[T]:
        def send(connection: Connection) -> Deferred[T]:
            connection.use(tube)
            return connection.run(command)

        return self._connections.on_shared(send)

    def _ask(self, command: Command[T]) -> Deferred[T]:
        return self._connections.on_shared(lambda connection: connection.run(command))
