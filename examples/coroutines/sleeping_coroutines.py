"""Sleeping coroutines together take the time of the longest, not the sum of their times.

A coroutine yields how many seconds it wants to sleep. The scheduler keeps a heap of the times at
which coroutines must wake, and sleeps itself until the first of them: one thread, which never
waits longer than necessary. `asyncio.sleep` and Twisted's `callLater` use the same kind of heap.
"""

import heapq
import time
from collections.abc import Callable, Generator
from itertools import count


Sleeper = Generator[float, None, None]


def worker(name: str, naps: list[float]) -> Sleeper:
    """Sleep several times."""
    print(f"{name} begins")
    for seconds in naps:
        yield seconds
        print(f"{name} has slept {seconds} s")


def run(
    sleepers: list[Sleeper],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Run all of them to the end; return how many seconds that took."""
    began = clock()
    order = count()  # decides between two that are due at the same time
    waiting = [(began, next(order), sleeper) for sleeper in sleepers]
    while waiting:
        due, _, sleeper = heapq.heappop(waiting)
        sleep(max(0.0, due - clock()))
        for seconds in sleeper:
            heapq.heappush(waiting, (clock() + seconds, next(order), sleeper))
            break
    return clock() - began


if __name__ == "__main__":
    naps = {"long": [0.6], "short": [0.2], "twice": [0.1, 0.3]}
    took = run([worker(name, seconds) for name, seconds in naps.items()])
    total = sum(sum(seconds) for seconds in naps.values())
    print(f"all together: {took:.2f} s; sequential: {total:.2f} s")
