"""The founding example in one process: 10 events a second produced, 8 a second handled.

A consumer that is slower than its producer needs a queue: the surplus waits there, and no event is
lost.
"""

from typing import TextIO

from attrs import define, field
from prometheus_client import CollectorRegistry
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from evserve.events import Event, EventQueue
from evserve.work.routing import Route, Routes
from evserve.work.runner import Outcome


TYPE = "demo.event"

PRODUCED = 10
"""Events a second."""

HANDLED = 8
"""Events a second."""


@define(eq=False)
class Demo:
    """A producer, a handler, and one line a second on `output`.

    concurrency: the handlers that share the 8 events a second.  metrics: where the runner counts
    the events that it acknowledged.
    """

    queue: EventQueue
    clock: IReactorTime
    concurrency: int
    metrics: CollectorRegistry
    output: TextIO
    _produced: int = field(init=False, default=0)
    _first_report: IDelayedCall | None = field(init=False, default=None)
    _loops: list[LoopingCall] = field(init=False, factory=list)
    _log: Logger = field(init=False, default=Logger())

    def routes(self) -> Routes:
        """Return the one handler."""
        return Routes([Route(TYPE, self.handle)])

    async def handle(self, event: Event) -> None:
        """Take so long that all handlers together handle 8 events a second."""
        await deferLater(self.clock, self.concurrency / HANDLED)

    def start(self) -> None:
        """Start to produce and to report."""
        self._loop(LoopingCall.withCount(self._put), 1 / PRODUCED)
        # Between two puts, so that no event is on its way while the others are counted.
        report = LoopingCall(self._write)
        self._first_report = self.clock.callLater(0.5 / PRODUCED, self._loop, report, 1.0)

    def _loop(self, loop: LoopingCall, interval: float) -> None:
        loop.clock = self.clock
        loop.start(interval, now=False).addErrback(self._failed)
        self._loops.append(loop)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("the demo failed", failure)

    async def _put(self, count: int) -> None:
        for _ in range(count):
            await self.queue.put(TYPE, b"event %d" % self._produced)
            self._produced += 1

    async def _write(self) -> int:
        """Write a line; return the number of events that are missing."""
        depth = await self.queue.depth(TYPE)
        waiting = depth.ready + depth.reserved + depth.delayed + depth.buried
        done = {"handler": TYPE, "outcome": Outcome.DONE.value}
        consumed = int(self.metrics.get_sample_value("evserve_work_events_total", done) or 0)
        self.output.write(f"produced {self._produced}  consumed {consumed}  depth {waiting}\n")
        self.output.flush()
        return self._produced - consumed - waiting

    def stop(self) -> None:
        """Produce no more."""
        if self._first_report is not None and self._first_report.active():
            self._first_report.cancel()
        for loop in self._loops:
            if loop.running:
                loop.stop()

    async def sum_up(self) -> None:
        """Report once more, after the handlers have ended."""
        lost = await self._write()
        self.output.write(f"lost {lost}\n")
        self.output.flush()
