"""One timer for all deadlines of a client.

A timer for each timeout of thousands of requests would keep the reactor busy with timers that
never fire. Instead one sweep looks at all of them a few times a second, and at the exact moment
of the earliest deadline.
"""

from typing import Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime


_MIN_WAIT = 0.001  # seconds between sweeps, however much is overdue


class HasDeadline(Protocol):
    """Something that must end in time."""

    @property
    def deadline(self) -> float:
        """The time of the clock when it must be over."""

    def sweep(self, now: float) -> None:
        """End what is overdue. Called at the deadline, and a few times a second before it."""


@define(eq=False)
class Deadlines:
    """Sweeps what was added, every `tick` seconds and when a deadline is reached."""

    clock: IReactorTime
    _tick: float = 0.25
    _watched: dict[HasDeadline, None] = field(factory=dict, init=False)  # an ordered set
    _timer: IDelayedCall | None = field(default=None, init=False)
    _due: float = field(default=0.0, init=False)

    def add(self, item: HasDeadline, now: float) -> None:
        """Sweep `item` from now on."""
        self._watched[item] = None
        due = min(item.deadline, now + self._tick)
        if self._timer is None:
            self._schedule(now, due)
        elif due < self._due:
            self._due = due
            self._timer.reset(max(0.0, due - now))

    def discard(self, item: HasDeadline) -> None:
        """Sweep `item` no more."""
        self._watched.pop(item, None)

    def stop(self) -> None:
        """Forget everything and cancel the timer."""
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, now: float, due: float) -> None:
        self._due = due
        self._timer = self.clock.callLater(max(0.0, due - now), self._run)

    def _run(self) -> None:
        self._timer = None
        now = self.clock.seconds()
        try:
            for item in tuple(self._watched):
                if item in self._watched:  # an earlier one may have ended it
                    item.sweep(now)
        finally:
            # A sweep may have added an item, which has set the timer already.
            if self._watched and self._timer is None:
                soonest = min(item.deadline for item in self._watched)
                self._schedule(now, max(min(soonest, now + self._tick), now + _MIN_WAIT))
