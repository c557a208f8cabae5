"""Event, the limits that every engine shares, and the record of a buried event."""

import json
import re
from collections.abc import Collection
from types import UnionType
from typing import Final

from attrs import field, frozen

from evserve.events.errors import BadEvent


DEFAULT_PRIORITY: Final = 1024
"""The priority of an event by default; beanstalkd counts lower ones as urgent."""

DEFAULT_TTR: Final = 60
"""Seconds that a consumer has by default."""

MAX_NUMBER: Final = 2**32 - 1
"""The largest priority, and the largest delay and TTR in seconds (protocol.txt of beanstalkd)."""

ERRORS: Final = "evserve.errors"
"""The type of the records that `bury` puts (see error_record)."""

_MAX_REASON: Final = 2000
"""Characters kept of a reason, so that its record is smaller than any server's limit."""

_TYPE: Final = re.compile(r"[A-Za-z0-9+/;.$_()][A-Za-z0-9+/;.$_()-]{0,199}")


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


def check_type(event_type: str) -> str:
    """Return `event_type` if it is valid: 1 to 200 of A-Z a-z 0-9 + / ; . $ _ ( ) -.

    It may not begin with a hyphen (protocol.txt, "Names"). Raises BadEvent.
    """
    if not isinstance(event_type, str) or _TYPE.fullmatch(event_type) is None:
        raise BadEvent(
            f"{event_type!r} is not an event type: 1 to 200 of A-Z a-z 0-9 + / ; . $ _ ( ) -, "
            "not beginning with -"
        )
    return event_type


def check_types(types: Collection[str]) -> frozenset[str]:
    """Return `types` as a set if a consumer may reserve them; raises BadEvent."""
    if isinstance(types, str):  # a collection of letters, each of which is a valid type
        raise BadEvent(f"reserve takes a list of event types, such as [{types!r}]")
    if not types:
        raise BadEvent("reserve needs at least one event type")
    return frozenset(check_type(each) for each in types)


def check_put(event_type: str, body: bytes, priority: int, delay: float, ttr: int) -> None:
    """Raise BadEvent unless all arguments have the right type and are within the limits.

    Types are checked too, because engines differ in what they would do with a wrong one.
    """
    check_type(event_type)
    if not isinstance(body, bytes):
        raise BadEvent(f"the body of an event is bytes, not {type(body).__name__}")
    check_number("priority", priority, int, least=0)
    check_number("delay", delay, int | float, least=0)
    check_number("ttr", ttr, int, least=1)


def check_number(name: str, value: float, kind: type | UnionType, *, least: int) -> None:
    """Raise BadEvent unless `value` is a `kind` of number from `least` to MAX_NUMBER."""
    if not (isinstance(value, kind) and least <= value <= MAX_NUMBER):
        whole = "a whole number" if kind is int else "a number"
        raise BadEvent(f"{name} {value!r} is not {whole} between {least} and {MAX_NUMBER}")


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
        "reason": reason[:_MAX_REASON],
        "at": round(now, 3),
    }
    return json.dumps(record).encode("ascii")
