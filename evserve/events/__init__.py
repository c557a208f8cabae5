"""Events and queues of them: the one seam that handlers, producers and engines share.

    queue = open_queue("beanstalk://127.0.0.1:11300", reactor)
    await queue.put("image.uploaded", b"cat.png")

Engines live elsewhere and are found by the scheme of a URL, so a producer imports no server.
"""

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
    MAX_NUMBER,
    Event,
    check_number,
    check_put,
    check_type,
    check_types,
    error_record,
)
from evserve.events.event_queue import Capability, Depth, EventQueue


__all__ = [
    "DEFAULT_PRIORITY",
    "DEFAULT_TTR",
    "ERRORS",
    "MAX_NUMBER",
    "BadEvent",
    "BadQueueURL",
    "Capability",
    "Depth",
    "Event",
    "EventQueue",
    "NotReserved",
    "QueueClosed",
    "QueueError",
    "QueueFull",
    "QueueURL",
    "QueueUnavailable",
    "Unsupported",
    "check_number",
    "check_put",
    "check_type",
    "check_types",
    "error_record",
    "open_queue",
]
