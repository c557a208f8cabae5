"""What a client process is told, what it answers, and how it counts."""

import os
import sys
import time
from array import array
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from threading import Thread
from typing import Final

from attrs import define, field, frozen

from benchmarks.json_line import JsonLine


SAMPLES: Final = 1000
"""So many latencies of a client, evenly spread over all in order, stand for all of them."""

WARM_UP: Final = 0.7
"""Seconds of load before the clocks start, for all loads but `take`, which would use it up."""


@frozen
class Job(JsonLine):
    """The load that one process puts on a system.

    what: `put`; `take`, which reserves, handles and acknowledges what is there already; or
    `cycle`, which does both, with `window` events on their way at most.  clients: producers and
    consumers, so many of each.  size: bytes of a body.  batch: events that a producer has at
    once.  backlog: events in the queue before the load begins.  url: of the database or server.
    """

    url: str
    what: str
    clients: int
    size: int = 256
    batch: int = 1
    backlog: int = 0

    @property
    def window(self) -> int:
        """Events on their way at once, so that many consumers always find one."""
        return 1 if self.clients == 1 else 4 * self.clients

    def body(self) -> bytes:
        """Return a body of `size` bytes of text that begins with the time, for `sent_at`."""
        return (f"{time.monotonic():.6f} ".encode() + _filler(self.size))[: self.size]


@cache
def _filler(size: int) -> bytes:
    """Return text that Postgres cannot compress."""
    return b64encode(os.urandom(size))


def sent_at(body: bytes) -> float:
    """Return when a body was made, in seconds of the monotonic clock of this machine."""
    return float(body[: body.index(b" ")])


@frozen
class Outcome(JsonLine):
    """Operations between the clocks, the seconds they took, seconds of CPU, and latencies.

    latencies: SAMPLES quantiles at most, in seconds.
    """

    count: int
    seconds: float
    cpu: float
    latencies: list[float]


def quantiles(values: Sequence[float], number: int = SAMPLES) -> list[float]:
    """Return `number` of `values` at most, in order and evenly spread."""
    ordered = sorted(values)
    if len(ordered) <= number:
        return ordered
    step = (len(ordered) - 1) / (number - 1)
    return [ordered[round(index * step)] for index in range(number)]


def sleep_until(moment: float) -> None:
    """Block until a moment of the monotonic clock, which may be over."""
    time.sleep(max(0.0, moment - time.monotonic()))


@define(eq=False)
class Tally:
    """Counts what is done while the clocks run."""

    begin: float = 0.0
    end: float = 0.0
    last: float = 0.0
    latencies: "array[float]" = field(factory=lambda: array("d"))
    _open: bool = False

    def done(self, since: float) -> float:
        """Count an operation that began at `since`; return the time."""
        now = time.monotonic()
        if self._open:
            self.latencies.append(now - since)
            self.last = now
        return now

    def wait_for_start(self) -> None:
        """Say that this client is ready and wait until all are; blocks the thread.

        A thread of its own runs the clocks from then on, whatever the system's loop is, prints the
        outcome and ends the process.
        """
        print("ready", flush=True)
        self.begin, self.end = map(float, sys.stdin.readline().split())
        Thread(target=self._run_clocks, daemon=True).start()

    def _run_clocks(self) -> None:
        sleep_until(self.begin)
        cpu, self._open = time.process_time(), True
        sleep_until(self.end)
        self._open, cpu = False, time.process_time() - cpu
        print(self.outcome(cpu).to_json(), flush=True)
        os._exit(0)

    def outcome(self, cpu: float) -> Outcome:
        """Return what was counted.

        Where the events ran out before the end, the time counts to the last one.
        """
        seconds = self.end - self.begin
        if self.last and self.last < self.end - seconds / 10:
            seconds = max(self.last - self.begin, 1e-6)
        return Outcome(len(self.latencies), seconds, cpu, quantiles(self.latencies))
