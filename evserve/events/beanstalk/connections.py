"""The connections of one queue: made when they are needed, known so that all can be closed."""

from collections.abc import Callable
from typing import TypeVar

from attrs import Factory, define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from evserve.events.beanstalk.connection import Connection
from evserve.events.beanstalk.dialer import Dialer
from evserve.events.errors import QueueClosed, QueueError


T = TypeVar("T")


@define(eq=False)
class Connections:
    """Makes connections, shares one of them among all who need no reservation, closes all.

    lost: told of each connection that ends.  The rest: see BeanstalkQueue.
    """

    endpoint: IStreamClientEndpoint
    clock: IReactorTime
    server: str
    patience: float
    lost: Callable[[Connection], None]
    _dialer: Dialer = field(
        init=False,
        default=Factory(
            lambda self: Dialer(
                self.endpoint, self.clock, self.server, self.patience, self._build
            ),
            takes_self=True,
        ),
    )
    _closed: QueueClosed | None = field(init=False, default=None)
    _dialing: set[Deferred[Connection]] = field(init=False, factory=set)
    _open: dict[Connection, Deferred[None]] = field(init=False, factory=dict)
    _shared: Connection | None = field(init=False, default=None)
    _waiting: list[Deferred[Connection]] = field(init=False, factory=list)

    def _build(self) -> Connection:
        return Connection(self.clock, self.server, self.patience, lost=self._lost)

    def _lost(self, connection: Connection) -> None:
        self.lost(connection)
        if (gone := self._open.pop(connection, None)) is not None:
            gone.callback(None)

    async def dial(self) -> Connection:
        """Return a new connection; raises QueueUnavailable or QueueClosed."""
        if self._closed is not None:
            raise self._closed
        dialing = Deferred.fromCoroutine(self._dialer.dial())
        self._dialing.add(dialing)
        try:
            connection = await dialing
        except CancelledError:
            if self._closed is not None:
                raise self._closed from None
            raise
        finally:
            self._dialing.discard(dialing)
        self._open[connection] = Deferred()
        return connection

    def on_shared(self, send: Callable[[Connection], Deferred[T]]) -> Deferred[T]:
        """Call `send` with the connection that all share, once there is one."""
        if self._closed is not None:
            return fail(self._closed)
        if self._shared is not None and self._shared.error is None:
            return send(self._shared)
        waiting: Deferred[Connection] = Deferred()
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            Deferred.fromCoroutine(self._share())
        return waiting.addCallback(send)

    async def _share(self) -> None:
        outcome: Connection | QueueError
        try:
            self._shared = outcome = await self.dial()
        except QueueError as error:
            outcome = error
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if isinstance(outcome, QueueError):
                each.errback(outcome)
            else:
                each.callback(outcome)

    def close(self) -> Deferred[None]:
        """Close every connection; fires when all are gone."""
        self._closed = QueueClosed(f"the queue at {self.server} was closed")
        gone = list(self._open.values())
        for dialing in list(self._dialing):
            dialing.cancel()
        for connection in list(self._open):
            connection.leave(self._closed)
        return DeferredList(gone).addCallback(lambda _: None)
