"""The grammar of command lines, as a literal table: every verb and what follows it.

This is beanstalkd's protocol (doc/protocol.txt of beanstalkd 1.13) with the verbs of
docs/protocol.md added. What old clients can send is answered as beanstalkd answers it, which for
malformed lines means: a verb without its argument is unknown, a verb that is there but wrong in
any other way is badly formed.
"""

import re
from collections.abc import Callable
from typing import Final

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
