"""The worker: as many slots as may run at once, each of which reserves an event and handles it."""

from collections.abc import Callable
from contextlib import suppress
from random import random
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from evserve.events import Event, EventQueue
from evserve.events.backoff import BackOff
from evserve.plugin import one_line
from evserve.work.metrics import WorkMetrics
from evserve.work.routing import Routes
from evserve.work.runner import Runner


T = TypeVar("T")

LOOK = 1.0
"""Seconds between looks at which types exist, while some handler has a pattern."""

QUEUE_RETRIES = BackOff(initial=0.1, ceiling=5.0)
"""Between attempts to reserve while the queue fails; its engine has a back-off of its own."""


@define(eq=False)
class Worker:
    """Reserves and handles events, at most `concurrency` at once."""

    queue: EventQueue
    routes: Routes
    runner: Runner
    clock: IReactorTime
    metrics: WorkMetrics
    concurrency: int
    roll: Callable[[], float] = random
    _log: Logger = field(init=False, default=Logger())
    _types: frozenset[str] = field(init=False, default=frozenset())
    _looked: float = field(init=False, default=float("-inf"))
    _failures: int = field(init=False, default=0)
    _resume: float = field(init=False, default=float("-inf"))
    _stopping: bool = field(init=False, default=False)
    _waits: set[Deferred[Any]] = field(init=False, factory=set)
    _slots: list[Deferred[None]] = field(init=False, factory=list)

    def start(self) -> None:
        """Begin to reserve."""
        self._types = self.routes.exact
        self._slots = [Deferred.fromCoroutine(self._slot()) for _ in range(self.concurrency)]

    def stop(self) -> Deferred[None]:
        """Reserve no more; fires when every handler that runs has ended."""
        self._stopping = True
        for wait in list(self._waits):
            wait.cancel()
        return DeferredList(self._slots).addCallback(lambda _: None)

    async def _slot(self) -> None:
        while not self._stopping:
            try:
                event = await self._until_stopped(Deferred.fromCoroutine(self._next()))
            except CancelledError:
                return
            except Exception as error:
                await self._pause(error)
                continue
            self._answered()
            if event is not None:
                await self._handle(event)

    async def _until_stopped(self, wait: Deferred[T]) -> T:
        self._waits.add(wait)
        try:
            return await wait
        finally:
            self._waits.discard(wait)

    async def _next(self) -> Event | None:
        """Return an event, or None when it is time to look for new types."""
        patterns = self.routes.patterns
        now = self.clock.seconds()
        if patterns and now - self._looked >= LOOK:
            # Marked before the answer: one slot looks, the others use what was seen before.
            self._looked = now
            self._types = self.routes.wanted(await self.queue.types())
        if not self._types:
            return await deferLater(self.clock, LOOK)
        return await self.queue.reserve(self._types, LOOK if patterns else None)

    async def _handle(self, event: Event) -> None:
        try:
            await self.runner.handle(event)
        except Exception:
            self._log.failure("event {event.id} ({event.type}) was not settled", event=event)

    async def _pause(self, error: Exception) -> None:
        """Wait, all slots alike, before the queue is asked again."""
        now = self.clock.seconds()
        if now >= self._resume:
            self._failures += 1
            self._resume = now + QUEUE_RETRIES.delay(self._failures, self.roll())
            self.metrics.connected.set(0)
            if self._failures == 1:
                self._log.warn("no events: {reason}; trying again", reason=one_line(error))
        with suppress(CancelledError):
            await self._until_stopped(deferLater(self.clock, self._resume - now))

    def _answered(self) -> None:
        if self._failures:
            self._log.info("the queue answers again")
        self._failures = 0
        self.metrics.connected.set(1)
