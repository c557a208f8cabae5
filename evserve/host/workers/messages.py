"""The control channel: messages between the supervisor and a worker over two pipes.

A message is one line of JSON. It is not a pickle, so that a broken worker cannot make the
supervisor run anything.
"""

import json
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

from attrs import define, field, frozen
from prometheus_client.core import Metric, Sample
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from typing_extensions import override


class MessageKind(Enum):
    """What a message says."""

    READY = "ready"  # worker: all services listen
    METRICS = "metrics"  # worker: the current values of its metrics
    DRAIN = "drain"  # supervisor: stop, and let work in flight finish
    ABORT = "abort"  # supervisor: close the connections that are still open


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

    on_drain, on_abort: called when the supervisor sends that message.  on_supervisor_lost: called
    when the channel closes before `close` was called.
    """

    on_drain: Callable[[], None]
    on_abort: Callable[[], None]
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

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closed.callback(None)
        if not self._closing:
            self.on_supervisor_lost()
