"""Two consumers that each receive every event, at their own pace, through a queue.

A binding copies every click to `clicks.audit` when it is put, so billing and audit each have their
own events to acknowledge; a consumer that is away finds its events when it comes back.

    python fanout.py 3
    python fanout.py 3 beanstalk://127.0.0.1:11300
"""

import sys
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from evserve.events import EventQueue, Unsupported, open_queue


async def produce(queue: EventQueue, targets: list[str], count: int) -> None:
    """Put `count` clicks into each of `targets`."""
    for number in range(count):
        for target in targets:
            await queue.put(target, b"click %d" % number)


async def consume(queue: EventQueue, name: str, event_type: str, count: int) -> None:
    """Reserve and acknowledge `count` events."""
    for _ in range(count):
        event = await queue.reserve([event_type])
        assert event is not None  # only a time-out returns None
        print(f"{name} got {event.body.decode()}")
        await queue.ack(event)


async def fan_out(reactor: Any, url: str, count: int) -> None:
    """Let billing and audit receive every click."""
    queue = open_queue(url, reactor)
    targets = ["clicks"]
    try:
        await queue.bind("clicks", "clicks.audit")
    except Unsupported:
        # beanstalkd has no bindings, so the producer has to know the consumers.
        targets.append("clicks.audit")
    await gatherResults(
        [
            Deferred.fromCoroutine(consume(queue, "billing", "clicks", count)),
            Deferred.fromCoroutine(consume(queue, "audit", "clicks.audit", count)),
            Deferred.fromCoroutine(produce(queue, targets, count)),
        ]
    )
    await queue.close()


def main(reactor: Any, count: str, url: str = "memory:") -> Deferred[None]:
    """Run everything in the reactor."""
    return Deferred.fromCoroutine(fan_out(reactor, url, int(count)))


if __name__ == "__main__":
    react(main, sys.argv[1:])
