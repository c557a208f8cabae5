"""One timer for everything that must not take for ever.

Thousands of requests with three time-outs each would keep the reactor busy with timers that never
fire. Here one sweep looks at all of them a few times a second, and at the exact moment of the
earliest total deadline.
"""

from typing import Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime


_BREATH = 0.001  # seconds between sweeps, whatever is overdue


class Watched(Protocol):
    """Something with a deadline, in the clock's seconds."""

    @property
    def deadline(self) -> float:
        """When it must be over."""

    def sweep(self, now: float) -> None:
        """End what is overdue."""


@define(eq=False)
class Deadlines:
    """Calls `sweep` on what it watches, every `tick` seconds and when a deadline is reached."""

    clock: IReactorTime
    _tick: float = 0.25
    _watched: dict[Watched, None] = field(factory=dict, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _due: float = field(default=0.0, init=False)

    def add(self, watched: Watched, now: float) -> None:
        """Watch from now on."""
        self._watched[watched] = None
        due = min(watched.deadline, now + self._tick)
        if self._timer is None:
            self._schedule(now, due)
        elif due < self._due:
            self._due = due
            self._timer.reset(max(0.0, due - now))

    def discard(self, watched: Watched) -> None:
        """Watch no more."""
        self._watched.pop(watched, None)

    def stop(self) -> None:
        """Leave no timer behind."""
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
            for watched in tuple(self._watched):
                if watched in self._watched:  # an earlier one may have ended it
                    watched.sweep(now)
        finally:
            self._go_on(now)

    def _go_on(self, now: float) -> None:
        # Ending one may have begun another, which then has set the timer.
        if self._watched and self._timer is None:
            soonest = min(watched.deadline for watched in self._watched)
            self._schedule(now, max(min(soonest, now + self._tick), now + _BREATH))
