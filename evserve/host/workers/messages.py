"""What the supervisor and a worker tell each other.

At its start, a worker finds its assignment in the environment. From then on they exchange messages
over two pipes, the control channel. A message is one line of JSON. It is not a pickle, so that a
broken worker cannot make the supervisor run anything.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from enum import Enum
from functools import cache
from typing import Any

from attrs import define, field, frozen
from prometheus_client.core import Metric, Sample
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from typing_extensions import override


# The descriptors that a worker inherits besides standard input, output and error.
REPORT_FD = 3  # the worker writes messages to this one
COMMAND_FD = 4  # and reads messages from this one; end of file means that the supervisor is gone
FIRST_SOCKET_FD = 5

_VARIABLE = "EVSERVE_WORKER"
# systemd talks to one process: a worker that answered would confuse it.
_SYSTEMD_VARIABLE = re.compile(r"LISTEN_(PID|FDS|FDNAMES)|NOTIFY_SOCKET|WATCHDOG_(PID|USEC)")

SocketKey = tuple[str, str]  # the name of a service, and an endpoint as the user wrote it


@frozen
class Assignment:
    """What a worker is told at its start.

    number: from 1.  sockets: the descriptor that the worker inherits for each socket.
    uvloop: whether the supervisor runs on the uvloop reactor, as the worker then does too.
    """

    number: int
    sockets: Mapping[SocketKey, int]
    uvloop: bool

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the worker: the supervisor's, plus this assignment."""
        rows = [[*key, fileno] for key, fileno in self.sockets.items()]
        kept = {k: v for k, v in environ.items() if not _SYSTEMD_VARIABLE.fullmatch(k)}
        return {**kept, _VARIABLE: json.dumps([self.number, rows, self.uvloop])}


def take_assignment(environ: MutableMapping[str, str]) -> Assignment | None:
    """Remove the assignment from an environment and return it; None if there is none."""
    text = environ.pop(_VARIABLE, None)
    if text is None:
        return None
    number, rows, uvloop = json.loads(text)
    sockets = {(service, endpoint): fileno for service, endpoint, fileno in rows}
    return Assignment(number, sockets, uvloop)


@cache
def current_assignment() -> Assignment | None:
    """Return the assignment of this process; None if it is no worker."""
    return take_assignment(os.environ)


class MessageKind(Enum):
    """What a message says."""

    READY = "ready"  # worker: all services listen
    METRICS = "metrics"  # worker: the current values of its metrics
    LEAVING = "leaving"  # worker: it was told to end by a signal, and accepts nothing more
    DRAIN = "drain"  # supervisor: stop, and let work in flight finish
    ABORT = "abort"  # supervisor: close the connections that are still open
    RELOAD = "reload"  # supervisor: read the certificates again


@frozen
class Message:
    """A message; `families` are the metrics of a METRICS message."""

    kind: MessageKind
    families: tuple[Metric, ...] = ()


def encode(message: Message) -> bytes:
    """Return a message as bytes for the pipe."""
    families = [
        [each.name, each.documentation, each.type, each.unit, [list(s[:3]) for s in each.samples]]
        for each in message.families
    ]
    return json.dumps([message.kind.value, families]).encode() + b"\n"


def _decode(line: bytes) -> Message:
    kind, rows = json.loads(line)
    families = []
    for *description, samples in rows:
        family = Metric(*description)
        family.samples = [Sample(*sample) for sample in samples]
        families.append(family)
    return Message(MessageKind(kind), tuple(families))


@define(eq=False)
class MessageDecoder:
    """Splits the bytes from a pipe into messages."""

    _partial_line: bytes = field(init=False, default=b"")

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that `data` completes."""
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        yield from map(_decode, lines)


@define(eq=False)
class ControlChannel(Protocol):
    """A worker's end of the control channel.

    on_drain, on_abort, on_reload: called when the supervisor sends that message.
    on_supervisor_lost: called when the channel closes before `close` was called.
    """

    on_drain: Callable[[], None]
    on_abort: Callable[[], None]
    on_reload: Callable[[], object]
    on_supervisor_lost: Callable[[], None]
    transport: Any = None
    _closed: Deferred[None] = field(init=False, factory=Deferred)
    _closing: bool = field(init=False, default=False)
    _decoder: MessageDecoder = field(init=False, factory=MessageDecoder)

    def send(self, message: Message) -> None:
        """Send a message to the supervisor, if it is still there."""
        if not self._closed.called:
            self.transport.write(encode(message))

    def close(self) -> Deferred[None]:
        """Close the channel; fires once everything has been sent."""
        self._closing = True
        if not self._closed.called:
            self.transport.loseConnection()
        return self._closed

    @override
    def dataReceived(self, data: bytes) -> None:
        for message in self._decoder.feed(data):
            if message.kind is MessageKind.DRAIN:
                self.on_drain()
            elif message.kind is MessageKind.ABORT:
                self.on_abort()
            elif message.kind is MessageKind.RELOAD:
                self.on_reload()

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closed.callback(None)
        if not self._closing:
            self.on_supervisor_lost()
