"""A slow handler that makes all others wait, and the remedy.

Three events come at the same time: a slow one and two quick ones. An event loop calls one handler
at a time, so a handler that sleeps, computes or makes a blocking call stops the loop, and with it
all connections and timers. The remedy is to wait outside the loop: in a thread of the reactor's
pool, as here, or with a call that does not block at all.

    python slow_handler.py
"""

import time
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread


EVENTS = ("slow", "quick 1", "quick 2")
SECONDS = 0.5  # that the slow handler takes


def work(event: str) -> str:
    """Handle an event."""
    if event == "slow":
        time.sleep(SECONDS)
    return event


def blocking(event: str) -> Deferred[str]:
    """Handle the event in the reactor thread."""
    return maybeDeferred(work, event)


def threaded(event: str) -> Deferred[str]:
    """Handle a slow event in another thread; the Deferred fires when that is done."""
    return deferToThread(work, event) if event == "slow" else maybeDeferred(work, event)


async def compare(reactor: Any) -> None:
    """Handle the same events in both ways, and print how long each had to wait."""
    for handler in (blocking, threaded):
        print(f"{handler.__name__}:")
        began = reactor.seconds()

        def show(event: str, began: float = began) -> None:
            print(f"  {event} answered after {reactor.seconds() - began:.2f} s")

        await gatherResults([handler(event).addCallback(show) for event in EVENTS])


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(compare(reactor)))
