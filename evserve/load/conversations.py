"""What is said on one connection, and whether the answer is right: bytes in, bytes out.

An echo is checked as one long stream, so neither the size of what arrives at a time nor messages
that arrive together cost a step each.
"""

import hashlib
from collections.abc import Callable
from typing import Protocol

from attrs import define, field, frozen

from evserve.load.plan import Plan


LINE_BREAK = b"\r\n"
_PERIOD = 2**20  # bytes, about: then the stream repeats itself
_MOST_MESSAGES = 1024
_SHOWN = 40  # bytes of a wrong answer that a message quotes


class Mismatch(Exception):  # noqa: N818 - a finding, not an error of the program
    """The server's answer is wrong; the message says where and how."""


class Conversation(Protocol):
    """One connection's messages and answers."""

    def messages(self, count: int) -> bytes:
        """Return the next `count` messages."""

    def feed(self, data: bytes) -> int:
        """Return how many answers `data` completes; raises Mismatch."""


@frozen
class Stream:
    """Endless bytes that look like noise: what is lost, doubled or swapped in them shows."""

    size: int  # of a message
    text: bytes = field(repr=False)
    _period: int

    @classmethod
    def of(cls, size: int) -> "Stream":
        """Return the stream of messages of `size` bytes each."""
        messages = max(2, min(_MOST_MESSAGES, _PERIOD // size))
        noise = hashlib.shake_256(b"evserve").digest(size * messages)
        return cls(size, noise * 2, len(noise))

    def at(self, start: int, length: int) -> bytes:
        """Return `length` bytes from `start` on."""
        start %= self._period
        if start + length <= len(self.text):
            return self.text[start : start + length]
        return (self.text * (length // self._period + 1))[start : start + length]


@define(eq=False)
class EchoConversation:
    """Expects what it sends; begins with message number `first` of the stream."""

    _stream: Stream
    first: int
    _sent: int = field(default=0, init=False)  # positions in the stream, in bytes
    _got: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._sent = self._got = self.first * self._stream.size

    def messages(self, count: int) -> bytes:
        """See Conversation."""
        length = count * self._stream.size
        data = self._stream.at(self._sent, length)
        self._sent += length
        return data

    def feed(self, data: bytes) -> int:
        """See Conversation."""
        got, length = self._got, len(data)
        end = got + length
        if end > self._sent or data != self._stream.at(got, length):
            raise Mismatch(self._difference(data))
        self._got = end
        size = self._stream.size
        return end // size - got // size

    def _difference(self, data: bytes) -> str:
        """Say which of the bytes that were owed is the first wrong one."""
        before = self._got - self.first * self._stream.size
        owed = self._stream.at(self._got, min(len(data), self._sent - self._got))
        for n, (expected, got) in enumerate(zip(owed, data, strict=False)):
            if expected != got:
                return f"byte {before + n} is 0x{got:02x} instead of 0x{expected:02x}"
        return f"{len(data) - len(owed)} bytes more than were sent"


@define(eq=False)
class LineConversation:
    """Expects a line for each line it sends: any line, or always the one that is `expected`."""

    _line: bytes
    _expected: bytes | None = None
    _owed: int = field(default=0, init=False)
    _begun: bytes = field(default=b"", init=False)

    def messages(self, count: int) -> bytes:
        """See Conversation."""
        self._owed += count
        return (self._line + LINE_BREAK) * count

    def feed(self, data: bytes) -> int:
        """See Conversation."""
        lines = data.count(b"\n")
        if lines > self._owed or (lines == self._owed and not data.endswith(b"\n")):
            raise Mismatch(f"a line more than was asked for: {data[-_SHOWN:]!r}")
        if self._expected is not None:
            self._compare(data, self._expected)
        self._owed -= lines
        return lines

    def _compare(self, data: bytes, expected: bytes) -> None:
        *lines, begun = (self._begun + data).split(b"\n")
        for line in lines:
            if line.removesuffix(b"\r") != expected:
                raise Mismatch(f"{line[:_SHOWN]!r} instead of {expected[:_SHOWN]!r}")
        if not (expected + b"\r").startswith(begun):
            raise Mismatch(f"{begun[:_SHOWN]!r} instead of {expected[:_SHOWN]!r}")
        self._begun = begun


def line_of(size: int) -> bytes:
    """Return a line of letters that takes `size` bytes with its line break."""
    alphabet = b"abcdefghijklmnopqrstuvwxyz"
    length = size - len(LINE_BREAK)
    return (alphabet * (length // len(alphabet) + 1))[:length]


def conversations(plan: Plan) -> Callable[[int], Conversation]:
    """Return a function that makes the conversation of each connection by its number."""
    if plan.line is not None:
        line = plan.line
        return lambda _: LineConversation(line, plan.expected)
    stream = Stream.of(plan.size)
    return lambda number: EchoConversation(stream, number)
