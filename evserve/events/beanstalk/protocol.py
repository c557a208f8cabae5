"""The beanstalkd protocol as a client sees it: bytes only, no network.

After protocol.txt of beanstalkd 1.13, and docs/protocol.md for the verbs that evserve adds: their
outcomes raise Unsupported if the server is beanstalkd. A connection sends the `wire` of a Command
and passes the reply to its `outcome`. Here the protocol's words are used: a job is an event, a
tube is a type.
"""

import json
from base64 import b64decode
from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Any, Final, Generic, TypeVar

from attrs import define, field, frozen

from evserve.events.errors import (
    BadEvent,
    NotReserved,
    QueueError,
    QueueFull,
    QueueUnavailable,
    Unsupported,
)
from evserve.events.event import Event, Handled, State, Stored
from evserve.events.event_queue import Depth


T = TypeVar("T")

_WITH_BODY: Final = {b"RESERVED": 3, b"FOUND": 3, b"OK": 2}
"""The replies that have a body, and the number of words in their line; the last is its size.

In a batch the line of RESERVED has one more word: the tube.
"""

_MAX_LINE: Final = 512
"""Longer than the line of any reply: a tube's name has at most 200 bytes."""


_TRUNCATION: Final = 600
"""Seconds that the server may take to truncate a tube: about ten for a million jobs."""


_MAX_SECONDS: Final = 2**31 - 1
"""The longest time for which a server keeps a job in the history."""


class Misunderstood(QueueError):  # noqa: N818 - it says what happened, as QueueError's kinds do
    """The server did not understand what was sent.

    It may have taken a body for commands, so that no later reply can be trusted.
    """


class MalformedReply(Exception):  # noqa: N818 - it says what happened, as Twisted's errors do
    """The bytes are not the beanstalkd protocol; the connection is no longer usable."""


@frozen
class Reply:
    """One reply: the first word of its line, the other words, and the body if it has one.

    parts: the replies that a RESERVED_BATCH consists of.
    """

    word: bytes
    arguments: tuple[bytes, ...] = ()
    body: bytes = b""
    parts: tuple["Reply", ...] = ()


@define(eq=False)
class ReplyParser:
    """Turns bytes, cut anywhere, into replies."""

    _buffer: bytearray = field(init=False, factory=bytearray)
    _batch: list[Reply] = field(init=False, factory=list)
    _missing: int = field(init=False, default=0)

    def feed(self, data: bytes) -> list[Reply]:
        """Return the replies that `data` completes, in order; raises MalformedReply."""
        buffer = self._buffer
        buffer += data
        replies: list[Reply] = []
        start = 0
        while (end := self._line_end(start)) >= 0:
            words = bytes(buffer[start:end]).split(b" ")
            size = _body_size(words, in_batch=self._missing > 0)
            if size is None:
                self._add(Reply(words[0], tuple(words[1:])), replies)
                start = end + 2
                continue
            body_end = end + 2 + size
            if len(buffer) < body_end + 2:
                break
            if buffer[body_end : body_end + 2] != b"\r\n":
                raise MalformedReply(f"no line end after a body of {size} bytes")
            body = bytes(buffer[end + 2 : body_end])
            self._add(Reply(words[0], tuple(words[1:-1]), body), replies)
            start = body_end + 2
        del buffer[:start]
        return replies

    def _add(self, reply: Reply, replies: list[Reply]) -> None:
        """Add `reply` to `replies`, or to the batch that it belongs to."""
        if self._missing:
            if reply.word != b"RESERVED":
                raise MalformedReply(f"{reply.word!r} in a batch of events")
            self._batch.append(reply)
            self._missing -= 1
            if not self._missing:
                replies.append(Reply(b"RESERVED_BATCH", parts=tuple(self._batch)))
                self._batch = []
        elif reply.word == b"RESERVED_BATCH":
            self._missing = int(reply.arguments[0])
        else:
            replies.append(reply)

    def _line_end(self, start: int) -> int:
        end = self._buffer.find(b"\r\n", start, start + _MAX_LINE)
        if end < 0 and len(self._buffer) - start >= _MAX_LINE:
            raise MalformedReply(f"a line of more than {_MAX_LINE} bytes")
        return end


def _body_size(words: list[bytes], *, in_batch: bool) -> int | None:
    count = _WITH_BODY.get(words[0])
    if count is None:
        return None
    if in_batch and len(words) == count + 1:
        del words[-1]  # the tube, which stats-job tells as well
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


def put_key(key: str, body: bytes, priority: int, delay: float, ttr: int) -> Command[str]:
    """Store a job unless the tube in use has one with that key; the result is the id of either.

    Never to be sent to a server that may not know it, which would take the body for commands.
    """
    head = b"put-key %b %d %d %d %d\r\n" % (key.encode(), priority, ceil(delay), ttr, len(body))

    def outcome(reply: Reply) -> str:
        word = b"EXISTS" if reply.word == b"EXISTS" else b"INSERTED"
        return _expect(reply, word).arguments[0].decode()

    return Command(head + body + b"\r\n", outcome)


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
    """A job that was reserved or peeked at: all that such a reply tells about it."""

    number: str
    body: bytes


def reserve(timeout: int) -> Command[Taken | None]:
    """Reserve the next job, waiting up to `timeout` seconds for one."""
    return Command(f"reserve-with-timeout {timeout}\r\n".encode(), _taken, timeout)


def _taken(reply: Reply) -> Taken | None:
    if reply.word in (b"TIMED_OUT", b"DEADLINE_SOON"):
        return None
    return _job(_expect(reply, b"RESERVED"))


def _job(reply: Reply) -> Taken:
    return Taken(reply.arguments[0].decode(), reply.body)


def reserve_batch(limit: int, timeout: int) -> Command[list[Taken]]:
    """Reserve up to `limit` jobs that are ready when the first one is."""

    def outcome(reply: Reply) -> list[Taken]:
        if reply.word in (b"TIMED_OUT", b"DEADLINE_SOON"):
            return []
        if reply.word == b"BAD_FORMAT":  # of beanstalkd, for a line that begins with "reserve"
            raise Unsupported("the server does not know reserve-batch (BAD_FORMAT)")
        batch = _expect(_supported(reply, "reserve-batch"), b"RESERVED_BATCH")
        return [_job(each) for each in batch.parts]

    return Command(b"reserve-batch %d %d\r\n" % (limit, timeout), outcome, timeout)


def reserve_job(number: int) -> Command[Taken | None]:
    """Reserve one job by its id; None if there is none, or it is reserved."""
    return Command(b"reserve-job %d\r\n" % number, partial(_job_or_none, b"RESERVED"))


def peek_job(number: int) -> Command[Taken | None]:
    """Show a job; None if there is none."""
    return Command(b"peek %d\r\n" % number, partial(_job_or_none, b"FOUND"))


def peek(state: State) -> Command[Taken | None]:
    """Show the next job of the tube in use in READY, DELAYED or BURIED; None if there is none."""
    line = f"peek-{state.name.lower()}\r\n".encode()
    return Command(line, partial(_job_or_none, b"FOUND"))


def _job_or_none(word: bytes, reply: Reply) -> Taken | None:
    if reply.word == b"NOT_FOUND":
        return None
    return _job(_expect(_supported(reply, "reserve-job"), word))


def stats_job(taken: Taken) -> Command[Stored | None]:
    """Ask for the rest about a job; None if it is gone."""

    def outcome(reply: Reply) -> Stored | None:
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
        state = State[stats["state"].upper()]
        return Stored(event, state, int(stats["age"]), max(0, int(stats["time-left"])))

    return Command(f"stats-job {taken.number}\r\n".encode(), outcome)


def delete(event: Event) -> Command[None]:
    """Remove a job."""
    return _command(f"delete {event.id}", b"DELETED")


def delete_job(number: int) -> Command[bool]:
    """Remove a job; False if there is none, or another connection has reserved it."""

    def outcome(reply: Reply) -> bool:
        return reply.word != b"NOT_FOUND" and bool(_expect(reply, b"DELETED"))

    return Command(b"delete %d\r\n" % number, outcome)


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


def truncate(tube: str) -> Command[int]:
    """Remove the jobs of `tube` that are not reserved; the result is how many there were."""

    def outcome(reply: Reply) -> int:
        if reply.word == b"NOT_FOUND":
            return 0
        return int(_expect(_supported(reply, "truncate"), b"TRUNCATED").arguments[0])

    return Command(f"truncate {tube}\r\n".encode(), outcome, _TRUNCATION)


def pause_tube(tube: str, seconds: int) -> Command[None]:
    """Reserve nothing from `tube`, which must exist, for `seconds`."""
    return _command(f"pause-tube {tube} {seconds}", b"PAUSED")


def drain(*, on: bool) -> Command[None]:
    """Have the server refuse every put, or accept them again."""

    def outcome(reply: Reply) -> None:
        _expect(_supported(reply, "drain"), b"DRAIN")

    return Command(b"drain on\r\n" if on else b"drain off\r\n", outcome)


def stats_tube(tube: str) -> Command[Depth]:
    """Count the jobs of `tube`."""
    return Command(f"stats-tube {tube}\r\n".encode(), _depth)


def _depth(reply: Reply) -> Depth:
    if reply.word == b"NOT_FOUND":
        return Depth()
    stats = _dictionary(_expect(reply, b"OK").body)
    states = ("ready", "reserved", "delayed", "buried")
    counts = {state: int(stats[f"current-jobs-{state}"]) for state in states}
    return Depth(**counts, paused=max(0, int(stats["pause-time-left"])))


def list_tubes() -> Command[list[str]]:
    """List the tubes that exist."""
    return Command(b"list-tubes\r\n", _list)


def _list(reply: Reply) -> list[str]:
    lines = _expect(reply, b"OK").body.decode().splitlines()
    return [line[2:].strip('"') for line in lines if line.startswith("- ")]


def bind(source: str, target: str) -> Command[None]:
    """From now on, copy each job put into `source` to `target`."""
    return Command(f"bind {source} {target}\r\n".encode(), _bound)


def _bound(reply: Reply) -> None:
    _expect(_supported(reply, "bind"), b"BOUND")


def unbind(source: str, target: str) -> Command[None]:
    """End a binding; it is no error if there is none."""
    return Command(f"unbind {source} {target}\r\n".encode(), _unbound)


def _unbound(reply: Reply) -> None:
    if reply.word != b"NOT_FOUND":
        _expect(_supported(reply, "unbind"), b"UNBOUND")


def list_bindings() -> Command[list[tuple[str, str]]]:
    """List the bindings, as pairs of source and target."""
    return Command(b"list-bindings\r\n", _pairs)


def _pairs(reply: Reply) -> list[tuple[str, str]]:
    lines = _list(_supported(reply, "list-bindings"))
    return [(source, target) for source, target in (line.split(" ") for line in lines)]


def position(sequence: str) -> Command[int | None]:
    """Ask for the number that `sequence` has reached."""

    def outcome(reply: Reply) -> int | None:
        if reply.word == b"NOT_FOUND":
            return None
        return int(_expect(_supported(reply, "position"), b"POSITION").arguments[0])

    return Command(f"position {sequence}\r\n".encode(), outcome)


def advance(sequence: str, number: int) -> Command[bool]:
    """Move `sequence` forward; False if it has reached `number` before."""
    return Command(f"advance {sequence} {number}\r\n".encode(), _advanced)


def advance_put(
    sequence: str, number: int, tube: str, body: bytes, *, priority: int, ttr: int
) -> Command[bool]:
    """Move `sequence` forward and put a job into `tube`; never to be sent to beanstalkd."""
    head = f"advance-put {sequence} {number} {tube} {priority} {ttr} {len(body)}\r\n"
    return Command(head.encode() + body + b"\r\n", _advanced)


def _advanced(reply: Reply) -> bool:
    if reply.word == b"NOT_ADVANCED":
        return False
    return bool(_expect(_supported(reply, "advance"), b"ADVANCED"))


def delete_keep(event: Event, *, seconds: float, result: bytes) -> Command[None]:
    """Remove a job and keep it in the history; never to be sent to beanstalkd."""
    head = f"delete-keep {event.id} {_whole(seconds)} {len(result)}\r\n"
    return _command_with_body(head, result, b"DELETED")


def bury_keep(event: Event, *, seconds: float, reason: str) -> Command[None]:
    """Set a job aside and keep a copy in the history; never to be sent to beanstalkd."""
    data = reason.encode()
    head = f"bury-keep {event.id} {event.priority} {_whole(seconds)} {len(data)}\r\n"
    return _command_with_body(head, data, b"BURIED")


def _whole(seconds: float) -> int:
    return min(ceil(seconds), _MAX_SECONDS)


def _command_with_body(head: str, body: bytes, word: bytes) -> Command[None]:
    def outcome(reply: Reply) -> None:
        _expect(reply, word)

    return Command(head.encode() + body + b"\r\n", outcome)


def history(tube: str | None, limit: int) -> Command[list[Handled]]:
    """List what was kept of `tube`, or of all, the last settled first."""
    line = f"history {limit}\r\n" if tube is None else f"history-tube {tube} {limit}\r\n"
    return Command(line.encode(), _history)


def _history(reply: Reply) -> list[Handled]:
    body = _expect(_supported(reply, "history"), b"OK").body
    return [_handled(json.loads(line)) for line in body.splitlines()]


def _handled(row: dict[str, Any]) -> Handled:
    event = Event(
        id=str(row["id"]),
        type=row["tube"],
        body=b64decode(row["body"]),
        priority=row["pri"],
        delay=row["delay"],
        ttr=row["ttr"],
        attempts=row["reserves"],
        timeouts=row["timeouts"],
        releases=row["releases"],
        buries=row["buries"],
        kicks=row["kicks"],
    )
    times = (row["created"], row["reserved_at"], row["settled_at"])
    return Handled(event, row["outcome"], b64decode(row["result"]), row["error"], *times)


def probe() -> Command[bool]:
    """Ask whether the server has the verbs that evserve adds, by one that changes nothing."""
    return Command(
        b"list-bindings\r\n",
        lambda reply: reply.word != b"UNKNOWN_COMMAND" and bool(_expect(reply, b"OK")),
    )


def _supported(reply: Reply, verb: str) -> Reply:
    """Return the reply to a command that beanstalkd may lack; raises Unsupported."""
    if reply.word == b"UNKNOWN_COMMAND":
        raise Unsupported(f"the server does not know {verb} (UNKNOWN_COMMAND)")
    return reply


def _dictionary(yaml: bytes) -> dict[str, str]:
    """Read the YAML of the stats commands: a flat mapping, its values perhaps in double quotes."""
    pairs = (line.split(": ", 1) for line in yaml.decode().splitlines() if ": " in line)
    return {key: value.strip('"') for key, value in pairs}
