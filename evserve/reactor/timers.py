"""Timers: Twisted's heap, and one timer of uvloop's for the earliest.

Twisted's asyncio reactor asks for the time and walks to the earliest call whenever one is added.
That costs as much as the rest of a small request; here adding a call that is not the earliest
costs nothing more than the heap.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import DelayedCall, ReactorBase


_MANY = 256


class Timers(AsyncioSelectorReactor):
    """IReactorTime on `loop`."""

    loop: Any
    _due: float | None = None  # when uvloop is to call, in seconds of the reactor's clock
    _handle: Any = None

    def callLater(
        self,
        delay: float,
        callable: Callable[..., Any],  # noqa: A002  # Twisted's name for it
        *args: object,
        **kwargs: object,
    ) -> DelayedCall:
        """See IReactorTime."""
        call = ReactorBase.callLater(self, delay, callable, *args, **kwargs)
        if self._due is None or call.time < self._due:
            self._arrange(call.time, delay)
        elif len(self._newTimedCalls) == _MANY:
            # Time to file them, and to forget those that were cancelled.
            self._arrange(self.seconds(), 0)
        return call

    def _arrange(self, due: float, delay: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._due = due
        self._handle = self.loop.call_later(delay, self._onTimer)

    def _onTimer(self) -> None:
        self._due = self._handle = None
        self.runUntilCurrent()
        self._reschedule()

    def _reschedule(self) -> None:
        delay = self.timeout()
        if delay is None:
            return
        due = self.seconds() + delay
        if self._due is None or due < self._due:
            self._arrange(due, delay)
