"""The connections of one queue: made with back-off, shared or lent, and closed.

A server answers the commands of one connection in turn, so no command can be answered on a
connection that waits for an event; and only the connection that reserved an event may settle it.
So each wait has a connection of its own, as have the events that it ends with; it is used again
when they are settled. All other calls share one.
"""

from collections import deque
from collections.abc import Callable
from random import random
from typing import TypeVar, cast

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredLock, fail
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory as ProtocolFactory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from evserve.backoff import BackOff
from evserve.events.beanstalk.connection import Connection
from evserve.events.beanstalk.protocol import probe
from evserve.events.errors import QueueClosed, QueueUnavailable


T = TypeVar("T")

RECONNECT = BackOff(initial=0.1, ceiling=10)
"""Between attempts to reach a server that is away."""

_log = Logger()


@define(eq=False)
class ConnectionPool:
    """Makes a connection when it is needed, and closes all.

    Twisted's `ClientService` keeps one connection; consumers need one each, and an error that
    tells why there is none.

    server: its name in messages.  patience: seconds to try to connect for one caller, and those
    for which a connection waits for a reply.  roll: a random number from 0 to 1.
    """

    endpoint: IStreamClientEndpoint
    clock: IReactorTime
    server: str
    patience: float
    roll: Callable[[], float] = random
    _closed: QueueClosed | None = field(init=False, default=None)
    _connecting: set[Deferred[Connection]] = field(init=False, factory=set)
    _open: dict[Connection, Deferred[None]] = field(init=False, factory=dict)
    _idle: list[Connection] = field(init=False, factory=list)
    _shared: Connection | None = field(init=False, default=None)
    _waiting: deque[tuple[Deferred[Connection], bool]] = field(init=False, factory=deque)
    _preparing: bool = field(init=False, default=False)
    _lock: DeferredLock = field(init=False, factory=DeferredLock)
    _failures: int = field(init=False, default=0)
    _newest: Connection | None = field(init=False, default=None)
    _hang_ups: int = field(init=False, default=0)  # in a row, before the server said a word
    _cause: str = field(init=False, default="no answer")
    _not_before: float = field(init=False, default=float("-inf"))

    async def acquire(self, types: frozenset[str]) -> Connection:
        """Return a connection for one consumer, preferably one that watches `types` already.

        Raises QueueUnavailable or QueueClosed.
        """
        for connection in reversed(self._idle):
            if connection.watching is types or connection.watching == types:
                self._idle.remove(connection)
                return connection
        return self._idle.pop() if self._idle else await self._connect()

    def release(self, connection: Connection) -> None:
        """Take back a connection that holds no event any more."""
        if connection.error is None:
            self._idle.append(connection)

    def withdraw(self, connection: Connection) -> bool:
        """Undo `release`: there is still an event. False if another consumer has it by now."""
        if connection not in self._idle:
            return False
        self._idle.remove(connection)
        return True

    def on_shared(
        self, send: Callable[[Connection], Deferred[T]], *, extended: bool = False
    ) -> Deferred[T]:
        """Call `send` with the shared connection, once there is one.

        extended: and once it knows whether the server has the verbs that evserve adds. Another
        server would take the body that follows such a verb for commands.
        """
        if self._closed is not None:
            return fail(self._closed)
        shared = self._shared
        if shared is not None and shared.error is None and not self._preparing:
            is_known = shared.extended is not None
            if is_known or not extended:
                return send(shared)
        waiting: Deferred[Connection] = Deferred()
        self._waiting.append((waiting, extended))
        if not self._preparing:
            self._preparing = True
            Deferred.fromCoroutine(self._serve_waiting())
        return waiting.addCallback(send)

    async def _serve_waiting(self) -> None:
        """Give the shared connection to those who wait for it, in the order of their calls."""
        while self._waiting:
            try:
                connection = await self._prepare_shared(extended=self._waiting[0][1])
            except Exception as error:  # of whatever class: all who wait get it
                failed, self._waiting = self._waiting, deque()
                for waiting, _ in failed:
                    waiting.errback(error)
            else:
                self._waiting.popleft()[0].callback(connection)
        self._preparing = False

    async def _prepare_shared(self, *, extended: bool) -> Connection:
        if self._shared is None or self._shared.error is not None:
            self._shared = await self._connect()
        shared = self._shared
        if extended and shared.extended is None:
            shared.extended = await shared.run(probe())
        return shared

    def close(self) -> Deferred[None]:
        """Close every connection; fires when all are gone."""
        self._closed = QueueClosed(f"{self.server} was closed")
        gone = list(self._open.values())
        for connecting in list(self._connecting):
            connecting.cancel()
        for connection in list(self._open):
            connection.close(self._closed)
        return DeferredList(gone).addCallback(lambda _: None)

    def _lost(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        if connection is self._newest:
            self._newest_lost(connection)
        if (gone := self._open.pop(connection, None)) is not None:
            gone.callback(None)

    def _newest_lost(self, connection: Connection) -> None:
        """Back off from a TCP proxy with no server behind it, which accepts and then hangs up."""
        self._hang_ups = 0 if connection.answered else self._hang_ups + 1
        if self._hang_ups > 1:  # the first may be a server that has just ended
            self._cause = "it closes each connection"
            delay = RECONNECT.delay(self._hang_ups - 1, self.roll())
            self._not_before = self.clock.seconds() + delay

    async def _connect(self) -> Connection:
        """Return a new connection; raises QueueUnavailable or QueueClosed."""
        if self._closed is not None:
            raise self._closed
        connecting = Deferred.fromCoroutine(self._try_to_connect())
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

    async def _try_to_connect(self) -> Connection:
        """Try for `patience` seconds.

        One attempt is made at a time for all callers, so that a hundred waiting consumers do not
        overrun a server that comes back.
        """
        deadline = self.clock.seconds() + self.patience
        while True:
            await self._lock.acquire()
            try:
                await self._pause(deadline)
                return await self._attempt(deadline)
            except (CancelledError, QueueUnavailable):
                raise
            except Exception as error:
                self._failed(error)
            finally:
                self._lock.release()

    async def _pause(self, deadline: float) -> None:
        """Wait for the back-off; raises QueueUnavailable at `deadline`."""
        until = min(self._not_before, deadline)
        if until > self.clock.seconds():
            await deferLater(self.clock, until - self.clock.seconds())
        if self.clock.seconds() >= deadline:
            raise QueueUnavailable(f"cannot reach {self.server}: {self._cause}")

    async def _attempt(self, deadline: float) -> Connection:
        factory = ProtocolFactory.forProtocol(
            lambda: Connection(self.clock, self.server, self.patience, on_lost=self._lost)
        )
        connecting = _cancellable(self.endpoint.connect(factory))
        connecting.addTimeout(deadline - self.clock.seconds(), self.clock)
        connection = await connecting
        if self._failures:
            _log.info(
                "reached {server} after {failures} failed attempts",
                server=self.server,
                failures=self._failures,
            )
        self._failures = 0
        self._newest = connection
        return connection

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if not isinstance(error, DeferredTimeoutError):
            self._cause = str(error).rstrip(".") or type(error).__name__
        elif self._failures == 1:  # else it was cut short, and the cause before tells more
            self._cause = "no answer"
        self._not_before = self.clock.seconds() + RECONNECT.delay(self._failures, self.roll())
        if self._failures == 1:
            text = "cannot reach {server}: {cause}; trying again"
            _log.warn(text, server=self.server, cause=self._cause)


def _cancellable(attempt: Deferred[IProtocol]) -> Deferred[Connection]:
    """Return a Deferred that fails with CancelledError and nothing else when it is cancelled.

    Endpoints fail with ConnectingCancelledError or even DNSLookupError, which look like reasons
    to try again to the caller; and some connect all the same.
    """

    def cancel(result: Deferred[Connection]) -> None:
        result.errback(CancelledError())
        attempt.cancel()

    def finish(outcome: IProtocol | Failure) -> None:
        if not result.called:
            result.callback(cast("Connection", outcome))
        elif isinstance(outcome, Connection):
            outcome.abort(QueueUnavailable("the attempt to connect was cancelled"))

    result: Deferred[Connection] = Deferred(cancel)
    attempt.addBoth(finish)
    return result
