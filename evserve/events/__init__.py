"""Events and queues: what handlers, producers and engines share.

    queue = open_queue("beanstalk://127.0.0.1:11300", reactor)
    await queue.put("image.uploaded", b"cat.png")

event.py        Event, its limits, and the record of a buried one
event_queue.py  EventQueue: what every engine can do; Capability, Depth
errors.py       QueueError and its kinds
engines.py      open_queue: from a URL to an engine, which is imported only then
transaction.py  Transaction: an event handled in one commit with what its handler writes
sync.py         the same seam for synchronous Python: open_queue, SyncQueue
consumer.py     Consumer: the loop that reserves events for handlers; Delivery
memory.py       MemoryQueue: the engine for tests (public in evserve.testing)
postgres/       the engine for `postgresql://`
beanstalk/      the engine for `beanstalk://`; `sqlite:` and `memory:` are in evserve.queue

The way of an event: EventQueue.put stores it; a Consumer, which waits in EventQueue.reserve, gets
it and passes it to a handler as a Delivery; the Consumer touches it before its TTR ends;
Delivery.ack removes it, Delivery.retry makes it ready again later, and Delivery.bury sets it aside
and puts a record of the reason under the type ERRORS.
"""

from evserve.backoff import BackOff
from evserve.events.consumer import Consumer, Delivery
from evserve.events.engines import QueueURL, open_queue
from evserve.events.errors import (
    BadEvent,
    BadQueueURL,
    NotReserved,
    QueueClosed,
    QueueError,
    QueueFull,
    QueueUnavailable,
    Unsupported,
)
from evserve.events.event import (
    DEFAULT_PRIORITY,
    DEFAULT_TTR,
    ERRORS,
    MAX_ID,
    MAX_MANY,
    MAX_NUMBER,
    MAX_RESULT,
    Event,
    Handled,
    State,
    Stored,
    check_binding,
    check_event,
    check_history,
    check_id,
    check_keep,
    check_key,
    check_many,
    check_name,
    check_no_connection,
    check_number,
    check_put,
    check_reason,
    check_seconds,
    check_sequence,
    check_shown_state,
    check_type,
    check_types,
    current_event,
    error_record,
    kept_reason,
)
from evserve.events.event_queue import Capability, Depth, EventQueue


__all__ = [
    "DEFAULT_PRIORITY",
    "DEFAULT_TTR",
    "ERRORS",
    "MAX_ID",
    "MAX_MANY",
    "MAX_NUMBER",
    "MAX_RESULT",
    "BackOff",
    "BadEvent",
    "BadQueueURL",
    "Capability",
    "Consumer",
    "Delivery",
    "Depth",
    "Event",
    "EventQueue",
    "Handled",
    "NotReserved",
    "QueueClosed",
    "QueueError",
    "QueueFull",
    "QueueURL",
    "QueueUnavailable",
    "State",
    "Stored",
    "Unsupported",
    "check_binding",
    "check_event",
    "check_history",
    "check_id",
    "check_keep",
    "check_key",
    "check_many",
    "check_name",
    "check_no_connection",
    "check_number",
    "check_put",
    "check_reason",
    "check_seconds",
    "check_sequence",
    "check_shown_state",
    "check_type",
    "check_types",
    "current_event",
    "error_record",
    "kept_reason",
    "open_queue",
]
