"""A connection to a beanstalkd server, and the connector that makes them with back-off."""

from collections import deque
from collections.abc import Callable
from random import random
from typing import Any, TypeVar, cast

from attrs import Factory, define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, fail
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory as ProtocolFactory
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override

from evserve.events.backoff import BackOff
from evserve.events.beanstalk.protocol import (
    Command,
    MalformedReply,
    Reply,
    ReplyParser,
    ignore,
    use,
    watch,
)
from evserve.events.errors import QueueError, QueueUnavailable


T = TypeVar("T")

GRACE = 1.0
"""Seconds between a command's deadline and the abort: a reactor that was busy runs its timers
before it reads replies that arrived long ago, or even sends the command."""

CLOSE_TIMEOUT = 1.0
"""Seconds that a server which does not read gets before its connection is aborted."""

RECONNECT = BackOff(initial=0.1, ceiling=10)
"""Between attempts to reach a server that is away."""


@define(eq=False)
class _Sent:
    """A command whose reply is awaited until the time `deadline`."""

    result: Deferred[Any]
    outcome: Callable[[Reply], Any]
    deadline: float


@define(eq=False, slots=False)
class Connection(Protocol):
    """Runs commands, pipelined; it aborts if no reply comes in time, or a malformed one.

    patience: the seconds for which the server may be silent, beyond what a command may wait.
    on_lost: called once, when the connection is gone.  watching, used: the state that the server
    keeps for this connection, once it has run all that was sent.  error: why the connection can
    no longer be used, or None.
    """

    clock: IReactorTime
    server: str
    patience: float
    on_lost: Callable[["Connection"], None] = field(kw_only=True)
    watching: frozenset[str] = field(init=False, default=frozenset({"default"}))
    used: str = field(init=False, default="default")
    error: QueueError | None = field(init=False, default=None)
    _stream: ITCPTransport = field(init=False)
    _parser: ReplyParser = field(init=False, factory=ReplyParser)
    _sent: deque[_Sent] = field(init=False, factory=deque)
    _last_data: float = field(init=False, default=float("-inf"))
    _in_grace: bool = field(init=False, default=False)
    _closing: bool = field(init=False, default=False)
    _timer: IDelayedCall | None = field(init=False, default=None)

    @override
    def connectionMade(self) -> None:
        self._stream = cast("ITCPTransport", self.transport)

    def run(self, command: Command[T]) -> Deferred[T]:
        """Send `command`; the result is the outcome of its reply.

        Fails with QueueUnavailable when the connection is lost before the reply.
        """
        if self.error is not None:
            return fail(self.error)
        result: Deferred[T] = Deferred()
        within = command.waits + self.patience
        self._sent.append(_Sent(result, command.outcome, self.clock.seconds() + within))
        self._stream.write(command.wire)
        if self._timer is None:
            self._timer = self.clock.callLater(within, self._check_deadline)
        elif self.clock.seconds() + within < self._timer.getTime():
            self._timer.reset(within)
        return result

    def use(self, tube: str) -> None:
        """Make `tube` the one for the next `put` or `kick`."""
        if tube != self.used:
            self.used = tube
            self._prepare(use(tube))

    def watch(self, tubes: frozenset[str]) -> None:
        """Let the next `reserve` take from `tubes` alone."""
        for tube in tubes - self.watching:
            self._prepare(watch(tube))
        for tube in self.watching - tubes:
            self._prepare(ignore(tube))
        self.watching = tubes

    def _prepare(self, command: Command[None]) -> None:
        """Run a command that the next one depends on, without waiting for its reply."""
        self.run(command).addErrback(
            lambda failure: self.abort(QueueUnavailable(failure.getErrorMessage()))
        )

    def _check_deadline(self) -> None:
        """Abort if the oldest command's deadline is over; one timer serves all commands."""
        self._timer = None
        if not self._sent:
            return
        # A thousand puts take their time; as long as replies come, the others may wait.
        deadline = max(self._sent[0].deadline, self._last_data + self.patience)
        left = deadline - self.clock.seconds()
        if left > 0:
            self._timer = self.clock.callLater(left, self._check_deadline)
        elif not self._in_grace:
            self._in_grace = True
            self._timer = self.clock.callLater(GRACE, self._check_deadline)
        else:
            self.abort(QueueUnavailable(f"{self.server} did not answer in time"))

    @override
    def dataReceived(self, data: bytes) -> None:
        self._last_data, self._in_grace = self.clock.seconds(), False
        try:
            for reply in self._parser.feed(data):
                if self.error is None:
                    self._answer(reply)
                if self._closing:
                    self.close_after_replies()
        except (MalformedReply, IndexError, KeyError, ValueError) as error:
            self.abort(QueueUnavailable(f"{self.server} does not speak beanstalkd: {error}"))

    def _answer(self, reply: Reply) -> None:
        if not self._sent:
            raise MalformedReply(f"{reply.word!r} answers no command")
        sent = self._sent.popleft()
        try:
            outcome = sent.outcome(reply)
        except QueueError as error:
            sent.result.errback(error)
        except Exception:
            self._sent.appendleft(sent)
            raise
        else:
            sent.result.callback(outcome)

    def abort(self, error: QueueError) -> None:
        """Abort the connection; unanswered commands fail with `error`."""
        if self.error is None:
            self._end(error)
            self._stream.abortConnection()

    def close(self, error: QueueError) -> None:
        """Close the connection in good order; unanswered commands fail with `error`."""
        if self.error is None:
            self._end(error)
            self._timer = self.clock.callLater(CLOSE_TIMEOUT, self._stream.abortConnection)
            self._stream.loseConnection()

    def close_after_replies(self) -> None:
        """Close for a command that was cancelled, once all before it are answered."""
        self._closing = True
        if not self._sent or self._sent[0].result.called:
            self.close(QueueUnavailable("the wait was cancelled"))

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.error is None:
            orderly = isinstance(reason.value, ConnectionDone)
            cause = "closed by the server" if orderly else reason.getErrorMessage().rstrip(".")
            self._end(QueueUnavailable(f"lost the connection to {self.server}: {cause}"))
        self._cancel_timer()
        self.on_lost(self)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _end(self, error: QueueError) -> None:
        self.error = error
        self._cancel_timer()
        unanswered, self._sent = self._sent, deque()
        for sent in unanswered:
            sent.result.errback(error)


@define(eq=False)
class Connector:
    """Connects to one server for all callers, one attempt at a time.

    Twisted's `ClientService` keeps one connection; consumers need one each, and an error that
    tells why there is none. Because attempts are sequential, a hundred waiting consumers do not
    overrun a server that comes back.

    server: its name in messages.  patience: seconds to try for one caller.  build: makes the
    connection's protocol.  roll: a random number from 0 to 1.
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

    async def connect(self) -> Connection:
        """Return a new connection; raises QueueUnavailable when the patience is over."""
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
        connecting = _cancellable(self.endpoint.connect(ProtocolFactory.forProtocol(self.build)))
        connecting.addTimeout(deadline - self.clock.seconds(), self.clock)
        connection = await connecting
        if self._failures:
            self._log.info(
                "reached {server} after {failures} failed attempts",
                server=self.server,
                failures=self._failures,
            )
        self._failures = 0
        return connection

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if isinstance(error, DeferredTimeoutError):
            self._cause = "no answer"  # its own text, (4.99, 'Deferred'), is for programmers
        else:
            self._cause = str(error).rstrip(".") or type(error).__name__
        self._not_before = self.clock.seconds() + RECONNECT.delay(self._failures, self.roll())
        if self._failures == 1:
            self._log.warn(
                "cannot reach {server}: {cause}; trying again",
                server=self.server,
                cause=self._cause,
            )


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
