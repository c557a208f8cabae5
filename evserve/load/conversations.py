"""What one connection sends, and how its answers are checked: bytes in, bytes out.

An echo is checked as one long stream, so there is no work per message: neither the size of the
received chunks nor the number of messages in them matters.
"""

import hashlib
from collections.abc import Callable
from typing import Protocol

from attrs import define, field, frozen

from evserve.load.plan import Plan


LINE_BREAK = b"\r\n"
_PERIOD = 2**20  # bytes, approximately, after which the stream repeats
_MAX_MESSAGES = 1024  # in a period
_QUOTED = 40  # bytes of a wrong answer in an error message


class MismatchError(Exception):
    """The server's answer is wrong; the message says where and how."""


class Conversation(Protocol):
    """One connection's messages and answers."""

    def messages(self, count: int) -> bytes:
        """Return the next `count` messages."""

    def feed(self, data: bytes) -> int:
        """Return how many answers `data` completes; raises MismatchError."""


@frozen
class Stream:
    """Endless pseudo-random bytes, in which lost, repeated or swapped bytes are noticed."""

    size: int  # bytes per message
    text: bytes = field(repr=False)
    _period: int

    @classmethod
    def of(cls, size: int) -> "Stream":
        """Return the stream of messages of `size` bytes each."""
        messages = max(2, min(_MAX_MESSAGES, _PERIOD // size))
        noise = hashlib.shake_256(b"evserve").digest(size * messages)
        return cls(size, noise * 2, len(noise))

    def at(self, start: int, length: int) -> bytes:
        """Return the `length` bytes that begin at position `start`."""
        start %= self._period
        if start + length <= len(self.text):
            return self.text[start : start + length]
        return (self.text * (length // self._period + 1))[start : start + length]


@define(eq=False)
class EchoConversation:
    """Expects what it sends, starting with message number `first` of the stream."""

    _stream: Stream
    first: int
    _sent: int = field(default=0, init=False)  # position in the stream after the last sent byte
    _received: int = field(default=0, init=False)  # position of the next expected byte

    def __attrs_post_init__(self) -> None:
        self._sent = self._received = self.first * self._stream.size

    def messages(self, count: int) -> bytes:
        length = count * self._stream.size
        data = self._stream.at(self._sent, length)
        self._sent += length
        return data

    def feed(self, data: bytes) -> int:
        received, length = self._received, len(data)
        end = received + length
        if end > self._sent or data != self._stream.at(received, length):
            raise MismatchError(self._difference(data))
        self._received = end
        size = self._stream.size
        return end // size - received // size

    def _difference(self, data: bytes) -> str:
        """Describe the first wrong byte."""
        before = self._received - self.first * self._stream.size
        missing = self._stream.at(self._received, min(len(data), self._sent - self._received))
        for n, (expected, got) in enumerate(zip(missing, data, strict=False)):
            if expected != got:
                return f"byte {before + n} is 0x{got:02x} instead of 0x{expected:02x}"
        return f"{len(data) - len(missing)} bytes more than were sent"


@define(eq=False)
class LineConversation:
    """Expects one line for each line that it sends: any line, or always `expected`."""

    _line: bytes
    _expected: bytes | None = None
    _unanswered: int = field(default=0, init=False)  # lines
    _partial: bytes = field(default=b"", init=False)  # the beginning of the next line

    def messages(self, count: int) -> bytes:
        self._unanswered += count
        return (self._line + LINE_BREAK) * count

    def feed(self, data: bytes) -> int:
        lines = data.count(b"\n")
        if lines > self._unanswered or (lines == self._unanswered and not data.endswith(b"\n")):
            raise MismatchError(f"more lines than were sent: {data[-_QUOTED:]!r}")
        if self._expected is not None:
            self._compare(data, self._expected)
        self._unanswered -= lines
        return lines

    def _compare(self, data: bytes, expected: bytes) -> None:
        *lines, partial = (self._partial + data).split(b"\n")
        for line in lines:
            if line.removesuffix(b"\r") != expected:
                raise MismatchError(f"{line[:_QUOTED]!r} instead of {expected[:_QUOTED]!r}")
        if not (expected + b"\r").startswith(partial):
            raise MismatchError(f"{partial[:_QUOTED]!r} instead of {expected[:_QUOTED]!r}")
        self._partial = partial


def make_line(size: int) -> bytes:
    """Return a line of letters that takes `size` bytes including its line break."""
    alphabet = b"abcdefghijklmnopqrstuvwxyz"
    length = size - len(LINE_BREAK)
    return (alphabet * (length // len(alphabet) + 1))[:length]


def conversation_factory(plan: Plan) -> Callable[[int], Conversation]:
    """Return a function that makes the conversation of connection number N."""
    if plan.line is not None:
        line = plan.line
        return lambda _: LineConversation(line, plan.expected)
    stream = Stream.of(plan.size)
    return lambda number: EchoConversation(stream, number)
