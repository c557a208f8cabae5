"""The commands of the beanstalkd protocol: what to send, and what the reply means.

After protocol.txt of beanstalkd 1.13, and docs/protocol.md for `bind` and `unbind`. Nothing here
knows a network: a connection sends `wire` and hands the reply to `outcome`.
"""

from collections.abc import Callable
from math import ceil
from typing import Final, Generic, TypeVar

from attrs import frozen

from evserve.events.beanstalk.replies import Reply
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


@frozen
class Command(Generic[T]):
    """What to send, how to read the reply, and the seconds the server may wait before it."""

    wire: bytes
    outcome: Callable[[Reply], T]
    waits: int = 0


_REFUSALS: Final[dict[bytes, tuple[type[QueueError], str]]] = {
    b"BURIED": (QueueFull, "the server is out of memory and buried the event"),
    b"DRAINING": (QueueFull, "the server is draining and takes no events"),
    b"JOB_TOO_BIG": (BadEvent, "the body is larger than the server takes"),
    b"NOT_FOUND": (NotReserved, "the event is not reserved here any more"),
    b"OUT_OF_MEMORY": (QueueFull, "the server has no room"),
    b"UNKNOWN_COMMAND": (Unsupported, "the server does not know this command"),
    b"INTERNAL_ERROR": (QueueUnavailable, "the server failed within"),
}


def _expect(reply: Reply, word: bytes) -> Reply:
    """Return `reply` if it is the one hoped for; raises what it means otherwise."""
    if reply.word == word:
        return reply
    line = b" ".join((reply.word, *reply.arguments)).decode("ascii", "backslashreplace")
    kind, meaning = _REFUSALS.get(reply.word, (QueueError, "an unexpected reply"))
    raise kind(f"{meaning} ({line})")


def _done(word: bytes) -> Callable[[Reply], None]:
    def outcome(reply: Reply) -> None:
        _expect(reply, word)

    return outcome


def put(body: bytes, priority: int, delay: float, ttr: int) -> Command[str]:
    """Store a new event in the tube in use; its id."""
    head = f"put {priority} {ceil(delay)} {ttr} {len(body)}\r\n"
    return Command(head.encode() + body + b"\r\n", _inserted)


def _inserted(reply: Reply) -> str:
    return _expect(reply, b"INSERTED").arguments[0].decode()


def use(tube: str) -> Command[None]:
    """Make `tube` the one that `put` and `kick` mean."""
    return Command(f"use {tube}\r\n".encode(), _done(b"USING"))


def watch(tube: str) -> Command[None]:
    """Let `reserve` take from `tube` too."""
    return Command(f"watch {tube}\r\n".encode(), _done(b"WATCHING"))


def ignore(tube: str) -> Command[None]:
    """Let `reserve` take no more from `tube`."""
    return Command(f"ignore {tube}\r\n".encode(), _done(b"WATCHING"))


@frozen
class Taken:
    """A reserved job, of which the server says no more than this."""

    number: str
    body: bytes


def reserve(timeout: int) -> Command[Taken | None]:
    """Take the next job, waiting `timeout` seconds for one."""
    return Command(f"reserve-with-timeout {timeout}\r\n".encode(), _taken, timeout)


def _taken(reply: Reply) -> Taken | None:
    if reply.word in (b"TIMED_OUT", b"DEADLINE_SOON"):
        return None
    return Taken(_expect(reply, b"RESERVED").arguments[0].decode(), reply.body)


def describe(taken: Taken) -> Command[Event | None]:
    """Learn the rest about a job: an Event without a receipt, or None if the job is gone."""

    def outcome(reply: Reply) -> Event | None:
        if reply.word == b"NOT_FOUND":
            return None
        stats = _dictionary(_expect(reply, b"OK").body)
        return Event(
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

    return Command(f"stats-job {taken.number}\r\n".encode(), outcome)


def delete(event: Event) -> Command[None]:
    """Remove a job."""
    return Command(f"delete {event.id}\r\n".encode(), _done(b"DELETED"))


def release(event: Event, delay: float) -> Command[None]:
    """Give a job back, to be ready after `delay` seconds, rounded up."""
    wire = f"release {event.id} {event.priority} {ceil(delay)}\r\n"
    return Command(wire.encode(), _done(b"RELEASED"))


def bury(event: Event) -> Command[None]:
    """Set a job aside."""
    return Command(f"bury {event.id} {event.priority}\r\n".encode(), _done(b"BURIED"))


def touch(event: Event) -> Command[None]:
    """Begin a job's time to run again."""
    return Command(f"touch {event.id}\r\n".encode(), _done(b"TOUCHED"))


def kick(limit: int) -> Command[int]:
    """Make up to `limit` jobs of the tube in use ready; how many it were."""
    return Command(f"kick {limit}\r\n".encode(), _kicked)


def _kicked(reply: Reply) -> int:
    return int(_expect(reply, b"KICKED").arguments[0])


def depth(tube: str) -> Command[Depth]:
    """Count the jobs of `tube`."""
    return Command(f"stats-tube {tube}\r\n".encode(), _depth)


def _depth(reply: Reply) -> Depth:
    if reply.word == b"NOT_FOUND":
        return Depth()
    stats = _dictionary(_expect(reply, b"OK").body)
    states = ("ready", "reserved", "delayed", "buried")
    return Depth(**{state: int(stats[f"current-jobs-{state}"]) for state in states})


def tubes() -> Command[list[str]]:
    """List the tubes that exist."""
    return Command(b"list-tubes\r\n", _tubes)


def _tubes(reply: Reply) -> list[str]:
    lines = _expect(reply, b"OK").body.decode().splitlines()
    return [line[2:].strip('"') for line in lines if line.startswith("- ")]


def bind(source: str, target: str) -> Command[None]:
    """Copy what is put into `source` to `target` from now on."""
    return Command(f"bind {source} {target}\r\n".encode(), _done(b"BOUND"))


def unbind(source: str, target: str) -> Command[None]:
    """Copy no more; a binding that is not there is as good as ended."""
    return Command(f"unbind {source} {target}\r\n".encode(), _unbound)


def _unbound(reply: Reply) -> None:
    if reply.word != b"NOT_FOUND":
        _expect(reply, b"UNBOUND")


def _dictionary(yaml: bytes) -> dict[str, str]:
    """Read the YAML of the stats commands: flat, and quoted at most with double quotes."""
    pairs = (line.split(": ", 1) for line in yaml.decode().splitlines() if ": " in line)
    return {key: value.strip('"') for key, value in pairs}
