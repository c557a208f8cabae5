"""The wire protocol without I/O: bytes go in, commands come out.

This is beanstalkd's protocol (doc/protocol.txt of beanstalkd 1.13) with the verbs of
docs/protocol.md added. Malformed lines are answered as beanstalkd answers them: a verb without
its argument is an unknown command, a verb that is wrong in any other way is badly formed.
"""

import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from attrs import define

from evserve.events import MAX_MANY, MAX_RESULT


# A verb and its converted arguments; the last is its body, if it has one. A line or body that is
# not acceptable becomes "refuse" or "refuse-put", with the reply as its argument.
Command: TypeAlias = tuple[str, list[Any]]

_U31: Final = (1 << 31) - 1
_U32: Final = (1 << 32) - 1
_U63: Final = (1 << 63) - 1
_U64: Final = (1 << 64) - 1

# The longest line, its end included; lines of our own verbs may hold two names.
_MAX_LINE: Final = 224
_MAX_LONG_LINE: Final = 480
_LONG_LINES: Final = (b"put-key ", b"bind ", b"unbind ", b"advance ", b"advance-put ")
_CRLF: Final = b"\r\n"

_BAD_FORMAT: Final[Command] = ("refuse", [b"BAD_FORMAT\r\n"])
_UNKNOWN_COMMAND: Final[Command] = ("refuse", [b"UNKNOWN_COMMAND\r\n"])
_EXPECTED_CRLF: Final = b"EXPECTED_CRLF\r\n"
_JOB_TOO_BIG: Final = b"JOB_TOO_BIG\r\n"


_NAME: Final = re.compile(rb"[A-Za-z0-9+/;.$_()][-A-Za-z0-9+/;.$_()]{0,199}").fullmatch


def is_tube_name(name: str) -> bool:
    """Whether `name` may name a tube."""
    return _NAME(name.encode(errors="surrogateescape")) is not None


def _name(word: bytes) -> str | None:
    return word.decode() if _NAME(word) else None


def _switch(word: bytes) -> str | None:
    return word.decode() if word in (b"on", b"off") else None


def _count(word: bytes) -> int | None:
    return int(word) if word.isdigit() and 1 <= int(word) <= MAX_MANY else None


# What an argument of the lines below may be: a number up to this one, or what a function makes of
# the word, which is None if it is not acceptable.
_Kind: TypeAlias = int | Callable[[bytes], int | str | None]
_ARGUMENTS: Final[dict[str, _Kind]] = {
    "<tube>": _name,
    "<key>": _name,
    "<id>": _U64,
    "<seconds>": _U31,
    "<pri>": _U32,
    "<delay>": _U32,
    "<ttr>": _U32,
    "<bound>": _U64,
    "<count>": _count,
    "<sequence>": _name,
    "<number>": _U63,
    "<bytes>": _U32,
    "<on|off>": _switch,
}
# One space stands before these, and one or several before a number.
_WORDS: Final = (_name, _switch)

_GRAMMAR: Final = """
put <pri> <delay> <ttr> <bytes>
put-key <key> <pri> <delay> <ttr> <bytes>
use <tube>
reserve
reserve-with-timeout <seconds>
reserve-job <id>
delete <id>
release <id> <pri> <delay>
bury <id> <pri>
touch <id>
watch <tube>
ignore <tube>
peek <id>
peek-ready
peek-delayed
peek-buried
kick <bound>
kick-job <id>
stats-job <id>
stats-tube <tube>
stats
list-tubes
list-tube-used
list-tubes-watched
quit
pause-tube <tube> <delay>
bind <tube> <tube>
unbind <tube> <tube>
list-bindings
reserve-from <seconds>
reserve-batch <count> <seconds>
truncate <tube>
position <sequence>
advance <sequence> <number>
advance-put <sequence> <number> <tube> <pri> <ttr> <bytes>
delete-keep <id> <seconds> <bytes>
bury-keep <id> <pri> <seconds> <bytes>
history <count>
history-tube <tube> <count>
drain <on|off>
"""
# Of the verbs that a body follows, those whose body is an event's; the others have a result.
_WITH_EVENT: Final = ("put", "put-key", "advance-put")

# A line that begins like one of these and does not match the grammar is badly formed.
_PREFIXES: Final = (
    *(b"peek-ready", b"peek-delayed", b"peek-buried", b"reserve", b"stats"),
    *(b"list-tube-used", b"list-tubes", b"pause-tube"),
)


@define
class _Line:
    """A line of the grammar. `words`: how many it has with its verb."""

    name: str
    kinds: tuple[_Kind, ...]
    words: int
    has_body: bool

    def join_spaces(self, words: list[bytes]) -> list[bytes]:
        """Return `words` without the empty ones between several spaces before a number."""
        joined = words[:1]
        for word in words[1:]:
            at = len(joined) - 1
            if word or at >= len(self.kinds) or self.kinds[at] in _WORDS:
                joined.append(word)
        return joined


def _compile(line: str) -> _Line:
    name, *arguments = line.split()
    kinds = tuple(_ARGUMENTS[each] for each in arguments)
    return _Line(name, kinds, 1 + len(kinds), line.endswith("<bytes>"))


# By the verb.
LINES: Final = {line.split()[0].encode(): _compile(line) for line in _GRAMMAR.split("\n") if line}


@define(eq=False, repr=False)
class Parser:
    """The bytes received on one connection.

    `feed` adds what was received, in any portions. `next_command` takes out one command at a
    time, so that a session can leave the rest for later; `pending` is how many bytes that is.
    """

    max_job_size: int
    _buffer: bytes = b""
    _at: int = 0
    _awaiting: Command | None = None  # all but its body, of `_size` bytes
    _size: int = 0
    _body: bytearray | None = None
    _skipped: str = ""  # the verb whose body is too large
    _skip: int = 0
    _line_too_long: bool = False

    @property
    def pending(self) -> int:
        """How many bytes have been received but not taken."""
        return len(self._buffer) - self._at

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        if self._at < len(self._buffer):
            data = self._buffer[self._at :] + data
        self._buffer = data
        self._at = 0

    def next_command(self) -> Command | None:
        """Return the next command; None if it is not complete."""
        buffer, start = self._buffer, self._at
        if start == len(buffer):
            self._buffer, self._at = b"", 0
            return None
        if self._awaiting is not None:
            return self._take_body(self._awaiting)
        if self._skip:
            return self._skip_body()
        end = buffer.find(_CRLF, start)
        if end < 0 or end - start > _MAX_LINE - 2 or self._line_too_long:
            return self._take_long_line(end)
        self._at = end + 2
        return self._parse(buffer[start:end])

    def _take_long_line(self, end: int) -> Command | None:
        """Take a line that is longer than most; or its start, if `end` is -1."""
        buffer, start = self._buffer, self._at
        length = (end if end >= 0 else len(buffer)) - start
        if length > _MAX_LINE - 2 and not self._line_too_long:
            self._line_too_long = self._is_too_long(length, complete=end >= 0)
        if end < 0:
            if self._line_too_long and length > 1:
                # Of a line that will be refused only the last byte matters: it may be a \r.
                self._at = len(buffer) - 1
            return None
        self._at = end + 2
        if self._line_too_long:
            self._line_too_long = False
            return _BAD_FORMAT
        return self._parse(buffer[start:end])

    def _is_too_long(self, length: int, *, complete: bool) -> bool:
        limit = _MAX_LONG_LINE if self._buffer.startswith(_LONG_LINES, self._at) else _MAX_LINE
        # The last byte of an incomplete line may be a \r that ends it.
        return length > limit - 2 if complete else length >= limit

    def _parse(self, line: bytes) -> Command | None:
        words = line.split(b" ")
        expected = LINES.get(words[0])
        if expected is None or (len(words) == 1) is not (expected.words == 1):
            return _refuse_line(line)
        if len(words) != expected.words:
            words = expected.join_spaces(words)
            if len(words) != expected.words:
                return _BAD_FORMAT
        arguments: list[Any] = []
        argument: int | str | None
        for index, kind in enumerate(expected.kinds, 1):
            word = words[index]
            if isinstance(kind, int):
                if not word.isdigit() or (argument := int(word)) > kind:
                    return _BAD_FORMAT
            elif (argument := kind(word)) is None:
                return _BAD_FORMAT
            arguments.append(argument)
        if not expected.has_body:
            return expected.name, arguments
        return self._begin_body(expected.name, arguments)

    def _begin_body(self, name: str, arguments: list[Any]) -> Command | None:
        size = arguments.pop()
        if size > (self.max_job_size if name in _WITH_EVENT else MAX_RESULT):
            self._skipped, self._skip = name, size + 2
            return self._skip_body()
        buffer, start = self._buffer, self._at
        end = start + size
        if end + 2 <= len(buffer):
            self._at = end + 2
            if not buffer.startswith(_CRLF, end):
                return _refuse_body(name, _EXPECTED_CRLF)
            arguments.append(buffer[start:end])
            return name, arguments
        self._awaiting, self._size = (name, arguments), size
        return self._take_body(self._awaiting)

    def _skip_body(self) -> Command | None:
        skipped = min(self._skip, self.pending)
        self._at += skipped
        self._skip -= skipped
        if self._skip:
            self._buffer, self._at = b"", 0
            return None
        return _refuse_body(self._skipped, _JOB_TOO_BIG)

    def _take_body(self, awaiting: Command) -> Command | None:
        # Collected in a bytearray, so that a large body in many portions is not copied for each
        # of them.
        if self._body is None:
            self._body = bytearray()
        body, start = self._body, self._at
        end = start + self._size + 2 - len(body)
        body += self._buffer[start:end]
        if end > len(self._buffer):
            self._buffer, self._at = b"", 0
            return None
        self._at = end
        self._awaiting = self._body = None
        name, arguments = awaiting
        if not body.endswith(_CRLF):
            return _refuse_body(name, _EXPECTED_CRLF)
        arguments.append(bytes(body[:-2]))
        return name, arguments


def _refuse_line(line: bytes) -> Command:
    if b"\0" in line or line.startswith(_PREFIXES):
        return _BAD_FORMAT
    return ("quit", []) if line.startswith(b"quit") else _UNKNOWN_COMMAND


def _refuse_body(name: str, reply: bytes) -> Command:
    return "refuse-put" if name in ("put", "put-key") else "refuse", [reply]
