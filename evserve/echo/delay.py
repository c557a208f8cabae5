"""The delay line: first in, first out, each item a fixed time after it came, in bounded memory."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime


T = TypeVar("T")

# A client that sends single bytes would otherwise be charged a byte for what costs the
# process this much: the entry, the bytes object and their places in the queue.
ITEM_OVERHEAD = 192


@frozen
class _Waiting(Generic[T]):
    due: float
    cost: int
    item: T


@define(eq=False)
class DelayLine(Generic[T]):
    """Holds items for `delay` seconds; `capacity` is in bytes, overhead included.

    The caller asks `full` before it puts more: the line refuses nothing, since what has been
    read from a socket cannot be given back.
    """

    _delay: float
    _capacity: int
    _waiting: deque[_Waiting[T]] = field(factory=deque, init=False)
    _held: int = field(default=0, init=False)

    @property
    def held(self) -> int:
        """How many bytes the line costs now."""
        return self._held

    @property
    def full(self) -> bool:
        """Whether nothing more should be put in."""
        return self._held >= self._capacity

    @property
    def next_due(self) -> float | None:
        """When the first item may leave; None when the line is empty."""
        return self._waiting[0].due if self._waiting else None

    def put(self, now: float, item: T, size: int) -> None:
        """Take in `item` of `size` bytes at the time `now`."""
        cost = size + ITEM_OVERHEAD
        self._waiting.append(_Waiting(now + self._delay, cost, item))
        self._held += cost

    def take(self, now: float) -> list[T]:
        """Remove and return what is due at the time `now`, in the order it came."""
        taken = []
        while self._waiting and self._waiting[0].due <= now:
            first = self._waiting.popleft()
            self._held -= first.cost
            taken.append(first.item)
        return taken


# A delay line on the reactor's clock: one timer, however much is waiting.

T = TypeVar("T")


@define(eq=False)
class TimedLine(Generic[T]):
    """Hands the items of `line` to `deliver`, in lists, when they are due and not held back."""

    line: DelayLine[T]
    _clock: IReactorTime
    _deliver: Callable[[list[T]], None]
    _timer: IDelayedCall | None = field(default=None, init=False)
    _is_held: bool = field(default=False, init=False)

    def put(self, item: T, size: int) -> None:
        """Take in `item`, which occupies `size` bytes."""
        self.line.put(self._clock.seconds(), item, size)
        self._schedule()

    def hold(self) -> None:
        """Deliver nothing until `release`; what is due stays in the line."""
        self._is_held = True
        self.stop()

    def release(self) -> None:
        """Deliver again, late items first thing."""
        self._is_held = False
        self._schedule()

    def stop(self) -> None:
        """Leave no timer behind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        due = self.line.next_due
        if self._timer is None and due is not None and not self._is_held:
            wait = max(0.0, due - self._clock.seconds())
            self._timer = self._clock.callLater(wait, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._deliver(self.line.take(self._clock.seconds()))
        self._schedule()
