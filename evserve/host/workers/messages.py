"""The control channel: messages between the supervisor and a worker over two pipes.

A message is JSON behind its length, so that a worker cannot make the supervisor unpickle anything.
"""

import json
import struct
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

from attrs import define, field, frozen
from prometheus_client.core import Metric, Sample
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from typing_extensions import override


_LENGTH = struct.Struct("!I")  # bytes of JSON that follow


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
    content = json.dumps([message.kind.value, families]).encode()
    return _LENGTH.pack(len(content)) + content


def _decode(content: bytes) -> Message:
    kind, families = json.loads(content)
    return Message(MessageKind(kind), tuple(_metric(*each) for each in families))


def _metric(name: str, help_text: str, kind: str, unit: str, samples: list[list[Any]]) -> Metric:
    metric = Metric(name, help_text, kind, unit)
    metric.samples = [Sample(*sample) for sample in samples]
    return metric


@define(eq=False)
class MessageDecoder:
    """Splits the bytes from a pipe into messages."""

    _buffer: bytes = field(init=False, default=b"")

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that `data` completes."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                return
            content, self._buffer = self._buffer[_LENGTH.size : end], self._buffer[end:]
            yield _decode(content)


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
