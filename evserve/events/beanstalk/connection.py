"""One connection to a beanstalkd server: commands out, replies back in the same order."""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar, cast

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from evserve.events.beanstalk.commands import Command, ignore, use, watch
from evserve.events.beanstalk.replies import MalformedReply, Reply, ReplyParser
from evserve.events.errors import QueueError, QueueUnavailable


T = TypeVar("T")

GRACE = 1.0
"""Seconds between a command's last moment and hanging up: a reactor that was busy otherwise looks
at the clock before it reads what has long arrived, or even sends what was asked."""

GOODBYE = 1.0
"""Seconds that a server which does not read gets before a connection is cut after all."""


@define(eq=False)
class _Sent:
    """A command whose reply is awaited until the time `deadline`."""

    result: Deferred[Any]
    outcome: Callable[[Reply], Any]
    deadline: float


@define(eq=False, slots=False)
class Connection(Protocol):
    """Runs commands, pipelined; without a reply in time, or with nonsense, it hangs up.

    clock: measures `patience`, the seconds the server may be silent beyond what a command may
    wait.  lost: called once, when the connection is gone.  watching, used: the state that the
    server keeps for this connection, as far as commands were sent.
    """

    clock: IReactorTime
    server: str
    patience: float
    lost: Callable[["Connection"], None] = field(kw_only=True)
    watching: frozenset[str] = field(init=False, default=frozenset({"default"}))
    used: str = field(init=False, default="default")
    error: QueueError | None = field(init=False, default=None)
    _stream: ITCPTransport = field(init=False)
    _parser: ReplyParser = field(init=False, factory=ReplyParser)
    _sent: deque[_Sent] = field(init=False, factory=deque)
    _heard: float = field(init=False, default=float("-inf"))
    _late: bool = field(init=False, default=False)
    _giving_up: bool = field(init=False, default=False)
    _timer: IDelayedCall | None = field(init=False, default=None)

    def connectionMade(self) -> None:
        """Be ready to run commands."""
        self._stream = cast("ITCPTransport", self.transport)

    def run(self, command: Command[T]) -> Deferred[T]:
        """Send `command`; the result is what its outcome says of the reply.

        Fails with QueueUnavailable when the connection is lost before the reply.
        """
        if self.error is not None:
            return fail(self.error)
        result: Deferred[T] = Deferred()
        within = command.waits + self.patience
        self._sent.append(_Sent(result, command.outcome, self.clock.seconds() + within))
        self._stream.write(command.wire)
        if self._timer is None:
            self._timer = self.clock.callLater(within, self._look)
        elif self.clock.seconds() + within < self._timer.getTime():
            self._timer.reset(within)
        return result

    def use(self, tube: str) -> None:
        """See to it that the next `put` or `kick` means `tube`."""
        if tube != self.used:
            self.used = tube
            self._prepare(use(tube))

    def watch(self, tubes: frozenset[str]) -> None:
        """See to it that the next `reserve` takes from `tubes` alone."""
        for tube in tubes - self.watching:
            self._prepare(watch(tube))
        for tube in self.watching - tubes:
            self._prepare(ignore(tube))
        self.watching = tubes

    def _prepare(self, command: Command[None]) -> None:
        """Run a command that the next one depends on, without waiting for its reply."""
        self.run(command).addErrback(self._unprepared)

    def _unprepared(self, failure: Failure) -> None:
        self.hang_up(QueueUnavailable(failure.getErrorMessage()))

    def _look(self) -> None:
        """Hang up if the oldest command's time is over; one timer serves all commands."""
        self._timer = None
        if not self._sent:
            return
        # A thousand puts at once take their time; while some are answered, the others may wait.
        deadline = max(self._sent[0].deadline, self._heard + self.patience)
        left = deadline - self.clock.seconds()
        if left > 0:
            self._timer = self.clock.callLater(left, self._look)
        elif not self._late:
            self._late = True
            self._timer = self.clock.callLater(GRACE, self._look)
        else:
            self.hang_up(QueueUnavailable(f"{self.server} did not answer in time"))

    def dataReceived(self, data: bytes) -> None:
        """Give each reply to the command it answers."""
        self._heard, self._late = self.clock.seconds(), False
        try:
            for reply in self._parser.feed(data):
                if self.error is None:
                    self._answer(reply)
                if self._giving_up:
                    self.give_up()
        except (MalformedReply, IndexError, KeyError, ValueError) as error:
            self.hang_up(QueueUnavailable(f"{self.server} does not speak beanstalkd: {error}"))

    def _answer(self, reply: Reply) -> None:
        if not self._sent:
            raise MalformedReply(f"{reply.word!r} answers nothing")
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

    def hang_up(self, error: QueueError) -> None:
        """Cut the connection; what was unfinished fails with `error`."""
        if self.error is None:
            self._end(error)
            self._stream.abortConnection()

    def leave(self, error: QueueError) -> None:
        """Close the connection in good order; what was unfinished fails with `error`."""
        if self.error is None:
            self._end(error)
            self._timer = self.clock.callLater(GOODBYE, self._stream.abortConnection)
            self._stream.loseConnection()

    def give_up(self) -> None:
        """Close on behalf of a command that was cancelled, once all before it are answered."""
        self._giving_up = True
        if not self._sent or self._sent[0].result.called:
            self.leave(QueueUnavailable("the wait was given up"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail what was unfinished, for nobody knows whether it happened."""
        if self.error is None:
            orderly = isinstance(reason.value, ConnectionDone)
            cause = "closed by the server" if orderly else reason.getErrorMessage().rstrip(".")
            self._end(QueueUnavailable(f"lost the connection to {self.server}: {cause}"))
        self._cancel_timer()
        self.lost(self)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _end(self, error: QueueError) -> None:
        self.error = error
        self._cancel_timer()
        unfinished, self._sent = self._sent, deque()
        for sent in unfinished:
            sent.result.errback(error)
