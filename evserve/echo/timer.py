"""A delay line on the reactor's clock: one timer, however much is waiting."""

from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from evserve.echo.delay import DelayLine


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
