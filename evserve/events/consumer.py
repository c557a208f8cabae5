"""The consumer loop that `work` and `fetch --queue` share: reserve, handle, settle."""

from bisect import bisect
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from random import random
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    FirstError,
    gatherResults,
)
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from evserve.backoff import BackOff
from evserve.events.errors import NotReserved, QueueError, QueueFull
from evserve.events.event import Event
from evserve.events.event_queue import EventQueue


T = TypeVar("T")

LOOK_UP = 1.0
"""Seconds between two look-ups of the types that exist."""

FEW_TYPES = 100
"""So many types are reserved whether they have events or not."""

COUNTED_TYPES = 1000
"""Of more types, those whose events are counted at one look-up, to forget those without."""

QUEUE_RETRIES = BackOff(initial=0.1, ceiling=5.0)
"""Between attempts to reserve while the queue fails; the engine may also back off."""

_log = Logger()


@define(eq=False)
class Delivery:
    """A reserved event that a handler works on.

    The consumer touches the event until `ack`, `retry` or `bury` settles it; these fail as the
    methods of EventQueue do. But `ack` and `retry` are repeated while the queue is out of room
    for them, until the consumer is stopped: the work is done and need not be done again. An event
    that is not settled comes back when its TTR ends or the queue is closed.

    pause: waits, the longer the more failures there were; False if the consumer is stopping.
    given_back: fires when the queue has answered to `Consumer.give_back`.
    """

    event: Event
    _queue: EventQueue
    _pause: Callable[[int], Awaitable[bool]]
    given_back: Deferred[None] | None = field(init=False, default=None)
    _settling: bool = field(init=False, default=False)
    _touching: LoopingCall = field(init=False)

    def ack(self, *, result: bytes = b"", keep: float = 0) -> Deferred[None]:
        """Remove the event: the work is done; keep: see EventQueue.ack."""
        # Only what a caller asks for is passed on: an engine may lack the history.

        def settle() -> Deferred[None]:
            return self._queue.ack(self.event, result=result, keep=keep)

        return Deferred.fromCoroutine(self._settle(settle))

    def retry(self, delay: float) -> Deferred[None]:
        """Give the event back, to be ready after `delay` seconds."""
        return Deferred.fromCoroutine(self._settle(lambda: self._queue.retry(self.event, delay)))

    async def _settle(self, settle: Callable[[], Deferred[None]]) -> None:
        failures = 0
        try:
            while True:
                self._settling = True
                try:
                    await settle()
                except QueueFull:
                    failures += 1
                    if failures == 1:
                        self._warn("cannot be settled yet", Failure())
                    self._settling = False
                    if not await self._pause(failures):
                        raise
                else:
                    return
        finally:
            self.stop_touching()

    def bury(self, reason: str, *, keep: float = 0) -> Deferred[None]:
        """Set the event aside, with a record of `reason`, until an operator kicks it."""
        self.stop_touching()
        return self._queue.bury(self.event, reason, keep=keep)

    def start_touching(self, clock: IReactorTime) -> None:
        """Touch the event from now on."""
        self._touching = LoopingCall(self._touch)
        self._touching.clock = clock
        # Two chances before the TTR ends, in case one touch is slow.
        self._touching.start(self.event.ttr / 3, now=False).addErrback(self._lost)

    def stop_touching(self) -> None:
        """Stop touching the event."""
        if self._touching.running:
            self._touching.stop()

    @property
    def is_held(self) -> bool:
        """Whether the event has been neither settled nor lost."""
        return bool(self._touching.running) and not self._settling

    def not_given_back(self, failure: Failure) -> None:
        """Log that the event comes back later, when its TTR ends or the connection does."""
        self._warn("could not be given back", failure)

    def _touch(self) -> Deferred[None] | None:
        if self._settling:  # the queue would say that the event is not reserved any more
            return None
        return self._queue.touch(self.event).addErrback(self._not_touched)

    def _not_touched(self, failure: Failure) -> None:
        """Go on touching, unless the reservation is lost: other failures may be transient."""
        failure.trap(QueueError)
        if failure.check(NotReserved):
            failure.raiseException()
        self._warn("could not be touched", failure)

    def _lost(self, failure: Failure) -> None:
        self._warn("is no longer held, but still being handled", failure)

    def _warn(self, happened: str, failure: Failure) -> None:
        _log.warn(
            "{event} {happened}: {reason}",
            event=self.event,
            happened=happened,
            reason=failure.getErrorMessage(),
        )


@define(eq=False)
class Consumer:
    """Reserves events and passes each to `handle`, at most `concurrency` at once.

    types: the types to reserve.  select: if some types are known only by a pattern, returns those
    to reserve, given all that exist; it is asked every second. Of more than FEW_TYPES that it
    adds, those without events are left out: a server keeps a type while a consumer asks for it.

    handle: settles its Delivery, and returns when another event may take its place. What it
    raises is logged, except for the CancelledError of a wait that `stop` cancelled.

    connected: called with whether the queue answered.  roll: a random number from 0 to 1.
    """

    queue: EventQueue
    clock: IReactorTime
    concurrency: int
    types: frozenset[str]
    handle: Callable[[Delivery], Awaitable[None]]
    select: Callable[[Iterable[str]], frozenset[str]] | None = None
    back_off: BackOff = QUEUE_RETRIES
    connected: Callable[[bool], object] = lambda _: None
    roll: Callable[[], float] = random
    _looked_up: float = field(init=False, default=float("-inf"))
    _named: frozenset[str] = field(init=False)
    _existing: frozenset[str] = field(init=False, default=frozenset())
    _last_counted: str = field(init=False, default="")
    _failures: int = field(init=False, default=0)
    _resume: float = field(init=False, default=float("-inf"))
    _stopping: bool = field(init=False, default=False)
    _waits: set[Deferred[Any]] = field(init=False, factory=set)
    _deliveries: set[Delivery] = field(init=False, factory=set)
    _loops: list[Deferred[None]] = field(init=False, factory=list)

    def start(self) -> None:
        """Start to reserve events."""
        self._named = self.types
        self._loops = [Deferred.fromCoroutine(self._consume()) for _ in range(self.concurrency)]

    def stop(self) -> Deferred[None]:
        """Reserve nothing more; fires when every handler that runs has ended."""
        self._stopping = True
        for wait in list(self._waits):
            wait.cancel()
        return DeferredList(self._loops).addCallback(lambda _: None)

    def give_back(self) -> int:
        """Make the events in the handlers' hands ready again, for a process that is about to end.

        Returns their number. A handler that goes on can no longer settle its event.
        """
        held = [each for each in self._deliveries if each.is_held]
        for delivery in held:
            delivery.given_back = delivery.retry(0).addErrback(delivery.not_given_back)
        return len(held)

    async def until_stopped(self, wait: Deferred[T]) -> T:
        """Return the result of `wait`, which `stop` cancels."""
        self._waits.add(wait)
        if self._stopping:
            wait.cancel()
        try:
            return await wait
        finally:
            self._waits.discard(wait)

    async def _consume(self) -> None:
        while not self._stopping:
            try:
                event = await self.until_stopped(Deferred.fromCoroutine(self._reserve()))
                if event is not None:
                    await self._deliver(event)
            except Exception as error:
                if self._is_stop(error):
                    return
                self._failed(error)
                await self._pause(self._resume - self.clock.seconds())

    async def _reserve(self) -> Event | None:
        """Return an event, or None when it is time to look up the types."""
        now = self.clock.seconds()
        if self.select is not None and now - self._looked_up >= LOOK_UP:
            # Set before the answer: one loop looks up, the others use the types known so far.
            self._looked_up = now
            await self._look_up(self.select)
        if not self.types:
            return await deferLater(self.clock, LOOK_UP)
        event = await self.queue.reserve(self.types, None if self.select is None else LOOK_UP)
        self._answered()
        return event

    async def _look_up(self, select: Callable[[Iterable[str]], frozenset[str]]) -> None:
        """Set the types to reserve: all, or those that are new or have had events lately."""
        existing = select(await self.queue.types())
        self._answered()
        found_by_pattern = existing - self._named
        if len(found_by_pattern) <= FEW_TYPES:
            self.types = existing
        else:
            self.types = (self.types & existing) | (existing - self._existing)
            await self._forget_empty(sorted(found_by_pattern))
        self._existing = existing

    async def _forget_empty(self, types: list[str]) -> None:
        """Count the events of the next of `types`, and reserve those that have any."""
        start = bisect(types, self._last_counted)
        counted = (types[start:] + types[:start])[:COUNTED_TYPES]
        try:
            depths = await gatherResults(map(self.queue.depth, counted), consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        pairs = zip(counted, depths, strict=True)
        used = [name for name, each in pairs if each.ready or each.delayed or each.reserved]
        self.types = self.types.difference(counted).union(used)
        self._last_counted = counted[-1]

    async def _deliver(self, event: Event) -> None:
        delivery = Delivery(event, self.queue, self._pause_after)
        delivery.start_touching(self.clock)
        self._deliveries.add(delivery)
        try:
            await self.handle(delivery)
        except QueueError as error:
            _log.warn("{event} was not settled: {reason}", event=event, reason=str(error))
            await self._pause(self.back_off.initial)
        except Exception as error:
            if not self._is_stop(error):
                _log.failure("{event} was not settled", event=event)
        finally:
            delivery.stop_touching()
            self._deliveries.discard(delivery)
        if delivery.given_back is not None:
            await delivery.given_back  # before the queue is closed

    async def _pause_after(self, failures: int) -> bool:
        await self._pause(self.back_off.delay(failures, self.roll()))
        return not self._stopping

    def _is_stop(self, error: Exception) -> bool:
        """Whether `stop` cancelled a wait. A wait that was cancelled for another reason failed."""
        return self._stopping and isinstance(error, CancelledError)

    async def _pause(self, seconds: float) -> None:
        with suppress(CancelledError):
            await self.until_stopped(deferLater(self.clock, seconds))

    def _failed(self, error: Exception) -> None:
        """Set when all loops ask the queue again; log the first failure of an outage."""
        now = self.clock.seconds()
        if now < self._resume:
            return
        self._failures += 1
        self._resume = now + self.back_off.delay(self._failures, self.roll())
        self.connected(False)
        if self._failures == 1:
            reason = str(error) if isinstance(error, QueueError) else repr(error)
            _log.warn("cannot reserve events: {reason}; trying again", reason=reason)

    def _answered(self) -> None:
        if self._failures:
            _log.info("the queue answers again")
        self._failures = 0
        self.connected(True)
