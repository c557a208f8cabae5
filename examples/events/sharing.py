"""Two consumers that share the work: each reserves the next event when it is free.

No event goes to both, and the faster consumer does more. If one dies in the middle of a job, the
queue gives the job to the other.

    python sharing.py 8
    python sharing.py 8 beanstalk://127.0.0.1:11300
"""

import sys
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater, react

from evserve.events import EventQueue, open_queue


async def produce(queue: EventQueue, count: int) -> None:
    """Put `count` jobs."""
    for number in range(count):
        await queue.put("jobs", b"job %d" % number)


async def consume(reactor: Any, queue: EventQueue, name: str, pace: float) -> None:
    """Do jobs, each of which takes `pace` seconds, until none has come for a second."""
    while (event := await queue.reserve(["jobs"], timeout=1)) is not None:
        await deferLater(reactor, pace)
        print(f"{name} did {event.body.decode()}")
        await queue.ack(event)


async def share(reactor: Any, url: str, count: int) -> None:
    """Let two consumers share the jobs."""
    queue = open_queue(url, reactor)
    await gatherResults(
        [
            Deferred.fromCoroutine(consume(reactor, queue, "fast", 0.03)),
            Deferred.fromCoroutine(consume(reactor, queue, "slow", 0.3)),
            Deferred.fromCoroutine(produce(queue, count)),
        ]
    )
    await queue.close()


def main(reactor: Any, count: str, url: str = "memory:") -> Deferred[None]:
    """Run everything in the reactor."""
    return Deferred.fromCoroutine(share(reactor, url, int(count)))


if __name__ == "__main__":
    react(main, sys.argv[1:])
