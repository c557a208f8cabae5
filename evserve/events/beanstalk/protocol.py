"""The beanstalkd protocol as a client sees it: bytes only, no network.

After protocol.txt of beanstalkd 1.13, and docs/protocol.md for `bind` and `unbind`. A connection
sends the `wire` of a Command and passes the reply to its `outcome`. Here the protocol's words are
used: a job is an event, a tube is a type.
"""

from collections.abc import Callable
from math import ceil
from typing import Final, Generic, TypeVar

from attrs import define, field, frozen

from evserve.events.errors import (
    BadEvent,
    NotReserved,
    QueueError,
    QueueFull,
    QueueUnavailable,
    Unsupported,
)
from evserve.events.event import Event
from evserve.events.event_queue import Depth


T = TypeVar("T")

_WITH_BODY: Final = {b"RESERVED": 3, b"FOUND": 3, b"OK": 2}
"""The replies that have a body, and the number of words in their line; the last is its size."""

_MAX_LINE: Final = 512
"""Longer than the line of any reply: a tube's name has at most 200 bytes."""


class Misunderstood(QueueError):  # noqa: N818 - it says what happened, as QueueError's kinds do
    """The server did not understand what was sent.

    It may have taken a body for commands, so that no later reply can be trusted.
    """


class MalformedReply(Exception):  # noqa: N818 - it says what happened, as Twisted's errors do
    """The bytes are not the beanstalkd protocol; the connection is no longer usable."""


@frozen
class Reply:
    """One reply: the first word of its line, the other words, and the body if it has one."""

    word: bytes
    arguments: tuple[bytes, ...] = ()
    body: bytes = b""


@define(eq=False)
class ReplyParser:
    """Turns bytes, cut anywhere, into replies."""

    _buffer: bytearray = field(init=False, factory=bytearray)

    def feed(self, data: bytes) -> list[Reply]:
        """Return the replies that `data` completes, in order; raises MalformedReply."""
        buffer = self._buffer
        buffer += data
        replies: list[Reply] = []
        start = 0
        while (end := self._line_end(start)) >= 0:
            words = bytes(buffer[start:end]).split(b" ")
            size = _body_size(words)
            if size is None:
                replies.append(Reply(words[0], tuple(words[1:])))
                start = end + 2
                continue
            body_end = end + 2 + size
            if len(buffer) < body_end + 2:
                break
            if buffer[body_end : body_end + 2] != b"\r\n":
                raise MalformedReply(f"no line end after a body of {size} bytes")
            replies.append(Reply(words[0], tuple(words[1:-1]), bytes(buffer[end + 2 : body_end])))
            start = body_end + 2
        del buffer[:start]
        return replies

    def _line_end(self, start: int) -> int:
        end = self._buffer.find(b"\r\n", start, start + _MAX_LINE)
        if end < 0 and len(self._buffer) - start >= _MAX_LINE:
            raise MalformedReply(f"a line of more than {_MAX_LINE} bytes")
        return end


def _body_size(words: list[bytes]) -> int | None:
    count = _WITH_BODY.get(words[0])
    if count is None:
        return None
    if len(words) != count or not words[-1].isdigit():
        raise MalformedReply(f"{b' '.join(words)!r} does not say how long its body is")
    return int(words[-1])


@frozen
class Command(Generic[T]):
    """What to send, and how to read the reply.

    outcome: turns the reply into a result, or raises what it means.  waits: seconds that the
    server may wait before it replies.
    """

    wire: bytes
    outcome: Callable[[Reply], T]
    waits: int = 0


_REFUSALS: Final[dict[bytes, tuple[type[QueueError], str]]] = {
    b"BAD_FORMAT": (Misunderstood, "the server did not understand a command"),
    b"BURIED": (QueueFull, "the server is out of memory and buried the event"),
    b"DRAINING": (QueueFull, "the server is draining and accepts no events"),
    b"EXPECTED_CRLF": (Misunderstood, "the server did not find the end of the body"),
    b"JOB_TOO_BIG": (BadEvent, "the body is larger than the server accepts"),
    b"NOT_FOUND": (NotReserved, "the event is not reserved here any more"),
    b"OUT_OF_MEMORY": (QueueFull, "the server has no room left"),
    b"UNKNOWN_COMMAND": (Misunderstood, "the server does not know a command"),
    b"INTERNAL_ERROR": (QueueUnavailable, "the server had an internal error"),
}


def _expect(reply: Reply, word: bytes) -> Reply:
    """Return `reply` if it begins with `word`; raises the QueueError that it means otherwise."""
    if reply.word == word:
        return reply
    line = ascii(b" ".join((reply.word, *reply.arguments)).decode("latin-1"))[1:-1]
    kind, meaning = _REFUSALS.get(reply.word, (QueueError, "an unexpected reply"))
    raise kind(f"{meaning} ({line})")


def _command(line: str, word: bytes) -> Command[None]:
    """Return a command without a result, whose only successful reply is `word`."""

    def outcome(reply: Reply) -> None:
        _expect(reply, word)

    return Command(f"{line}\r\n".encode(), outcome)


def put(body: bytes, priority: int, delay: float, ttr: int) -> Command[str]:
    """Store a new job in the tube in use; the result is its id."""
    head = b"put %d %d %d %d\r\n" % (priority, ceil(delay), ttr, len(body))
    return Command(
        head + body + b"\r\n",
        lambda reply: _expect(reply, b"INSERTED").arguments[0].decode(),
    )


def use(tube: str) -> Command[None]:
    """Make `tube` the one for the next `put` and `kick`."""
    return _command(f"use {tube}", b"USING")


def watch(tube: str) -> Command[None]:
    """Let `reserve` take from `tube` too."""
    return _command(f"watch {tube}", b"WATCHING")


def ignore(tube: str) -> Command[None]:
    """Let `reserve` no longer take from `tube`."""
    return _command(f"ignore {tube}", b"WATCHING")


@frozen
class Taken:
    """A reserved job: all that the reply to `reserve` tells about it."""

    number: str
    body: bytes


def reserve(timeout: int) -> Command[Taken | None]:
    """Reserve the next job, waiting up to `timeout` seconds for one."""
    return Command(f"reserve-with-timeout {timeout}\r\n".encode(), _taken, timeout)


def _taken(reply: Reply) -> Taken | None:
    if reply.word in (b"TIMED_OUT", b"DEADLINE_SOON"):
        return None
    return Taken(_expect(reply, b"RESERVED").arguments[0].decode(), reply.body)


def stats_job(taken: Taken) -> Command[tuple[Event, int] | None]:
    """Ask for the rest about a job: an Event without a receipt, and the seconds of its TTR left.

    The result is None if the job is gone.
    """

    def outcome(reply: Reply) -> tuple[Event, int] | None:
        if reply.word == b"NOT_FOUND":
            return None
        stats = _dictionary(_expect(reply, b"OK").body)
        event = Event(
            id=taken.number,
            type=stats["tube"],
            body=taken.body,
            priority=int(stats["pri"]),
            delay=int(stats["delay"]),
            ttr=int(stats["ttr"]),
            attempts=int(stats["reserves"]),
            timeouts=int(stats["timeouts"]),
            releases=int(stats["releases"]),
            buries=int(stats["buries"]),
            kicks=int(stats["kicks"]),
        )
        return event, int(stats.get("time-left", stats["ttr"]))

    return Command(f"stats-job {taken.number}\r\n".encode(), outcome)


def delete(event: Event) -> Command[None]:
    """Remove a job."""
    return _command(f"delete {event.id}", b"DELETED")


def release(event: Event, delay: float) -> Command[None]:
    """Give a job back, to be ready after `delay` seconds, rounded up."""
    return _command(f"release {event.id} {event.priority} {ceil(delay)}", b"RELEASED")


def bury(event: Event) -> Command[None]:
    """Set a job aside."""
    return _command(f"bury {event.id} {event.priority}", b"BURIED")


def touch(event: Event) -> Command[None]:
    """Restart a job's TTR."""
    return _command(f"touch {event.id}", b"TOUCHED")


def kick(limit: int) -> Command[int]:
    """Make up to `limit` jobs of the tube in use ready; the result is how many there were."""
    return Command(
        b"kick %d\r\n" % limit, lambda reply: int(_expect(reply, b"KICKED").arguments[0])
    )


def stats_tube(tube: str) -> Command[Depth]:
    """Count the jobs of `tube`."""
    return Command(f"stats-tube {tube}\r\n".encode(), _depth)


def _depth(reply: Reply) -> Depth:
    if reply.word == b"NOT_FOUND":
        return Depth()
    stats = _dictionary(_expect(reply, b"OK").body)
    states = ("ready", "reserved", "delayed", "buried")
    return Depth(**{state: int(stats[f"current-jobs-{state}"]) for state in states})


def list_tubes() -> Command[list[str]]:
    """List the tubes that exist."""
    return Command(b"list-tubes\r\n", _tubes)


def _tubes(reply: Reply) -> list[str]:
    lines = _expect(reply, b"OK").body.decode().splitlines()
    return [line[2:].strip('"') for line in lines if line.startswith("- ")]


def bind(source: str, target: str) -> Command[None]:
    """From now on, copy each job put into `source` to `target`."""
    return Command(f"bind {source} {target}\r\n".encode(), _bound)


def _bound(reply: Reply) -> None:
    _expect(_supported(reply), b"BOUND")


def unbind(source: str, target: str) -> Command[None]:
    """End a binding; it is no error if there is none."""
    return Command(f"unbind {source} {target}\r\n".encode(), _unbound)


def _unbound(reply: Reply) -> None:
    if reply.word != b"NOT_FOUND":
        _expect(_supported(reply), b"UNBOUND")


def _supported(reply: Reply) -> Reply:
    """Return the reply to a command that beanstalkd lacks; raises Unsupported."""
    if reply.word == b"UNKNOWN_COMMAND":
        raise Unsupported("the server has no bindings (UNKNOWN_COMMAND)")
    return reply


def _dictionary(yaml: bytes) -> dict[str, str]:
    """Read the YAML of the stats commands: a flat mapping, its values perhaps in double quotes."""
    pairs = (line.split(": ", 1) for line in yaml.decode().splitlines() if ": " in line)
    return {key: value.strip('"') for key, value in pairs}
