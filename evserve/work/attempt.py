"""One run of a handler: its outcome, which may be that its time is over, and its real end.

The two differ: a thread cannot be stopped, and a coroutine may ignore that it was cancelled. The
outcome decides about the event; the slot is free only at the real end, or a handler that never
ends would soon run more often than `--concurrency` allows.
"""

from collections.abc import Awaitable, Callable
from inspect import isasyncgen, isawaitable, iscoroutine, isgenerator
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from evserve.events import Event
from evserve.work.routing import Route


InThread = Callable[[Callable[[], Any]], Deferred[Any]]
"""Calls a function in a thread; the Deferred fires when it really returned or raised."""


class HandlerTimeout(Exception):  # noqa: N818 - read by operators, as Twisted's names are
    """A handler did not end in time."""


@define(eq=False)
class Attempt:
    """A handler that runs.

    outcome: what it raised, or None when it returned; HandlerTimeout once `timeout` seconds are
    over.  ended: fires when it really returned or raised.  Neither ever fails.
    """

    clock: IReactorTime
    timeout: float | None
    outcome: Deferred[BaseException | None] = field(init=False, factory=Deferred)
    ended: Deferred[None] = field(init=False, factory=Deferred)
    _timer: IDelayedCall | None = field(init=False, default=None)

    def begin(self, route: Route, event: Event, in_thread: InThread) -> None:
        """Call the handler."""
        if route.blocking:
            running = in_thread(lambda: _insist_on_plain(route.function(event)))
        else:
            running = maybeDeferred(lambda: _to_wait_for(route.function(event)))
        if self.timeout is not None:
            # A thread's Deferred would claim to have ended when it is cancelled.
            stop = None if route.blocking else running.cancel
            self._timer = self.clock.callLater(self.timeout, self._overdue, stop)
        running.addBoth(self._end)

    def _overdue(self, stop: Callable[[], None] | None) -> None:
        self.outcome.callback(HandlerTimeout(f"not done after {self.timeout:g} seconds"))
        if stop is not None:
            stop()

    def _end(self, result: object) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        # The end first: whoever hears the outcome asks whether the handler still runs.
        self.ended.callback(None)
        if not self.outcome.called:
            self.outcome.callback(result.value if isinstance(result, Failure) else None)


# Whatever a handler hands back without having run must not pass for success: the event would be
# acknowledged, and gone.


def _insist_on_plain(result: object) -> None:
    """Raise TypeError for what nobody in a thread would ever run or wait for."""
    if iscoroutine(result):
        result.close()
        raise TypeError("an async function cannot be a handler with blocking=True")
    if isawaitable(result):
        raise TypeError("a handler with blocking=True cannot return what has to be waited for")
    _insist_on_no_generator(result)


def _to_wait_for(result: object) -> object:
    """Return `result` so that maybeDeferred waits for it, if there is anything to wait for."""
    _insist_on_no_generator(result)
    if isawaitable(result) and not (iscoroutine(result) or isinstance(result, Deferred)):
        return Deferred.fromCoroutine(_wait_for(result))
    return result


async def _wait_for(result: Awaitable[object]) -> object:
    return await result


def _insist_on_no_generator(result: object) -> None:
    if isasyncgen(result) or (isgenerator(result) and not isawaitable(result)):
        raise TypeError("a handler that yields is a generator, which nobody runs")
