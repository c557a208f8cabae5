"""Consumers that wait for an event in memory: first come, first served, each with a time-out."""

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from evserve.events.errors import QueueError
from evserve.events.event import Event


@define(eq=False)
class _Waiter:
    types: frozenset[str]
    result: Deferred[Event | None]
    timer: IDelayedCall | None = None


@define(eq=False)
class WaitingConsumers:
    """The queue before the queue; cancelling a Deferred it gave out leaves it."""

    clock: IReactorTime
    _waiting: list[_Waiter] = field(init=False, factory=list)

    def join(self, types: frozenset[str]) -> Deferred[Event | None]:
        """Wait for an event of one of `types`."""
        result: Deferred[Event | None] = Deferred(self._forget)
        self._waiting.append(_Waiter(types, result))
        return result

    def limit(self, result: Deferred[Event | None], timeout: float) -> None:
        """End that wait with None after `timeout` seconds, at once if it is 0."""
        for waiter in self._waiting:
            if waiter.result is result and timeout > 0:
                waiter.timer = self.clock.callLater(timeout, self._end, waiter, None)
            elif waiter.result is result:
                return self._end(waiter, None)
        return None

    def serve(self, take: Callable[[frozenset[str]], Event | None]) -> None:
        """Give each, in turn, what `take` finds for its types."""
        for waiter in list(self._waiting):
            # Whoever was just served may have cancelled others.
            if waiter in self._waiting and (event := take(waiter.types)) is not None:
                self._end(waiter, event)

    def fail_all(self, error: QueueError) -> None:
        """End every wait with `error`."""
        for waiter in list(self._waiting):
            self._end(waiter, error)

    def _forget(self, result: "Deferred[Event | None]") -> None:
        for waiter in self._waiting:
            if waiter.result is result:
                return self._leave(waiter)
        return None

    def _end(self, waiter: _Waiter, outcome: Event | QueueError | None) -> None:
        self._leave(waiter)
        if isinstance(outcome, QueueError):
            waiter.result.errback(outcome)
        else:
            waiter.result.callback(outcome)

    def _leave(self, waiter: _Waiter) -> None:
        self._waiting.remove(waiter)
        if waiter.timer is not None and waiter.timer.active():
            waiter.timer.cancel()
