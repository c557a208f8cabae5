"""The wire protocol, without I/O: bytes in, calls of `Commands` out.

Bytes come in any portions: `feed` keeps what is incomplete. Commands may come faster than they
can be carried out: a command can stop the parser, which then keeps the rest until `run`.
"""

import re
from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol, TypeAlias

from attrs import define


U31: Final = (1 << 31) - 1
U32: Final = (1 << 32) - 1
U64: Final = (1 << 64) - 1
# How many events reserve-batch gives at most: their bodies are in memory together.
MOST_EVENTS: Final = 1000


class BadFormatError(Exception):
    """A line is not well formed."""


def number(word: bytes, most: int = U32) -> int:
    """Convert digits; raises BadFormatError beyond `most`."""
    value = int(word)
    if value > most:
        raise BadFormatError
    return value


_DIGITS: Final = rb" +([0-9]+)"
_NAME: Final = rb"([A-Za-z0-9+/;.$_()][-A-Za-z0-9+/;.$_()]{0,199})"

# For each letter of the table below: the pattern of an argument, and how it is converted.
_ARGUMENTS: Final[dict[str, tuple[bytes, Callable[[bytes], int | str]]]] = {
    "n": (_DIGITS, number),
    "i": (_DIGITS, lambda word: number(word, U64)),
    "s": (_DIGITS, lambda word: number(word, U31)),
    "b": (_DIGITS, lambda word: number(word, MOST_EVENTS)),
    "t": (b" " + _NAME, lambda word: word.decode("ascii")),
}

# n: a number below 2**32; i: an id; s: seconds to wait; b: how many at once; t: a tube.
_LINES: Final = """
reserve
delete i
reserve-with-timeout s
release i n n
touch i
use t
watch t
ignore t
bury i n
reserve-job i
peek i
peek-ready
peek-delayed
peek-buried
kick i
kick-job i
stats
stats-job i
stats-tube t
list-tubes
list-tube-used
list-tubes-watched
pause-tube t n
quit
reserve-from s
reserve-batch b s
bind t t
unbind t t
truncate t
"""

# The two verbs that a body follows: priority, delay, time to run, size.
PUT: Final = re.compile(rb"put" + 4 * _DIGITS)
PUT_KEY: Final = re.compile(rb"put-key " + _NAME + 4 * _DIGITS)

# A line that begins like one of these, but is none of the table's, is badly formed.
_PREFIXES: Final = (
    *(b"peek-ready", b"peek-delayed", b"peek-buried", b"reserve", b"stats"),
    *(b"list-tube-used", b"list-tubes", b"pause-tube"),
)


@define
class Verb:
    """One line of the table: `method` of Commands is called with the converted arguments."""

    method: str
    match: Callable[[bytes], "re.Match[bytes] | None"]
    converters: tuple[Callable[[bytes], int | str], ...]


def _verb(line: str) -> tuple[bytes, Verb]:
    name, *letters = line.split()
    pattern = re.escape(name.encode())
    for letter in letters:
        pattern += _ARGUMENTS[letter][0]
    converters = tuple(_ARGUMENTS[letter][1] for letter in letters)
    verb = Verb(name.replace("-", "_"), re.compile(pattern).fullmatch, converters)
    return name.encode() + (b" " if letters else b""), verb


# By the word as it stands in a line, with the space that must follow it if it has arguments.
VERBS: Final = dict(_verb(line) for line in _LINES.split("\n") if line)


def is_tube_name(name: str) -> bool:
    """Whether `name` may name a tube."""
    return re.fullmatch(_NAME, name.encode(errors="surrogateescape")) is not None


def is_malformed(line: bytes) -> bool:
    """Whether a line that is none of the table's is a bad form of one of them."""
    return b"\0" in line or line.startswith(_PREFIXES)


# The longest line, its end included; lines with our own verbs may hold two names.
LINE: Final = 224
LONG_LINE: Final = 480
_LONG: Final = (b"put-key ", b"bind ", b"unbind ")
_PUTS: Final = frozenset((b"put ", b"put-key "))
_END: Final = b"\r\n"

BAD_FORMAT: Final = b"BAD_FORMAT\r\n"
UNKNOWN_COMMAND: Final = b"UNKNOWN_COMMAND\r\n"
EXPECTED_CRLF: Final = b"EXPECTED_CRLF\r\n"
JOB_TOO_BIG: Final = b"JOB_TOO_BIG\r\n"


class Flow(Enum):
    """What a command wants of the parser; None is "go on"."""

    STOP = 1  # carry nothing out until `run` is called
    AGAIN = 2  # the same, and then offer this command once more


Then: TypeAlias = Flow | None


class Commands(Protocol):
    """Carries commands out: these, and a method for each verb of the grammar."""

    def refuse(self, reply: bytes) -> Then:
        """Answer a line that is no command."""
        ...

    def refuse_put(self, reply: bytes) -> Then:
        """Answer a put whose body is not acceptable."""
        ...

    def put(self, put: "Put", body: bytes) -> Then:
        """Put an event."""
        ...

    def quit(self) -> Then:
        """Close the connection."""
        ...


@define
class Put:
    """The line of a put or put-key, whose body of `size` bytes follows."""

    pri: int
    delay: int
    ttr: int
    size: int
    key: str | None


@define(eq=False, repr=False)
class Parser:
    """One connection's incoming bytes. `pending` tells how many wait for `run`."""

    commands: Commands
    max_job_size: int
    _buffer: bytes = b""
    _at: int = 0
    _put: Put | None = None
    _body: bytearray | None = None
    _skip: int = 0
    _too_long: bool = False

    @property
    def pending(self) -> int:
        """How many bytes have been received but not carried out."""
        return len(self._buffer) - self._at

    def feed(self, data: bytes) -> None:
        """Take in what was received; `run` carries it out."""
        if self._at < len(self._buffer):
            data = self._buffer[self._at :] + data
        self._buffer = data
        self._at = 0

    def run(self) -> None:
        """Carry out the complete commands, until one says stop."""
        while self._at < len(self._buffer):
            if self._skip:
                then = self._skip_body()
            elif self._put is not None:
                then = self._take_body(self._put)
            else:
                then = self._take_line()
            if then is not None:
                return
        self._buffer, self._at = b"", 0

    def _take_line(self) -> Then:
        buffer, start = self._buffer, self._at
        end = buffer.find(_END, start)
        length = (end if end >= 0 else len(buffer)) - start
        if length > LINE - 2 and not self._too_long:
            self._too_long = self._exceeds(length, complete=end >= 0)
        if end < 0:
            return self._wait_for_end(length)
        self._at = end + 2
        if self._too_long:
            self._too_long = False
            return self.commands.refuse(BAD_FORMAT)
        then = self._dispatch(buffer[start:end])
        if then is Flow.AGAIN:
            self._at = start
        return then

    def _exceeds(self, length: int, *, complete: bool) -> bool:
        limit = LONG_LINE if self._buffer.startswith(_LONG, self._at) else LINE
        # An incomplete line may yet turn out to end with its very last byte.
        return length > limit - 2 if complete else length >= limit

    def _wait_for_end(self, length: int) -> Then:
        if self._too_long and length > 1:
            # Of a line that will be refused only its last byte matters: it may be half its end.
            self._at = len(self._buffer) - 1
        return Flow.STOP

    def _dispatch(self, line: bytes) -> Then:
        word = line[: line.find(b" ") + 1] or line
        if word in _PUTS:
            return self._begin_put(line)
        verb = VERBS.get(word)
        if verb is None:
            return self._unknown(line)
        found = verb.match(line)
        if found is None:
            return self.commands.refuse(BAD_FORMAT)
        try:
            arguments = [
                convert(group)
                for convert, group in zip(verb.converters, found.groups(), strict=True)
            ]
        except BadFormatError:
            return self.commands.refuse(BAD_FORMAT)
        then: Then = getattr(self.commands, verb.method)(*arguments)
        return then

    def _unknown(self, line: bytes) -> Then:
        if is_malformed(line):
            return self.commands.refuse(BAD_FORMAT)
        if line.startswith(b"quit"):
            return self.commands.quit()
        return self.commands.refuse(UNKNOWN_COMMAND)

    def _begin_put(self, line: bytes) -> Then:
        found = PUT.fullmatch(line) or PUT_KEY.fullmatch(line)
        if found is None:
            return self.commands.refuse(BAD_FORMAT)
        *key, pri, delay, ttr, size = found.groups()
        try:
            put = Put(number(pri), number(delay), number(ttr), number(size), None)
        except BadFormatError:
            return self.commands.refuse(BAD_FORMAT)
        if key:
            put.key = key[0].decode("ascii")
        if put.size > self.max_job_size:
            self._skip = put.size + 2
        else:
            self._put = put
        return None

    def _skip_body(self) -> Then:
        skipped = min(self._skip, self.pending)
        self._at += skipped
        self._skip -= skipped
        return None if self._skip else self.commands.refuse_put(JOB_TOO_BIG)

    def _take_body(self, put: Put) -> Then:
        start, body = self._at, self._body
        end = start + put.size + 2 - (0 if body is None else len(body))
        if end > len(self._buffer):
            return self._wait_for_body(start)
        self._at = end
        if body is None:
            data, tail = self._buffer[start : end - 2], self._buffer[end - 2 : end]
        else:
            body += self._buffer[start:end]
            data, tail = bytes(body[:-2]), bytes(body[-2:])
        self._put = self._body = None
        if tail != _END:
            return self.commands.refuse_put(EXPECTED_CRLF)
        return self.commands.put(put, data)

    def _wait_for_body(self, start: int) -> Then:
        """Collect in a bytearray, so that a large body in many portions is not copied for each."""
        if self._body is None:
            self._body = bytearray()
        self._body += self._buffer[start:]
        self._at = len(self._buffer)
        return None
