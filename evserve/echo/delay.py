"""A queue that releases each item a fixed time after it came, in order and in bounded memory."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime


T = TypeVar("T")

# What an item costs the process besides its bytes: the bytes object and its places in the queue.
# Without it a client that sends single bytes would be charged far too little.
ITEM_OVERHEAD = 192  # bytes


@define(eq=False)
class DelayQueue(Generic[T]):
    """Calls `deliver` with a list of the items that are due, `delay` seconds after each `put`.

    One timer serves any number of items. `capacity` is in bytes. The queue refuses nothing, since
    bytes read from a socket can't be given back: check `full` before reading more.
    """

    _delay: float
    _capacity: int
    _clock: IReactorTime
    _deliver: Callable[[list[T]], None]
    size: int = field(default=0, init=False)  # bytes that wait, overhead included
    _waiting: deque[tuple[float, int, T]] = field(factory=deque, init=False)  # due, size, item
    _timer: IDelayedCall | None = field(default=None, init=False)
    _paused: bool = field(default=False, init=False)

    @property
    def full(self) -> bool:
        """Whether the queue is at its capacity."""
        return self.size >= self._capacity

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    def put(self, item: T, length: int) -> None:
        """Add an item of `length` bytes."""
        size = length + ITEM_OVERHEAD
        self._waiting.append((self._clock.seconds() + self._delay, size, item))
        self.size += size
        self._schedule()

    def pause(self) -> None:
        """Deliver nothing until `resume`, and leave no timer behind."""
        self._paused = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume(self) -> None:
        """Deliver again, starting with what is late."""
        self._paused = False
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and self._timer is None and not self._paused:
            wait = max(0.0, self._waiting[0][0] - self._clock.seconds())
            self._timer = self._clock.callLater(wait, self._deliver_due)

    def _deliver_due(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        items = []
        while self._waiting and self._waiting[0][0] <= now:
            _, size, item = self._waiting.popleft()
            self.size -= size
            items.append(item)
        self._deliver(items)
        self._schedule()
