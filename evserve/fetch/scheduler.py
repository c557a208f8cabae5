"""The scheduler: which job may start next, and which URLs are duplicates.

Pure: nothing here knows Twisted or reads a clock; `now` is an argument, in seconds.
"""

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
class _OriginQueue(Generic[K, T]):
    """What waits for one origin."""

    key: K
    delay: float  # seconds between two starts
    waiting: deque[T] = field(factory=deque)
    active: int = 0
    not_before: float = 0.0
    is_ready: bool = False  # in Scheduler._ready
    is_paused: bool = False  # in Scheduler._paused


@define(eq=False)
class Scheduler(Generic[K, T]):
    """Items by origin; origins take turns.

    total, per_origin: active items at once.  delay: seconds between the starts of two items of
    one origin.  The cost of each call does not depend on how many items wait.
    """

    total: int = 100
    per_origin: int = 4
    delay: float = 0.0
    active: int = field(default=0, init=False)
    _queues: dict[K, _OriginQueue[K, T]] = field(factory=dict, init=False)
    _ready: deque[_OriginQueue[K, T]] = field(factory=deque, init=False)
    # A heap of (time, tie-breaker, queue).
    _paused: list[tuple[float, int, _OriginQueue[K, T]]] = field(factory=list, init=False)
    _numbers: "count[int]" = field(factory=count, init=False)

    def add(
        self, origin: K, item: T, now: float, *, delay: float = 0.0, first: bool = False
    ) -> None:
        """Queue `item`.

        delay: what this origin asks for, if that is longer than the general delay.  first: ahead
        of the origin's other items.
        """
        queue = self._queue_of(origin)
        queue.delay = max(queue.delay, delay)
        if first:
            queue.waiting.appendleft(item)
        else:
            queue.waiting.append(item)
        self._place(queue, now)

    def take(self, now: float) -> T | None:
        """Return an item that may start now, which then is active; None if there is none."""
        if self.active >= self.total:
            return None
        if self._paused and self._paused[0][0] <= now:
            self._resume(now)
        if not self._ready:
            return None
        queue = self._ready.popleft()
        queue.is_ready = False
        item = queue.waiting.popleft()
        queue.active += 1
        self.active += 1
        if queue.delay:
            queue.not_before = max(queue.not_before, now + queue.delay)
        self._place(queue, now)
        return item

    def release(self, origin: K, now: float) -> None:
        """Note that an active item of `origin` is done."""
        queue = self._queues[origin]
        queue.active -= 1
        self.active -= 1
        self._place(queue, now)

    def pause(self, origin: K, until: float, now: float) -> None:
        """Start nothing more for `origin` before the time `until`."""
        queue = self._queue_of(origin)
        queue.not_before = max(queue.not_before, until)
        self._place(queue, now)

    def drain(self, origin: K) -> list[T]:
        """Remove and return what waits for `origin`."""
        queue = self._queues.get(origin)
        if queue is None:
            return []
        waiting = list(queue.waiting)
        queue.waiting.clear()
        if queue.is_ready:
            self._ready.remove(queue)
            queue.is_ready = False
        self._forget_if_idle(queue)
        return waiting

    @property
    def origins(self) -> list[K]:
        """Origins with items, or with a pause that is not over."""
        return list(self._queues)

    @property
    def wakes_at(self) -> float | None:
        """When the first pause ends; None without one."""
        return self._paused[0][0] if self._paused else None

    def _queue_of(self, origin: K) -> _OriginQueue[K, T]:
        queue = self._queues.get(origin)
        if queue is None:
            queue = self._queues[origin] = _OriginQueue(origin, self.delay)
        return queue

    def _place(self, queue: _OriginQueue[K, T], now: float) -> None:
        """Put a queue where it belongs now: ready, paused or forgotten."""
        if queue.not_before > now:
            if queue.is_ready:
                self._ready.remove(queue)
                queue.is_ready = False
            if not queue.is_paused:
                queue.is_paused = True
                heappush(self._paused, (queue.not_before, next(self._numbers), queue))
        elif queue.waiting:
            if not queue.is_ready and queue.active < self.per_origin:
                queue.is_ready = True
                self._ready.append(queue)
        else:
            self._forget_if_idle(queue)

    def _forget_if_idle(self, queue: _OriginQueue[K, T]) -> None:
        if not queue.active and not queue.is_paused:
            self._queues.pop(queue.key, None)

    def _resume(self, now: float) -> None:
        while self._paused and self._paused[0][0] <= now:
            queue = heappop(self._paused)[2]
            queue.is_paused = False
            self._place(queue, now)


_SHARDS = 256
_SHARD_SIZE = 64  # entries of a new shard; a power of two
_MASK = 2**64 - 1


def _new_shards() -> "list[array[int]]":
    return [array("Q", bytes(8 * _SHARD_SIZE)) for _ in range(_SHARDS)]


@define(eq=False, repr=False)
class DuplicateFilter:
    """A set of URLs that keeps 64 bits of each: a million take 20 MiB.

    Two different URLs are confused with a probability of n*n / 2**65: 3 in 10**8 for a million.
    Python seeds `hash` anew in each process, so an attacker cannot prepare such a pair.
    """

    _shards: "list[array[int]]" = field(factory=_new_shards, init=False)
    _counts: list[int] = field(factory=lambda: [0] * _SHARDS, init=False)

    def add(self, text: str) -> bool:
        """Add `text`; return whether it is new."""
        key = (hash(text) & _MASK) or 1  # 0 marks a free entry
        number = key & (_SHARDS - 1)
        shard = self._shards[number]
        index = _find(shard, key)
        if shard[index]:
            return False
        shard[index] = key
        self._counts[number] += 1
        # Shards grow one at a time, so that growing never takes long.
        if self._counts[number] * 4 > len(shard) * 3:
            self._shards[number] = _grown(shard)
        return True


def _find(shard: "array[int]", key: int) -> int:
    """Return the index of `key`, or of the free entry where it belongs."""
    mask = len(shard) - 1
    index = (key >> 8) & mask
    while shard[index] not in (0, key):
        index = (index + 1) & mask
    return index


def _grown(shard: "array[int]") -> "array[int]":
    grown = array("Q", bytes(16 * len(shard)))
    for key in shard:
        if key:
            grown[_find(grown, key)] = key
    return grown
