"""The connections of one queue.

A server answers the commands of one connection in turn, so no command can be answered on a
connection that waits for an event; and only the connection that reserved an event may settle it.
So each wait and each reserved event has a connection of its own, which is used again afterwards.
All other calls share one.
"""

from collections.abc import Callable
from typing import TypeVar

from attrs import Factory, define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure

from evserve.events.beanstalk.connection import Connection, Connector
from evserve.events.errors import QueueClosed


T = TypeVar("T")


@define(eq=False)
class ConnectionPool:
    """Connects when a connection is needed, and closes all. Its arguments: see BeanstalkQueue."""

    endpoint: IStreamClientEndpoint
    clock: IReactorTime
    server: str
    patience: float
    _connector: Connector = field(
        init=False,
        default=Factory(
            lambda self: Connector(
                self.endpoint, self.clock, self.server, self.patience, self._build
            ),
            takes_self=True,
        ),
    )
    _closed: QueueClosed | None = field(init=False, default=None)
    _connecting: set[Deferred[Connection]] = field(init=False, factory=set)
    _open: dict[Connection, Deferred[None]] = field(init=False, factory=dict)
    _idle: list[Connection] = field(init=False, factory=list)
    _shared: Connection | None = field(init=False, default=None)
    _waiting: list[Deferred[Connection]] = field(init=False, factory=list)

    def _build(self) -> Connection:
        return Connection(self.clock, self.server, self.patience, on_lost=self._lost)

    def _lost(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        if (gone := self._open.pop(connection, None)) is not None:
            gone.callback(None)

    async def acquire(self, types: frozenset[str]) -> Connection:
        """Return a connection for one consumer, preferably one that watches `types` already.

        Raises QueueUnavailable or QueueClosed.
        """
        for connection in reversed(self._idle):
            if connection.watching == types:
                self._idle.remove(connection)
                return connection
        return self._idle.pop() if self._idle else await self._connect()

    def release(self, connection: Connection) -> None:
        """Take back a connection that holds no event any more."""
        if connection.error is None:
            self._idle.append(connection)

    def on_shared(self, send: Callable[[Connection], Deferred[T]]) -> Deferred[T]:
        """Call `send` with the shared connection, once there is one."""
        if self._closed is not None:
            return fail(self._closed)
        if self._shared is not None and self._shared.error is None:
            return send(self._shared)
        waiting: Deferred[Connection] = Deferred()
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            Deferred.fromCoroutine(self._connect()).addBoth(self._share)
        return waiting.addCallback(send)

    def _share(self, outcome: Connection | Failure) -> None:
        if isinstance(outcome, Connection):
            self._shared = outcome
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if isinstance(outcome, Connection):
                each.callback(outcome)
            else:
                each.errback(outcome.value)

    async def _connect(self) -> Connection:
        if self._closed is not None:
            raise self._closed
        connecting = Deferred.fromCoroutine(self._connector.connect())
        self._connecting.add(connecting)
        try:
            connection = await connecting
        except CancelledError:
            if self._closed is not None:
                raise self._closed from None
            raise
        finally:
            self._connecting.discard(connecting)
        self._open[connection] = Deferred()
        return connection

    def close(self) -> Deferred[None]:
        """Close every connection; fires when all are gone."""
        self._closed = QueueClosed(f"the queue at {self.server} was closed")
        gone = list(self._open.values())
        for connecting in list(self._connecting):
            connecting.cancel()
        for connection in list(self._open):
            connection.close(self._closed)
        return DeferredList(gone).addCallback(lambda _: None)
