"""One connection to a beanstalkd server: commands out, replies back in the same order."""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar, cast

from attrs import define, field
from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from typing_extensions import override

from evserve.events.beanstalk.protocol import (
    Command,
    MalformedReply,
    Misunderstood,
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
before it reads replies that have arrived, or even sends the command."""

CLOSE_TIMEOUT = 1.0
"""Seconds that a server which does not read gets before its connection is aborted."""


@define(eq=False)
class _Sent:
    """A command whose reply is awaited until the time `deadline`."""

    result: Deferred[Any]
    outcome: Callable[[Reply], Any]
    deadline: float


@define(eq=False, slots=False)
class Connection(Protocol):
    """Runs commands, pipelined.

    It aborts if no reply comes in time, or one that shows that the sides are out of step.

    patience: the seconds for which the server may be silent, beyond what a command may wait.
    on_lost: called once, when the connection is gone.  watching, used: the state that the server
    keeps for this connection, once it has run all that was sent.  extended: whether it has the
    verbs that evserve adds, or None while that is unknown.  error: why the connection can
    no longer be used, or None.
    """

    clock: IReactorTime
    server: str
    patience: float
    on_lost: Callable[["Connection"], None] = field(kw_only=True)
    watching: frozenset[str] = field(init=False, default=frozenset({"default"}))
    used: str = field(init=False, default="default")
    extended: bool | None = field(init=False, default=None)
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

    @property
    def answered(self) -> bool:
        """Whether the server has sent anything."""
        return self._last_data > float("-inf")

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
        if tubes is self.watching:  # comparing thousands takes longer than all else
            return
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
        # A thousand puts take longer than one; as long as replies come, the others may wait.
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
        except Misunderstood as error:
            self.abort(QueueUnavailable(f"hung up on {self.server}: {error}"))
            sent.result.errback(error)
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
        """Close because a command was cancelled, once all before it are answered."""
        self._closing = True
        if not self._sent or self._sent[0].result.called:
            self.close(QueueUnavailable("the wait was cancelled"))

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.error is None:
            cause = explain_loss(reason.value)
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


def explain_loss(error: BaseException | None) -> str:
    """Return why a connection ended."""
    if isinstance(error, ConnectionDone):
        return "closed by the server"
    if isinstance(error, SSL.Error) and error.args and error.args[0]:
        return "; ".join(str(each[-1]) for each in error.args[0])
    return str(error).rstrip(".") or type(error).__name__
