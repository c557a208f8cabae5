"""Making connections: one attempt at a time, with back-off while the server is away."""

from collections.abc import Callable
from random import random
from typing import cast

from attrs import Factory, define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory as ProtocolFactory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from evserve.events.backoff import BackOff
from evserve.events.beanstalk.connection import Connection
from evserve.events.errors import QueueUnavailable


RECONNECT = BackOff(initial=0.1, ceiling=10)
"""Between attempts to reach a server that is away."""


@define(eq=False)
class Dialer:
    """Connects to one server for everybody who asks.

    `ClientService` keeps one connection; consumers need one each, and to hear why there is none.
    Attempts are made one after the other, so a hundred waiting consumers do not storm a server
    that is coming back.

    endpoint, server: where, and what to call it in messages.  patience: seconds to go on trying
    for one caller.  build: makes the connection's protocol.
    """

    endpoint: IStreamClientEndpoint
    clock: IReactorTime
    server: str
    patience: float
    build: Callable[[], Connection]
    roll: Callable[[], float] = random
    _log: Logger = field(init=False, default=Logger())
    _lock: DeferredLock = field(init=False, factory=DeferredLock)
    _failures: int = field(init=False, default=0)
    _cause: str = field(init=False, default="no answer")
    _not_before: float = field(
        init=False, default=Factory(lambda self: self.clock.seconds(), takes_self=True)
    )

    async def dial(self) -> Connection:
        """Return a new connection; raises QueueUnavailable when the patience is over."""
        deadline = self.clock.seconds() + self.patience
        while True:
            await self._lock.acquire()
            try:
                await self._pause(deadline)
                return await self._connect(deadline)
            except (CancelledError, QueueUnavailable):
                raise
            except Exception as error:
                self._failed(error)
            finally:
                self._lock.release()

    async def _pause(self, deadline: float) -> None:
        """Wait as the back-off demands; raises QueueUnavailable if that is beyond `deadline`."""
        until = min(self._not_before, deadline)
        if until > self.clock.seconds():
            await deferLater(self.clock, until - self.clock.seconds())
        if self.clock.seconds() >= deadline:
            raise QueueUnavailable(f"cannot reach {self.server}: {self._cause}")

    async def _connect(self, deadline: float) -> Connection:
        connecting = _cancellable(self.endpoint.connect(ProtocolFactory.forProtocol(self.build)))
        connecting.addTimeout(deadline - self.clock.seconds(), self.clock)
        connection = await connecting
        self._succeeded()
        return connection

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._cause = _cause(error)
        self._not_before = self.clock.seconds() + RECONNECT.delay(self._failures, self.roll())
        if self._failures == 1:
            self._log.warn(
                "cannot reach {server}: {cause}; trying again",
                server=self.server,
                cause=self._cause,
            )

    def _succeeded(self) -> None:
        if self._failures:
            self._log.info(
                "reached {server} after {failures} attempts that failed",
                server=self.server,
                failures=self._failures,
            )
        self._failures = 0


def _cause(error: Exception) -> str:
    if isinstance(error, DeferredTimeoutError):
        return "no answer"  # its own words, (4.99, 'Deferred'), are for programmers
    return str(error).rstrip(".") or type(error).__name__


def _cancellable(attempt: Deferred[IProtocol]) -> Deferred[Connection]:
    """Make a cancelled attempt fail with CancelledError and nothing else.

    Endpoints say ConnectingCancelledError, or even DNSLookupError, which look like reasons to try
    again to whoever awaits them; and some connect all the same.
    """

    def cancel(result: Deferred[Connection]) -> None:
        result.errback(CancelledError())
        attempt.cancel()

    def finish(outcome: IProtocol | Failure) -> None:
        if not result.called:
            result.callback(cast("Connection", outcome))
        elif isinstance(outcome, Connection):
            outcome.hang_up(QueueUnavailable("nobody waits for this connection any more"))

    result: Deferred[Connection] = Deferred(cancel)
    attempt.addBoth(finish)
    return result
