"""Who may go next: so many at once in all, so many to each origin, each origin at its own pace."""

from collections import deque
from collections.abc import Hashable
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

from attrs import define, field


T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@define(eq=False)
class Lane(Generic[K, T]):
    """What waits for one origin."""

    key: K
    delay: float  # seconds from one start to the next
    waiting: deque[T] = field(factory=deque)
    active: int = 0
    not_before: float = 0.0
    is_queued: bool = False  # among those that may go next
    is_asleep: bool = False  # until not_before


@define(eq=False)
class Schedule(Generic[K, T]):
    """Items by origin; origins take turns.

    total: items at work at once.  per_origin: of one origin.  delay: seconds between the starts
    of two items of one origin.  Every call costs the same however many items wait.
    """

    total: int = 100
    per_origin: int = 4
    delay: float = 0.0
    active: int = field(default=0, init=False)
    _lanes: dict[K, Lane[K, T]] = field(factory=dict, init=False)
    _ready: deque[Lane[K, T]] = field(factory=deque, init=False)
    _asleep: list[tuple[float, int, Lane[K, T]]] = field(factory=list, init=False)
    _numbers: "count[int]" = field(factory=count, init=False)

    def add(
        self, origin: K, item: T, now: float, *, delay: float = 0.0, first: bool = False
    ) -> None:
        """Let `item` wait for its turn.

        delay: what this origin asks for, if that is longer than everybody's.  first: it passes
        the others of its origin.
        """
        lane = self._lane(origin)
        lane.delay = max(lane.delay, delay)
        if first:
            lane.waiting.appendleft(item)
        else:
            lane.waiting.append(item)
        self._queue(lane, now)

    def take(self, now: float) -> T | None:
        """Return an item that may start now, counted as at work; None if there is none."""
        if self.active >= self.total:
            return None
        if self._asleep and self._asleep[0][0] <= now:
            self._wake(now)
        if not self._ready:
            return None
        lane = self._ready.popleft()
        lane.is_queued = False
        item = lane.waiting.popleft()
        lane.active += 1
        self.active += 1
        if lane.delay:
            lane.not_before = max(lane.not_before, now + lane.delay)
        self._queue(lane, now)
        return item

    def release(self, origin: K, now: float) -> None:
        """Note that an item that was taken is done."""
        lane = self._lanes[origin]
        lane.active -= 1
        self.active -= 1
        self._queue(lane, now)

    def pause(self, origin: K, until: float, now: float) -> None:
        """Start nothing more for `origin` before the time `until`."""
        lane = self._lane(origin)
        lane.not_before = max(lane.not_before, until)
        self._queue(lane, now)

    def drain(self, origin: K) -> list[T]:
        """Remove and return what waits for `origin`."""
        lane = self._lanes.get(origin)
        if lane is None:
            return []
        waiting = list(lane.waiting)
        lane.waiting.clear()
        if lane.is_queued:
            self._ready.remove(lane)
            lane.is_queued = False
        self._forget_if_idle(lane)
        return waiting

    @property
    def origins(self) -> list[K]:
        """Those that have something to do, or have to be left alone for a while."""
        return list(self._lanes)

    @property
    def wakes_at(self) -> float | None:
        """When `take` may find something that it does not find now; None if not by waiting."""
        return self._asleep[0][0] if self._asleep else None

    def _lane(self, origin: K) -> Lane[K, T]:
        lane = self._lanes.get(origin)
        if lane is None:
            lane = self._lanes[origin] = Lane(origin, self.delay)
        return lane

    def _queue(self, lane: Lane[K, T], now: float) -> None:
        """Put a lane where it belongs: ready, asleep or forgotten."""
        if lane.not_before > now:
            if lane.is_queued:
                self._ready.remove(lane)
                lane.is_queued = False
            if not lane.is_asleep:
                lane.is_asleep = True
                heappush(self._asleep, (lane.not_before, next(self._numbers), lane))
        elif lane.waiting:
            if not lane.is_queued and lane.active < self.per_origin:
                lane.is_queued = True
                self._ready.append(lane)
        else:
            self._forget_if_idle(lane)

    def _forget_if_idle(self, lane: Lane[K, T]) -> None:
        if not lane.active and not lane.is_asleep:
            self._lanes.pop(lane.key, None)

    def _wake(self, now: float) -> None:
        while self._asleep and self._asleep[0][0] <= now:
            lane = heappop(self._asleep)[2]
            lane.is_asleep = False
            self._queue(lane, now)
