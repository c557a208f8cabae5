"""A producer: it puts events into a queue, and need not know who handles them, or when.

    python producer.py beanstalk://127.0.0.1:11300 3

The queue has confirmed each id that is printed: that event stays until it is handled.
"""

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from evserve.events import QueueError, open_queue


async def produce(reactor: Any, url: str, count: int) -> None:
    """Put `count` events of the type `clicks`."""
    try:
        queue = open_queue(url, reactor)
        for number in range(count):
            event_id = await queue.put("clicks", b"click %d" % number)
            print(f"produced click {number} as event {event_id}")
        await queue.close()
    except QueueError as error:
        raise SystemExit(f"producer: {error}") from error


def main(reactor: Any, url: str, count: str = "10") -> Deferred[None]:
    """Run the producer in the reactor."""
    return Deferred.fromCoroutine(produce(reactor, url, int(count)))


if __name__ == "__main__":
    react(main, sys.argv[1:])
