"""Who may go next: so many at once in all, so many to each origin, each origin at its own pace."""

from array import array
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


_SHARDS = 256
_START = 64  # slots of a new shard; a power of two
_MASK = 2**64 - 1


def _new_shards() -> "list[array[int]]":
    return [array("Q", bytes(8 * _START)) for _ in range(_SHARDS)]


@define(eq=False, repr=False)
class Seen:
    """A set that keeps 64 bits of each text.

    Two different texts are taken for one with a probability of n*n / 2**65: 3 in 10**8 for a
    million. Python seeds `hash` anew in each process, so nobody can prepare such a pair.
    """

    _shards: "list[array[int]]" = field(factory=_new_shards, init=False)
    _counts: list[int] = field(factory=lambda: [0] * _SHARDS, init=False)

    def __len__(self) -> int:
        return sum(self._counts)

    def add(self, text: str) -> bool:
        """Keep `text`; return whether it is new."""
        key = (hash(text) & _MASK) or 1  # 0 marks a free slot
        number = key & (_SHARDS - 1)
        shard = self._shards[number]
        slot = _find(shard, key)
        if shard[slot]:
            return False
        shard[slot] = key
        self._counts[number] += 1
        # Shards grow one at a time, so that growing never takes long.
        if self._counts[number] * 4 > len(shard) * 3:
            self._shards[number] = _grown(shard)
        return True

    def __contains__(self, text: str) -> bool:
        key = (hash(text) & _MASK) or 1
        shard = self._shards[key & (_SHARDS - 1)]
        return bool(shard[_find(shard, key)])


def _find(shard: "array[int]", key: int) -> int:
    """Return the slot that holds `key`, or the free one where it belongs."""
    mask = len(shard) - 1
    slot = (key >> 8) & mask
    while shard[slot] not in (0, key):
        slot = (slot + 1) & mask
    return slot


def _grown(shard: "array[int]") -> "array[int]":
    grown = array("Q", bytes(16 * len(shard)))
    for key in shard:
        if key:
            grown[_find(grown, key)] = key
    return grown
