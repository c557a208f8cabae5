"""Event, the limits that every engine shares, and the record of a buried event."""

import json
import re
from collections.abc import Collection
from contextvars import ContextVar
from enum import IntEnum
from functools import lru_cache
from math import nan
from operator import index
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from evserve.events.errors import BadEvent, Unsupported


if TYPE_CHECKING:
    from evserve.events.transaction import Transaction


DEFAULT_PRIORITY: Final = 1024
"""The priority of an event by default; beanstalkd counts lower ones as urgent."""

DEFAULT_TTR: Final = 60
"""Seconds that a consumer has by default."""

MAX_NUMBER: Final = 2**32 - 1
"""The largest priority, and the largest delay and TTR in seconds (protocol.txt of beanstalkd)."""

MAX_ID: Final = 2**63 - 1
"""The largest id of an event, and the largest number of a sequence."""

MAX_MANY: Final = 1000
"""The most events of one `reserve_many` or `history`, whose bodies are in memory at one time."""

MAX_RESULT: Final = 65536
"""Bytes of a result that the history keeps."""

ERRORS: Final = "evserve.errors"
"""The type of the records that `bury` puts (see error_record)."""

_MAX_REASON: Final = 2000
"""Characters kept of a reason, so that its record is smaller than any server's limit."""

_MAX_SHOWN: Final = 250
"""Characters of a value in an error: the longest type, and what was appended to it."""

_NAME: Final = re.compile(r"[A-Za-z0-9+/;.$_()][A-Za-z0-9+/;.$_()-]{0,199}")
_ID: Final = re.compile(r"[1-9][0-9]{0,18}")


class State(IntEnum):
    """The states of an event (protocol.txt of beanstalkd). Stores keep the numbers."""

    READY = 0
    RESERVED = 1
    DELAYED = 2
    BURIED = 3


@frozen
class Event:
    """An event as its consumer sees it; beanstalkd calls it a job.

    id: unique within its queue.  type: decides which consumers get it; beanstalkd's tube.  body:
    any bytes.  priority: 0 is the most urgent.  delay: seconds that it waited, the last time,
    before it was ready.  ttr: seconds until it is taken from a consumer that neither settles nor
    touches it.

    Counters over its life: attempts, how often it was reserved, this time included; timeouts, how
    often the TTR ran out; releases, how often a consumer retried it; buries; kicks.

    receipt: the engine's proof of this one reservation. An event that comes back has another
    receipt, so that a consumer that overran the TTR cannot settle it.
    """

    id: str
    type: str
    body: bytes
    priority: int = DEFAULT_PRIORITY
    delay: float = 0
    ttr: int = DEFAULT_TTR
    attempts: int = 0
    timeouts: int = 0
    releases: int = 0
    buries: int = 0
    kicks: int = 0
    receipt: object = field(default=None, eq=False, repr=False)

    def __str__(self) -> str:
        return f"event {self.id} ({self.type})"

    def transaction(self) -> "Transaction":
        """Handle the event in one transaction of the database that the queue is in.

            async with event.transaction() as connection:
                await connection.execute("INSERT INTO thumbnails VALUES (%s)", [name])

        The rows and the acknowledgement are committed together: if this process dies at any
        point, either both exist or the event comes back. Leaving the block with an exception rolls
        back. A handler that is `blocking` writes `with` and gets the database driver's own
        connection. See transaction.py; raises Unsupported for an engine without TRANSACTIONS.
        """
        begin = getattr(self.receipt, "transaction", None)
        if begin is None:
            raise Unsupported(f"{self}: its queue is not in a database with transactions")
        transaction: Transaction = begin(self)
        return transaction


current_event: ContextVar[Event] = ContextVar("current_event")
"""The event that a handler runs for; in its tasks and threads too. For logs and libraries."""


@frozen
class Stored:
    """An event as an operator sees it.

    event: without a receipt.  age: seconds since it was put.  left: seconds until its delay or its
    reservation ends, 0 in the other states.
    """

    event: Event
    state: State
    age: float
    left: float = 0


@frozen
class Handled:
    """What became of an event, as the history keeps it.

    event: as its consumer saw it, without the receipt.  outcome: "done" or "buried".  result: what
    the handler returned, empty for nothing.  error: why the event was buried (see kept_reason),
    else empty. Times are seconds since the epoch: when it was put, when it was reserved for the
    last time, and when it was settled.
    """

    event: Event
    outcome: str
    result: bytes
    error: str
    put_at: float
    reserved_at: float
    settled_at: float


# The checks below return what they were given as the plain Python type. Engines use only that: an
# enum, a numpy integer or a subclass of `str` may look different when it is formatted into a
# command or stored.


def check_type(event_type: str) -> str:
    """Return `event_type` if it is valid: 1 to 200 of A-Z a-z 0-9 + / ; . $ _ ( ) -.

    It may not begin with a hyphen (protocol.txt, "Names"). Raises BadEvent.
    """
    return check_name("an event type", event_type)


def check_name(kind: str, name: str) -> str:
    """Return `name`, which is `kind`, if it is valid like a type; raises BadEvent."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise BadEvent(
            f"{_shown(name)} is not {kind}: 1 to 200 of A-Z a-z 0-9 + / ; . $ _ ( ) -, "
            "not beginning with -"
        )
    return str.__str__(name)


def check_key(key: str | None) -> str | None:
    """Return `key` if it is None or valid; raises BadEvent."""
    return None if key is None else check_name("a key", key)


def check_id(event_id: str) -> int:
    """Return the number in the id of an event: every engine counts its events.

    Raises BadEvent.
    """
    if isinstance(event_id, str) and _ID.fullmatch(event_id) is not None:
        number = int(str.__str__(event_id))
        if number <= MAX_ID:
            return number
    raise BadEvent(f"{_shown(event_id)} is not the id of an event: a number such as 42")


def check_shown_state(state: State) -> State:
    """Return `state` if `peek` can show events in it; raises BadEvent."""
    if state in (State.READY, State.DELAYED, State.BURIED):
        return State(state)
    raise BadEvent(f"{_shown(state)} is not one of State.READY, State.DELAYED, State.BURIED")


def check_types(types: Collection[str]) -> frozenset[str]:
    """Return `types` as a set if a consumer may reserve them; raises BadEvent."""
    if type(types) is frozenset:  # of a consumer, which passes the same set again and again
        return _check_set(types)
    if isinstance(types, str):  # a collection of letters, each of which is a valid type
        raise BadEvent(f"reserve takes a list of event types, such as [{_shown(types)}]")
    try:
        names = list(types)
    except Exception:  # of whatever class `types` is
        raise BadEvent(f"{_shown(types)} is not a list of event types") from None
    if not names:
        raise BadEvent("reserve needs at least one event type")
    return frozenset([check_type(each) for each in names])


@lru_cache(maxsize=4)
def _check_set(types: frozenset[str]) -> frozenset[str]:
    return check_types(list(types))


def check_put(
    event_type: str, body: bytes, priority: int, delay: float, ttr: int
) -> tuple[str, bytes, int, float, int]:
    """Return all arguments if they have the right type and are within the limits.

    Raises BadEvent.
    """
    if not isinstance(body, bytes):
        raise BadEvent(f"the body of an event is bytes, not {type(body).__name__}")
    return (
        check_type(event_type),
        b"".join((body,)),  # of a subclass, the bytes; of bytes, no copy
        check_number("priority", priority),
        check_seconds("delay", delay),
        check_number("ttr", ttr, least=1),
    )


def check_number(name: str, value: int, *, least: int = 0, most: int = MAX_NUMBER) -> int:
    """Return `value` if it is a whole number from `least` to `most`; raises BadEvent."""
    try:
        number = int(index(value))
    except Exception:  # of whatever class `value` is
        number = -1
    if not least <= number <= most:
        raise BadEvent(f"{name} {_shown(value)} is not a whole number between {least} and {most}")
    return number


def check_many(limit: int) -> int:
    """Return `limit` if one `reserve_many` can reserve so many; raises BadEvent."""
    return check_number("limit", limit, least=1, most=MAX_MANY)


def check_seconds(name: str, value: float) -> float:
    """Return `value` if it is a number from 0 to MAX_NUMBER; raises BadEvent."""
    try:
        # float() alone would also read text.
        seconds = float(value if hasattr(value, "__float__") else "nan")
    except Exception:  # of whatever class `value` is
        seconds = nan
    if not 0 <= seconds <= MAX_NUMBER:  # nan is not
        raise BadEvent(f"{name} {_shown(value)} is not a number between 0 and {MAX_NUMBER}")
    return int(seconds) if seconds == int(seconds) else seconds


def check_binding(source: str, target: str) -> tuple[str, str]:
    """Return the types of a binding; raises BadEvent."""
    if check_type(source) == check_type(target):
        raise BadEvent(f"{_shown(source)} cannot be bound to itself")
    return check_type(source), check_type(target)


def check_sequence(sequence: str, number: int) -> tuple[str, int]:
    """Return the arguments of `advance`; raises BadEvent."""
    return check_type(sequence), check_number("number", number, most=MAX_ID)


def check_keep(result: bytes, keep: float) -> tuple[bytes, float]:
    """Return what the history keeps of an event, and for how long; raises BadEvent."""
    if not isinstance(result, bytes):
        raise BadEvent(f"the result of an event is bytes, not {type(result).__name__}")
    if len(result) > MAX_RESULT:
        raise BadEvent(f"a result of {len(result)} bytes; at most {MAX_RESULT} are kept")
    return b"".join((result,)), check_seconds("keep", keep)


def check_history(event_type: str | None, limit: int) -> tuple[str | None, int]:
    """Return the arguments of `history`; raises BadEvent."""
    wanted = None if event_type is None else check_type(event_type)
    return wanted, check_many(limit)


def check_no_connection(connection: object) -> None:
    """Refuse the `connection` of a put, for an engine that has no transactions.

    Raises Unsupported.
    """
    if connection is not None:
        raise Unsupported("put takes no connection: the queue is not in a database")


def check_event(event: Event) -> Event:
    """Return `event` if it is one; raises BadEvent."""
    if not (isinstance(event, Event) and type(event.id) is str and event.id.isprintable()):
        raise BadEvent(f"{_shown(event)} is not an event that was reserved")
    return event


def check_reason(reason: str) -> str:
    """Return as much of `reason` as its record has room for; raises BadEvent."""
    if not isinstance(reason, str):
        raise BadEvent(f"the reason {_shown(reason)} is not text")
    return str.__str__(reason)[:_MAX_REASON]


def kept_reason(reason: str) -> str:
    """Return `reason` as the history keeps it; raises BadEvent.

    Nulls and lone surrogates are escaped, because databases take none in a text.
    """
    text = check_reason(reason).replace("\0", "\\x00")
    return text.encode(errors="backslashreplace").decode()


def _shown(value: object) -> str:
    """Return `value` as it is shown in an error: in one line of bounded length."""
    try:
        text = " ".join(ascii(value).split())
    except Exception:  # its own; or that of an integer of 5,000 digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def error_record(event: Event, reason: str, now: float) -> bytes:
    """Return the body of the event that `bury` puts under the type ERRORS, for the operator.

    One JSON object: `id`, `type` and `attempts` of the buried event, the `reason`, and `at`, the
    time as seconds since the epoch. It lacks the body, because the event itself is still there,
    buried, to be peeked at and kicked.
    """
    record = {
        "id": event.id,
        "type": event.type,
        "attempts": event.attempts,
        "reason": check_reason(reason),
        "at": round(now, 3),
    }
    return json.dumps(record).encode("ascii")
