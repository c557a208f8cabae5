"""What the parent and a worker say to each other: length-prefixed JSON, no pickle."""

import json
import struct
from collections.abc import Iterator
from enum import Enum
from typing import Any

from attrs import define, field, frozen
from prometheus_client.core import Metric, Sample


_LENGTH = struct.Struct("!I")  # bytes of JSON that follow


class Kind(Enum):
    """What a message is about."""

    READY = "ready"  # worker: it listens
    METRICS = "metrics"  # worker: what it has counted so far
    DRAIN = "drain"  # parent: stop in good order
    CUT = "cut"  # parent: abort what is still open


@frozen
class Message:
    """A message; `families` are the metrics of METRICS."""

    kind: Kind
    families: tuple[Metric, ...] = ()


def encode(message: Message) -> bytes:
    """Return a message as a frame."""
    families = [
        [each.name, each.documentation, each.type, each.unit, [list(s[:3]) for s in each.samples]]
        for each in message.families
    ]
    content = json.dumps([message.kind.value, families]).encode()
    return _LENGTH.pack(len(content)) + content


def _decode(content: bytes) -> Message:
    kind, families = json.loads(content)
    return Message(Kind(kind), tuple(_metric(*each) for each in families))


def _metric(name: str, text: str, kind: str, unit: str, samples: list[list[Any]]) -> Metric:
    metric = Metric(name, text, kind, unit)
    metric.samples = [Sample(*sample) for sample in samples]
    return metric


@define(eq=False)
class Frames:
    """Cuts what arrives into messages."""

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
