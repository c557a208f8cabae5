"""The slow handler that makes everybody wait, and its cure.

Three events come at the same time: a slow one and two quick ones. An event loop calls one handler
at a time, so a handler that sleeps, computes or calls what blocks stops the loop, and with it
everybody's connections and timers. The cure is to wait outside the loop: in a thread of the
reactor's pool, as here, or by a call that does not block at all.

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
    """Handle an event; a slow one takes its time."""
    if event == "slow":
        time.sleep(SECONDS)
    return event


def blocking(event: str) -> Deferred[str]:
    """Handle it here and now, in the thread that serves everybody."""
    return maybeDeferred(work, event)


def cured(event: str) -> Deferred[str]:
    """Have what is slow done in another thread; its Deferred fires when it is done."""
    return deferToThread(work, event) if event == "slow" else maybeDeferred(work, event)


async def compare(reactor: Any) -> None:
    """Let the same events come twice, and show how long each had to wait."""
    for handler in (blocking, cured):
        print(f"{handler.__name__}:")
        began = reactor.seconds()

        def show(event: str, began: float = began) -> None:
            print(f"  {event} answered after {reactor.seconds() - began:.2f} s")

        await gatherResults([handler(event).addCallback(show) for event in EVENTS])


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(compare(reactor)))
