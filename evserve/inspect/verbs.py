"""The verbs of `events`, but for `move`: each asks the queue and shows what it found or did.

A verb returns why it failed, in one line, or None. It raises QueueError for what the queue says.
"""

import difflib
from collections.abc import Awaitable, Callable, Iterable
from time import time
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

from evserve.events import (
    DEFAULT_PRIORITY,
    DEFAULT_TTR,
    MAX_MANY,
    MAX_NUMBER,
    Capability,
    EventQueue,
    Handled,
    State,
    Stored,
    Unsupported,
)
from evserve.inspect.options import Options
from evserve.inspect.output import (
    Column,
    Output,
    Record,
    body_text,
    data_fields,
    duration,
    number_column,
)


Verb = Callable[[EventQueue, Options, Output], Awaitable[str | None]]
A = TypeVar("A")
T = TypeVar("T")

_AT_ONCE: Final = 100
"""Calls to the queue that wait for an answer at once."""

_CELL: Final = 200
"""Characters of a result or an error in a table; JSON has all."""

_DEFAULT_LIMIT: Final = 100
_SHOWN: Final = (State.READY, State.DELAYED, State.BURIED)


async def list_types(queue: EventQueue, options: Options, output: Output) -> str | None:
    """Count the events of each type, or show the history."""
    if options["done"]:
        return await _list_done(queue, options, output)
    existing = sorted(await queue.types())
    for name in options["words"]:
        if name not in existing:
            return _no_such_type(name, existing)
    records = await in_parallel(lambda name: _counted(queue, name), options["words"] or existing)
    keys = ("ready", "reserved", "delayed", "buried")
    if not options["words"]:  # a server lists what a client waits for, too
        records = [each for each in records if each["paused"] or any(each[key] for key in keys)]
    total = {"type": "total", "age": None, "paused": 0}
    total |= {key: sum(each[key] for each in records) for key in keys}
    columns = [
        Column("type", lambda record: str(record["type"])),
        *(number_column(key) for key in keys),
        Column("next waits", lambda record: duration(record["age"]), right=True),
        Column("paused for", lambda record: duration(record["paused"] or None), right=True),
    ]
    output.rows(records, columns, total)
    return None


async def _counted(queue: EventQueue, name: str) -> Record:
    depth = await queue.depth(name)
    following = await queue.peek(name) if depth.ready else None
    return {
        "type": name,
        "ready": depth.ready,
        "reserved": depth.reserved,
        "delayed": depth.delayed,
        "buried": depth.buried,
        "age": None if following is None else round(following.age, 3),
        "paused": round(depth.paused, 3),
    }


async def _list_done(queue: EventQueue, options: Options, output: Output) -> str | None:
    wanted = options["words"][0] if options["words"] else None
    handled = await queue.history(wanted, options["limit"] or _DEFAULT_LIMIT)
    now = time()
    columns = [
        Column("id", lambda record: str(record["id"])),
        Column("type", lambda record: str(record["type"])),
        Column("outcome", lambda record: str(record["outcome"])),
        Column("attempts", lambda record: str(record["attempts"]), right=True),
        Column("ago", lambda record: duration(max(0, now - record["settled_at"])), right=True),
        Column("waited", lambda record: duration(record["waited"]), right=True),
        Column("took", lambda record: duration(record["took"]), right=True),
        Column("result or error", _result_text),
    ]
    output.rows([_handled_record(each) for each in handled], columns)
    return None


def _handled_record(handled: Handled) -> Record:
    return {
        "id": handled.event.id,
        "type": handled.event.type,
        "outcome": handled.outcome,
        "attempts": handled.event.attempts,
        "put_at": round(handled.put_at, 3),
        "reserved_at": round(handled.reserved_at, 3),
        "settled_at": round(handled.settled_at, 3),
        "waited": round(max(0, handled.reserved_at - handled.put_at), 3),
        "took": round(max(0, handled.settled_at - handled.reserved_at), 3),
        "error": handled.error,
        **data_fields("result", handled.result),
    }


def _result_text(record: Record) -> str:
    text = str(record["error"] or record.get("result", record.get("result_base64")))
    return text if len(text) <= _CELL else f"{text[:_CELL]}..."


async def peek(queue: EventQueue, options: Options, output: Output) -> str | None:
    """Show one event."""
    if options["id"]:
        stored, wanted = await queue.find(options["id"]), f"event {options['id']}"
    else:
        [name], state = options["words"], options["state"] or "ready"
        if unknown := await _unknown_type(queue, name):
            return unknown
        stored, wanted = await queue.peek(name, State[state.upper()]), f"{state} event of {name}"
    if stored is None:
        return f"there is no {wanted}"
    if options["raw"]:
        output.raw(stored.event.body)
        return None
    record = _stored_record(stored)
    if output.json:
        output.record(record | data_fields("body", stored.event.body), "")
        return None
    width = max(map(len, record))
    for key, value in record.items():
        output.line(f"{key:<{width}}  {value}")
    output.text(f"\n{body_text(stored.event.body)}\n")
    return None


def _stored_record(stored: Stored) -> Record:
    event = stored.event
    return {
        "id": event.id,
        "type": event.type,
        "state": stored.state.name.lower(),
        "age": round(stored.age, 3),
        "left": round(stored.left, 3),
        "priority": event.priority,
        "delay": event.delay,
        "ttr": event.ttr,
        "attempts": event.attempts,
        "timeouts": event.timeouts,
        "releases": event.releases,
        "buries": event.buries,
        "kicks": event.kicks,
        "bytes": len(event.body),
    }


async def kick(queue: EventQueue, options: Options, output: Output) -> str | None:
    """Make buried events ready, or delayed ones if none is buried."""
    name, *number = options["words"]
    limit = MAX_NUMBER if options["all"] else (number or [1])[0]
    if unknown := await _unknown_type(queue, name):
        return unknown
    state = "buried" if (await queue.depth(name)).buried else "delayed"
    kicked = await queue.kick(name, limit)
    output.record(
        {"type": name, "kicked": kicked, "state": state},
        f"{name}: {counted(kicked, f'{state} event')} made ready"
        if kicked
        else f"{name}: no event is buried or delayed",
    )
    return None


async def delete(queue: EventQueue, options: Options, output: Output) -> str | None:
    """Remove events by id, or all of a type."""
    if options["type"]:
        return await _delete_type(queue, options["type"], output)
    missing = []
    for event_id in options["words"]:
        deleted = await queue.delete(event_id)
        missing += [] if deleted else [event_id]
        text = "deleted" if deleted else "there is no such event, or a consumer has reserved it"
        output.record({"id": event_id, "deleted": deleted}, f"event {event_id}: {text}")
    return f"{counted(len(missing), 'event')} could not be deleted" if missing else None


async def _delete_type(queue: EventQueue, name: str, output: Output) -> str | None:
    if unknown := await _unknown_type(queue, name):
        return unknown
    try:
        deleted = await queue.truncate(name)
    except Unsupported:  # a server that has no verb for it
        deleted = await _delete_each(queue, name)
    output.record(
        {"type": name, "deleted": deleted}, f"{name}: {counted(deleted, 'event')} deleted"
    )
    return None


async def _delete_each(queue: EventQueue, name: str) -> int:
    deleted = 0
    for state in _SHOWN:
        while (stored := await queue.peek(name, state)) is not None:
            deleted += await queue.delete(stored.event.id)
    return deleted


async def replay(queue: EventQueue, options: Options, output: Output) -> str | None:
    """Put events of the history again. One that is still buried is replaced by the new one.

    The history of a type is its last MAX_MANY events at most, the last settled first.
    """
    if options["type"]:
        found = await queue.history(options["type"], MAX_MANY)
        wanted = [each for each in found if each.outcome == "buried" or not options["failed"]]
        wanted = wanted[: options["limit"]]
    else:
        by_id: dict[str, Handled] = {}
        for each in await queue.history(None, MAX_MANY):
            by_id.setdefault(each.event.id, each)
        for event_id in options["words"]:
            if event_id not in by_id:
                return f"event {event_id}: not among the last {MAX_MANY:,} of the history"
        wanted = [by_id[event_id] for event_id in dict.fromkeys(options["words"])]
    done = set[str]()
    for each in reversed(wanted):  # in the order in which they were handled
        if each.event.id not in done:  # buried more than once
            done.add(each.event.id)
            await _replay(queue, each, output)
    if not wanted:
        output.record({"replayed": 0}, "nothing to replay")
    return None


async def _replay(queue: EventQueue, handled: Handled, output: Output) -> None:
    event = handled.event
    stored = await queue.find(event.id)
    if stored is not None and stored.state is not State.BURIED:
        text = f"event {event.id} ({event.type}): in the queue, {stored.state.name.lower()}"
        output.record({"id": event.id, "type": event.type, "replayed_as": None}, text)
        return
    new = await queue.put(event.type, event.body, priority=event.priority, ttr=event.ttr)
    if stored is not None:
        await queue.delete(event.id)
    text = f"event {event.id} ({event.type}): put again as event {new}"
    output.record({"id": event.id, "type": event.type, "replayed_as": new}, text)


async def pause(queue: EventQueue, options: Options, output: Output) -> str | None:
    """Let nothing be reserved from a type for a time."""
    name, seconds = options["words"]
    if refusal := _not_shared(queue, "a pause"):
        return refusal
    await queue.pause(name, seconds)
    output.record({"type": name, "paused": seconds}, f"{name}: paused for {seconds:,} seconds")
    return None


async def resume(queue: EventQueue, options: Options, output: Output) -> str | None:
    """End a pause."""
    [name] = options["words"]
    if refusal := _not_shared(queue, "a pause"):
        return refusal
    await queue.pause(name, 0)
    output.record({"type": name, "paused": 0}, f"{name}: not paused")
    return None


async def drain(queue: EventQueue, options: Options, output: Output) -> str | None:
    """Refuse every put, or accept them again."""
    if refusal := _not_shared(queue, "a drain"):
        return refusal
    draining = not options["off"]
    await queue.drain(on=draining)
    text = "the queue refuses puts now" if draining else "the queue accepts puts"
    output.record({"draining": draining}, text)
    return None


def _not_shared(queue: EventQueue, what: str) -> str | None:
    if Capability.SHARED in queue.capabilities:
        return None
    return f"only one process at a time has this queue open, so {what} would end with this command"


async def put(queue: EventQueue, options: Options, output: Output) -> str | None:
    """Put one event."""
    name, body = options["words"]
    given: dict[str, Any] = {
        "priority": DEFAULT_PRIORITY if options["priority"] is None else options["priority"],
        "delay": options["delay"] or 0,
        "ttr": options["ttr"] or DEFAULT_TTR,
    }
    if options["key"] is not None:
        given["key"] = options["key"]
    event_id = await queue.put(name, body, **given)
    output.record({"id": event_id, "type": name}, f"event {event_id} ({name})")
    return None


VERBS: Final[dict[str, Verb]] = {
    "list": list_types,
    "peek": peek,
    "kick": kick,
    "delete": delete,
    "replay": replay,
    "pause": pause,
    "resume": resume,
    "drain": drain,
    "put": put,
}


async def _unknown_type(queue: EventQueue, name: str) -> str | None:
    """Return a message if the queue does not know the type.

    Asked first: a server makes a type that a client uses.
    """
    if Capability.LIST_TYPES not in queue.capabilities:
        return None
    existing = await queue.types()
    return None if name in existing else _no_such_type(name, existing)


def _no_such_type(name: str, existing: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(existing), n=1)
    return f"there are no events of the type {name!r}" + (
        f"; did you mean {near[0]!r}?" if near else ""
    )


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 event` or `2,000 events`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


async def in_parallel(call: Callable[[A], Awaitable[T]], items: list[A]) -> list[T]:
    """Return the results of `call` for all items, in their order; some calls run at once."""
    results: list[T] = []
    for start in range(0, len(items), _AT_ONCE):
        part = items[start : start + _AT_ONCE]
        try:
            results += await gatherResults(
                [Deferred.fromCoroutine(_awaited(call(each))) for each in part], consumeErrors=True
            )
        except FirstError as error:
            error.subFailure.raiseException()
    return results


async def _awaited(value: Awaitable[T]) -> T:
    return await value
