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
Command: TypeAlias = tuple[str, tuple[Any, ...]]

_U31: Final = (1 << 31) - 1
_U63: Final = (1 << 63) - 1
_U32: Final = (1 << 32) - 1
_U64: Final = (1 << 64) - 1

# The longest line, its end included; lines of our own verbs may hold two names.
_MAX_LINE: Final = 224
_MAX_LONG_LINE: Final = 480
_LONG_LINES: Final = (b"put-key ", b"bind ", b"unbind ", b"advance ", b"advance-put ")
_CRLF: Final = b"\r\n"

_BAD_FORMAT: Final[Command] = ("refuse", (b"BAD_FORMAT\r\n",))
_UNKNOWN_COMMAND: Final[Command] = ("refuse", (b"UNKNOWN_COMMAND\r\n",))
_EXPECTED_CRLF: Final = b"EXPECTED_CRLF\r\n"
_JOB_TOO_BIG: Final = b"JOB_TOO_BIG\r\n"


def _integer(most: int = _U32, least: int = 0) -> Callable[[bytes], int]:
    def convert(digits: bytes) -> int:
        value = int(digits)
        if not least <= value <= most:
            raise ValueError
        return value

    return convert


_DIGITS: Final = rb" +([0-9]+)"
_NAME: Final = rb"([A-Za-z0-9+/;.$_()][-A-Za-z0-9+/;.$_()]{0,199})"

# Each argument of the lines below: its pattern, and how it is converted.
_ARGUMENTS: Final[dict[str, tuple[bytes, Callable[[bytes], int | str]]]] = {
    "<tube>": (b" " + _NAME, bytes.decode),
    "<id>": (_DIGITS, _integer(_U64)),
    "<seconds>": (_DIGITS, _integer(_U31)),
    "<pri>": (_DIGITS, _integer()),
    "<delay>": (_DIGITS, _integer()),
    "<ttr>": (_DIGITS, _integer()),
    "<bound>": (_DIGITS, _integer(_U64)),
    "<count>": (_DIGITS, _integer(MAX_MANY, least=1)),
    "<sequence>": (b" " + _NAME, bytes.decode),
    "<number>": (_DIGITS, _integer(_U63)),
    "<bytes>": (_DIGITS, _integer()),
    "<on|off>": (rb" (on|off)", bytes.decode),
}

_GRAMMAR: Final = """
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
_WITH_EVENT: Final = ("put", "advance-put")

# The two verbs that put: priority, delay, TTR, size.
_PUT: Final = re.compile(rb"put" + 4 * _DIGITS)
_PUT_KEY: Final = re.compile(rb"put-key " + _NAME + 4 * _DIGITS)
_PUTS: Final = frozenset((b"put ", b"put-key "))
_put_number: Final = _integer()

# A line that begins like one of these and does not match the grammar is badly formed.
_PREFIXES: Final = (
    *(b"peek-ready", b"peek-delayed", b"peek-buried", b"reserve", b"stats"),
    *(b"list-tube-used", b"list-tubes", b"pause-tube"),
)


@define
class _Line:
    """A line of the grammar, compiled."""

    name: str
    match: Callable[[bytes], "re.Match[bytes] | None"]
    converters: tuple[Callable[[bytes], int | str], ...]
    has_body: bool


def _compile(line: str) -> tuple[bytes, _Line]:
    name, *arguments = line.split()
    pattern = re.escape(name.encode()) + b"".join(_ARGUMENTS[each][0] for each in arguments)
    converters = tuple(_ARGUMENTS[each][1] for each in arguments)
    has_body = line.endswith("<bytes>")
    compiled = _Line(name, re.compile(pattern).fullmatch, converters, has_body)
    return name.encode() + (b" " if arguments else b""), compiled


# By the word as it stands in a line, with the space that must follow it if it has arguments.
LINES: Final = dict(_compile(line) for line in _GRAMMAR.split("\n") if line)


def is_tube_name(name: str) -> bool:
    """Whether `name` may name a tube."""
    return re.fullmatch(_NAME, name.encode(errors="surrogateescape")) is not None


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
        if self._at == len(self._buffer):
            self._clear()
            return None
        if self._skip:
            return self._skip_body()
        if self._awaiting is not None:
            return self._take_body(self._awaiting)
        return self._take_line()

    def _clear(self) -> None:
        self._buffer, self._at = b"", 0

    def _take_line(self) -> Command | None:
        buffer, start = self._buffer, self._at
        end = buffer.find(_CRLF, start)
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
        word = line[: line.find(b" ") + 1] or line
        if word in _PUTS:
            return self._begin_put(line)
        expected = LINES.get(word)
        if expected is None:
            if b"\0" in line or line.startswith(_PREFIXES):
                return _BAD_FORMAT
            return ("quit", ()) if line.startswith(b"quit") else _UNKNOWN_COMMAND
        found = expected.match(line)
        if found is None:
            return _BAD_FORMAT
        pairs = zip(expected.converters, found.groups(), strict=True)
        try:
            arguments = tuple([convert(group) for convert, group in pairs])
        except ValueError:
            return _BAD_FORMAT
        if not expected.has_body:
            return expected.name, arguments
        size = arguments[-1]
        assert isinstance(size, int)
        return self._begin_body(expected.name, arguments[:-1], size)

    def _begin_put(self, line: bytes) -> Command | None:
        found = _PUT.fullmatch(line) or _PUT_KEY.fullmatch(line)
        if found is None:
            return _BAD_FORMAT
        *key, pri, delay, ttr, size = found.groups()
        try:
            put = (_put_number(pri), _put_number(delay), _put_number(ttr))
            body_size = _put_number(size)
        except ValueError:
            return _BAD_FORMAT
        return self._begin_body("put", (*put, key[0].decode() if key else None), body_size)

    def _begin_body(self, name: str, arguments: tuple[Any, ...], size: int) -> Command | None:
        if size > (self.max_job_size if name in _WITH_EVENT else MAX_RESULT):
            self._skipped, self._skip = name, size + 2
            return self._skip_body()
        self._size = size
        self._awaiting = name, arguments
        return self._take_body(self._awaiting)

    def _skip_body(self) -> Command | None:
        skipped = min(self._skip, self.pending)
        self._at += skipped
        self._skip -= skipped
        if self._skip:
            self._clear()
            return None
        return _refuse_body(self._skipped, _JOB_TOO_BIG)

    def _take_body(self, awaiting: Command) -> Command | None:
        start, body = self._at, self._body
        end = start + self._size + 2 - (0 if body is None else len(body))
        if end > len(self._buffer):
            # Collected in a bytearray, so that a large body in many portions is not copied for
            # each of them.
            if self._body is None:
                self._body = bytearray()
            self._body += self._buffer[start:]
            self._clear()
            return None
        self._at = end
        if body is None:
            data, tail = self._buffer[start : end - 2], self._buffer[end - 2 : end]
        else:
            body += self._buffer[start:end]
            data, tail = bytes(body[:-2]), bytes(body[-2:])
        self._awaiting = self._body = None
        name, arguments = awaiting
        if tail != _CRLF:
            return _refuse_body(name, _EXPECTED_CRLF)
        return name, (*arguments, data)


def _refuse_body(name: str, reply: bytes) -> Command:
    return "refuse-put" if name == "put" else "refuse", (reply,)
