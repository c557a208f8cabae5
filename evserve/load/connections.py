"""The connections of a run: their endpoint, each connection, and the pool that opens them all.

`LoadConnection.dataReceived` is the hot path: it makes only a handful of calls per answer.
"""

import errno
import os
import re
import resource
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

from attrs import define, field
from twisted.internet import error
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IAddress, IPushProducer, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from evserve.endpoints import check_text, explain_endpoint
from evserve.load.conversations import Conversation, MismatchError, conversation_factory
from evserve.load.plan import Plan
from evserve.load.stats import MessageStats


_UNKNOWN = "unknown kind of endpoint (such as tcp:HOST:PORT, tls:, unix:PATH)"
# How many arguments may be given without a name; Twisted's parsers fail with more.
_MAX_POSITIONAL = {"tcp": 2, "ssl": 2, "unix": 1}

_SPARE_FILES = 64  # for standard streams, the reactor, and modules while they are imported
_HANDSHAKES = 100  # at a time; more would overflow the backlog of the measured server
_CLOSE_TIMEOUT = 1.0  # seconds

_LOOPBACK = re.compile(r"tcp:(host=)?127\.")
_LAST_SOURCE = 254  # as the last byte of the address
_NO_PORT_LEFT = {errno.EADDRNOTAVAIL, errno.EADDRINUSE}


class EndpointError(ValueError):
    """The endpoint string is invalid; the message is one line."""


class TooManyFilesError(ValueError):
    """The hard limit of open files is too low for the connections."""


def parse_endpoint(reactor: Any, description: str) -> IStreamClientEndpoint:
    """Return the endpoint that a string describes; raises EndpointError."""
    try:
        check_text(description)
        _check_positional(description)
        endpoint: IStreamClientEndpoint = clientFromString(reactor, description)
    except Exception as error:  # the parsers raise many kinds of errors
        why = explain_endpoint(error, _UNKNOWN)
        raise EndpointError(f"--connect {description!r}: {why}") from error
    return endpoint


def _check_positional(description: str) -> None:
    kind, *arguments = re.sub(r"\\.", "", description).split(":")
    positional = sum("=" not in argument for argument in arguments)
    if positional > _MAX_POSITIONAL.get(kind.lower(), positional):
        raise ValueError("too many arguments")


def raise_file_limit(connections: int) -> None:
    """Raise the soft limit of open files if it is too low; raises TooManyFilesError."""
    files = connections + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= files:
        return
    if hard != resource.RLIM_INFINITY and hard < files:
        raise TooManyFilesError(
            f"{connections} connections need {files} open files, but 'ulimit -Hn' allows {hard}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def _errno_of(error: BaseException | None) -> int | None:
    """Return the errno of an exception of Twisted (osError) or Python (errno)."""
    number = getattr(error, "osError", None) or getattr(error, "errno", None)
    return number if isinstance(number, int) else None


@define(eq=False)
class SourceAddresses:
    """The endpoint for the next connection, with another source address when ports run out.

    One source address has about 28,000 ports for one server. On loopback there are more addresses:
    Linux accepts all of 127.0.0.0/8 without configuration.
    """

    _description: str
    _last_byte: int = field(default=1, init=False)

    @property
    def current(self) -> str:
        """The endpoint string for the next connection."""
        if self._last_byte == 1:
            return self._description
        return f"{self._description}:bindAddress=127.0.0.{self._last_byte}"

    def advance(self, used: str, error: BaseException) -> bool:
        """Say whether to retry from another address, after `error` with the endpoint `used`."""
        if _errno_of(error) not in _NO_PORT_LEFT or not _LOOPBACK.match(self._description):
            return False
        if "bindAddress=" in self._description or self._last_byte >= _LAST_SOURCE:
            return False
        if used == self.current:  # otherwise another connection has advanced it already
            self._last_byte += 1
        return True


@implementer(IPushProducer)
@define(eq=False)
class LoadConnection(Protocol):
    """Sends messages, checks the answers, and measures how long each takes.

    A closed loop sends the next message on each answer; an open loop calls `send_due`. While the
    server does not read (`pauseProducing`), due messages wait here as their start times.
    """

    transport: Any = field(default=None, init=False)
    _conversation: Conversation
    _stats: MessageStats
    _pool: "ConnectionPool"
    _now: Callable[[], float]
    is_closed_loop: bool
    _starts: deque[float] = field(factory=deque, init=False)  # of the messages in flight
    _due: deque[float] = field(factory=deque, init=False)  # starts of messages not yet sent
    _paused: bool = field(default=False, init=False)
    _failed: bool = field(default=False, init=False)

    @override
    def connectionMade(self) -> None:
        # Without the endpoint's wrapper each chunk of data takes one call less.
        if getattr(self.transport.protocol, "_wrappedProtocol", None) is self:
            self.transport.protocol = self
        if not self.is_closed_loop:
            self.transport.registerProducer(self, True)
        self._pool.connection_opened(self)

    def send(self, count: int) -> None:
        """Send `count` messages, which are counted as in flight already."""
        self._starts.extend([self._now()] * count)
        self.transport.write(self._conversation.messages(count))

    def send_due(self, intended: float) -> None:
        """Send a message that should start at `intended`, as soon as the server reads."""
        if self._paused:
            self._due.append(intended)
        else:
            self._starts.append(intended)
            self.transport.write(self._conversation.messages(1))

    @override
    def dataReceived(self, data: bytes) -> None:
        if self._failed:
            return
        now = self._now()
        try:
            answers = self._conversation.feed(data)
        except MismatchError as mismatch:
            self._failed = True
            self._pool.connection_failed(self, mismatch)
            self.transport.abortConnection()
            self._count_lost()
            return
        if answers:
            stats, starts = self._stats, self._starts
            record = stats.latencies.record
            for _ in range(answers):
                record(now - starts.popleft())
            if self.is_closed_loop:
                more = stats.take(answers)
                if more:
                    self.send(more)
            stats.add_answered(answers)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        count = len(self._due)
        if count:
            self._starts.extend(self._due)
            self._due.clear()
            self.transport.write(self._conversation.messages(count))

    def stopProducing(self) -> None:
        pass  # connectionLost follows

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._pool.connection_lost(self, describe_cause(reason.value))
        self._count_lost()

    def _count_lost(self) -> None:
        lost = len(self._starts) + len(self._due)
        self._starts.clear()
        self._due.clear()
        self._stats.add_lost(lost)

    def close(self) -> None:
        """Close the connection cleanly."""
        if not self.is_closed_loop:
            self.transport.unregisterProducer()  # loseConnection waits for a producer to finish
        self.transport.loseConnection()


def describe_cause(reason: BaseException | None) -> str:
    """Return in a few words why a connection failed or was lost, to be counted by cause."""
    number = _errno_of(reason)
    if number is not None:
        return os.strerror(number)
    for kind, words in (
        (error.ConnectionDone, "closed by the server"),
        (error.ConnectionLost, "reset"),
        (error.TimeoutError, "timed out"),
        (OverflowError, "not a port number (0 to 65535)"),  # from the socket
    ):
        if isinstance(reason, kind):
            return words
    if type(reason).__module__.startswith("OpenSSL"):
        found = getattr(reason, "args", None)
        if found and isinstance(found[0], list) and found[0]:
            return f"TLS: {found[0][-1][-1]}"  # a list of (library, function, reason)
    return " ".join(str(reason).split()) or type(reason).__name__


@define(eq=False)
class ConnectionPool(Factory):
    """Opens connections and keeps track of them; `on_empty` is called when no active one is left.

    The first `plan.connections` that open are active and send messages; the others are idle.
    """

    noisy = False

    _reactor: Any
    _plan: Plan
    _stats: MessageStats
    _now: Callable[[], float]
    _on_empty: Callable[[], None]
    _make_conversation: Callable[[int], Conversation] = field(init=False)
    _sources: SourceAddresses = field(init=False)
    active: dict[LoadConnection, None] = field(factory=dict, init=False)
    idle: dict[LoadConnection, None] = field(factory=dict, init=False)
    _turns: deque[LoadConnection] = field(factory=deque, init=False)
    _endpoints: dict[str, IStreamClientEndpoint] = field(factory=dict, init=False)
    _built: int = field(default=0, init=False)
    opened: int = field(default=0, init=False)
    failed: Counter[str] = field(factory=Counter, init=False)  # by cause
    lost: Counter[str] = field(factory=Counter, init=False)  # by cause
    mismatches: list[str] = field(factory=list, init=False)
    _opening: Deferred[Any] | None = field(default=None, init=False)
    _closed: Deferred[None] | None = field(default=None, init=False)
    _is_stopped: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._make_conversation = conversation_factory(self._plan)
        self._sources = SourceAddresses(self._plan.connect)

    @property
    def size(self) -> int:
        """The number of open connections."""
        return len(self.active) + len(self.idle)

    @override
    def buildProtocol(self, addr: IAddress | None) -> LoadConnection:
        self._built += 1
        conversation = self._make_conversation(self._built)
        is_closed_loop = self._plan.rate is None
        return LoadConnection(conversation, self._stats, self, self._now, is_closed_loop)

    async def open(self, count: int) -> None:
        """Open `count` connections; failures are counted. Raises EndpointError."""
        self._endpoint(self._sources.current)
        numbers = iter(range(count))
        self._opening = gatherResults(
            Deferred.fromCoroutine(self._open_several(numbers)) for _ in range(_HANDSHAKES)
        )
        await self._opening

    async def _open_several(self, numbers: Iterator[int]) -> None:
        for _ in numbers:
            if self._is_stopped:
                return
            await self._open_one()

    async def _open_one(self) -> None:
        while True:
            used = self._sources.current
            try:
                await self._endpoint(used).connect(self)
            except Exception as error:
                if self._is_stopped:
                    return
                if self._sources.advance(used, error):
                    continue
                self.failed[describe_cause(error)] += 1
                if self._plan.ready_within is not None:  # then all are needed
                    self._is_stopped = True
                    # Later, because a running coroutine cannot cancel itself.
                    self._reactor.callLater(0, self.stop)
            return

    def _endpoint(self, description: str) -> IStreamClientEndpoint:
        if description not in self._endpoints:
            self._endpoints[description] = parse_endpoint(self._reactor, description)
        return self._endpoints[description]

    def connection_opened(self, connection: LoadConnection) -> None:
        """Add a connection that has opened."""
        self.opened += 1
        if self.opened <= self._plan.connections:
            self.active[connection] = None
            self._turns.append(connection)
        else:
            self.idle[connection] = None

    def connection_lost(self, connection: LoadConnection, cause: str) -> None:
        """Remove a connection that has closed."""
        was_open = self._remove(connection)
        if self._closed is not None:
            if not self.size and not self._closed.called:
                self._closed.callback(None)
        elif was_open:
            self.lost[cause] += 1
            self._check_empty()

    def connection_failed(self, connection: LoadConnection, mismatch: MismatchError) -> None:
        """Remove a connection that received a wrong answer and is being aborted."""
        self.mismatches.append(str(mismatch))
        self._remove(connection)
        self._check_empty()

    def _remove(self, connection: LoadConnection) -> bool:
        for group in (self.active, self.idle):
            if connection in group:
                del group[connection]
                return True
        return False

    def _check_empty(self) -> None:
        if not self.active:
            self._on_empty()

    def next(self) -> LoadConnection | None:
        """Return the active connection whose turn it is to send, None if there is none."""
        while self._turns:
            connection = self._turns.popleft()
            if connection in self.active:
                self._turns.append(connection)
                return connection
        return None

    def stop(self) -> None:
        """Open no further connections."""
        self._is_stopped = True
        if self._opening is not None:
            self._opening.cancel()

    async def close(self) -> None:
        """Close all connections; those still open after a second are aborted."""
        if not self.size:
            return
        self._closed = Deferred()
        connections = [*self.active, *self.idle]
        timer = self._reactor.callLater(_CLOSE_TIMEOUT, self._abort)
        for connection in connections:
            connection.close()
        await self._closed
        if timer.active():
            timer.cancel()

    def _abort(self) -> None:
        for connection in [*self.active, *self.idle]:
            connection.transport.abortConnection()
