"""Schedules: an event at each tick, put exactly once by any number of workers.

A schedule's position in the queue, the sequence `schedule/NAME`, is the time of its last tick.
Every worker moves it to the next tick when that has come, and the queue puts the event in the same
commit. Of all workers one succeeds; so no worker has to lead, and each may repeat what failed.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from random import random
from time import time
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen
from prometheus_client import CollectorRegistry, Counter, Gauge
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from evserve.events import BadEvent, EventQueue, QueueClosed, QueueError, Unsupported
from evserve.events.consumer import QUEUE_RETRIES
from evserve.interfaces import ISchedulePlugin
from evserve.plugin import BrokenPlugin, Catalogue, PluginError


NextTick: TypeAlias = Callable[[float], datetime | None]
"""From a time, in seconds since the epoch, to the first tick after it."""

LOOK_AGAIN: Final = 60.0
"""Seconds after which a wait for a tick looks at the clock again, which may have been set."""

WORTH_TELLING: Final = 60.0
"""A tick that is put so many seconds late is a line in the log."""

_log = Logger()


@frozen
class LoadedSchedule:
    """A schedule plugin with its ticks."""

    plugin: ISchedulePlugin
    next_tick: NextTick

    @property
    def sequence(self) -> str:
        """Where the queue keeps the time of the last tick."""
        return f"schedule/{self.plugin.name}"

    def body(self, tick: datetime) -> bytes:
        """Return the body of the event of a tick."""
        if self.plugin.body is not None:
            return self.plugin.body
        return json.dumps({"schedule": self.plugin.name, "tick": tick.isoformat()}).encode()


def load_schedules(catalogue: Catalogue) -> tuple[list[LoadedSchedule], list[BrokenPlugin]]:
    """Load the schedules of a catalogue; return them, and those that cannot be used."""
    loaded, broken = [], []
    for name, found in catalogue.schedules.items():
        try:
            loaded.append(LoadedSchedule(found.plugin, found.plugin.load()))
        except PluginError as error:
            broken.append(BrokenPlugin(name, found.path, str(error)))
    return loaded, broken


def last_tick(next_tick: NextTick, after: float, until: float) -> datetime | None:
    """Return the last tick after `after` and not after `until`; None if there is none.

    It asks for 40 ticks at most, however many there were in between. Raises ValueError if the
    first is not at a later second than `after`: the calendar of a plugin may be wrong.
    """
    last = next_tick(after)
    if last is None or last.timestamp() > until:
        return None
    if int(last.timestamp()) <= after:
        raise ValueError(f"the tick after {after:.0f} is {last}, which is not a second later")
    low, high = int(last.timestamp()), int(until)
    while low < high:  # the last tick is at `low`, or later but not after `high`
        middle = (low + high) // 2
        later = next_tick(middle)
        if later is not None and later.timestamp() <= until:
            last, low = later, int(later.timestamp())
        else:
            high = middle
    return last


class ScheduleMetrics:
    """The metrics of all schedules, by name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.last = Gauge(
            "evserve_schedule_last_tick_seconds",
            "Time of the last tick that was put, by this worker or another.",
            ["schedule"],
            registry=registry,
        )
        self.puts = Counter(
            "evserve_schedule_puts", "Ticks that this worker put.", ["schedule"], registry=registry
        )
        self.late = Gauge(
            "evserve_schedule_late_seconds",
            "How long after its time this worker put a tick, the last time.",
            ["schedule"],
            registry=registry,
        )


@define(eq=False)
class Scheduler:
    """Puts the events of schedules into `queue`.

    fail: called with one line if the queue has no sequences.  now: the time in seconds since the
    epoch.  roll: a random number from 0 to 1.
    """

    queue: EventQueue
    schedules: Sequence[LoadedSchedule]
    clock: IReactorTime
    metrics: ScheduleMetrics
    fail: Callable[[str], object]
    now: Callable[[], float] = time
    roll: Callable[[], float] = random
    _started: int = field(init=False, default=0)
    _stopping: bool = field(init=False, default=False)
    _waits: set[Deferred[Any]] = field(init=False, factory=set)
    _runs: list[Deferred[None]] = field(init=False, factory=list)

    def start(self) -> None:
        """Start to put events."""
        self._started = int(self.now())
        self._runs = [Deferred.fromCoroutine(self._run(each)) for each in self.schedules]
        for schedule, run in zip(self.schedules, self._runs, strict=True):
            run.addErrback(self._crashed, schedule)

    def stop(self) -> Deferred[None]:
        """Put nothing more; fires when no call to the queue is under way."""
        self._stopping = True
        for wait in list(self._waits):
            wait.cancel()
        return DeferredList(self._runs).addCallback(lambda _: None)

    def _crashed(self, failure: Failure, schedule: LoadedSchedule) -> None:
        _log.failure("{name} has ended", failure, name=schedule.sequence)

    async def _run(self, schedule: LoadedSchedule) -> None:
        position: int | None = None
        failures = 0
        while not self._stopping:
            try:
                if position is None:
                    position = await self._begin(schedule)
                else:
                    position = await self._step(schedule, position)
            except Unsupported as error:
                self.fail(f"schedules need a queue that keeps their positions: {error}")
                return
            except (QueueClosed, CancelledError):
                return
            except QueueError as error:
                if self._stopping:
                    return
                failures += 1
                if failures == 1:
                    _log.warn("{name}: {error}; trying again", name=schedule.sequence, error=error)
                with suppress(CancelledError):
                    await self._sleep(QUEUE_RETRIES.delay(failures, self.roll()))
            else:
                failures = 0

    async def _begin(self, schedule: LoadedSchedule) -> int:
        """Return the time after which ticks are to be put."""
        position = await self.queue.position(schedule.sequence)
        if position is None:  # seen for the first time: stored, so that an outage is noticed
            await self.queue.advance(schedule.sequence, self._started)
            return self._started
        return max(position, self._started) if schedule.plugin.missed == "skip" else position

    async def _step(self, schedule: LoadedSchedule, position: int) -> int:
        """Wait for the next tick, or put the last one that is due; return the new position."""
        now = self.now()
        tick = last_tick(schedule.next_tick, position, now)
        if tick is None:
            upcoming = schedule.next_tick(position)
            left = LOOK_AGAIN if upcoming is None else upcoming.timestamp() - now
            await self._sleep(min(left, LOOK_AGAIN))
            return position
        await self._put(schedule, tick)
        return int(tick.timestamp())

    async def _put(self, schedule: LoadedSchedule, tick: datetime) -> None:
        plugin, when = schedule.plugin, int(tick.timestamp())
        try:
            is_first = await self.queue.advance(
                schedule.sequence,
                when,
                plugin.event_type,
                schedule.body(tick),
                priority=plugin.priority,
                ttr=plugin.ttr,
            )
        except BadEvent as error:  # such as a body that is too large; the next tick fails as well
            _log.error("{name}: {error}", name=schedule.sequence, error=error)
            return
        self.metrics.last.labels(plugin.name).set(when)
        if is_first:
            late = max(0.0, self.now() - when)
            self.metrics.puts.labels(plugin.name).inc()
            self.metrics.late.labels(plugin.name).set(late)
            if late >= WORTH_TELLING:
                _log.info(
                    "{name}: put the tick of {tick}, {late:.0f} seconds late",
                    name=schedule.sequence,
                    tick=tick.isoformat(),
                    late=late,
                )

    async def _sleep(self, seconds: float) -> None:
        """Wait; raises CancelledError when the scheduler is stopped."""
        wait: Deferred[None] = deferLater(self.clock, seconds)
        self._waits.add(wait)
        try:
            await wait
        finally:
            self._waits.discard(wait)
