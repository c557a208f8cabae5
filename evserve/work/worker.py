"""The worker: runs the handler of each event and settles the event by the outcome."""

from collections.abc import Callable
from random import random

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from evserve.events import EventQueue, NotReserved, QueueError
from evserve.events.consumer import Consumer, Delivery
from evserve.plugin import one_line
from evserve.work.attempt import Attempt, InThread
from evserve.work.metrics import Outcome, WorkMetrics
from evserve.work.policy import Bury, Policy, Retry
from evserve.work.routing import Route, Routes


@define(eq=False)
class Worker:
    """Runs the handlers of events, at most `concurrency` at once.

    in_thread: runs blocking handlers.  policy, timeout (seconds, None for no limit): for handlers
    that bring none of their own.  roll: a random number from 0 to 1.
    """

    queue: EventQueue
    routes: Routes
    clock: IReactorTime
    metrics: WorkMetrics
    in_thread: InThread
    concurrency: int
    policy: Policy = field(factory=Policy)
    timeout: float | None = None
    roll: Callable[[], float] = random
    _consumer: Consumer = field(init=False)
    _log: Logger = field(init=False, default=Logger())

    def __attrs_post_init__(self) -> None:
        self._consumer = Consumer(
            self.queue,
            self.clock,
            self.concurrency,
            self.routes.exact,
            self._handle,
            select=self.routes.wanted if self.routes.patterns else None,
            connected=self.metrics.connected.set,
            roll=self.roll,
        )

    def start(self) -> None:
        """Start to reserve events."""
        self._consumer.start()

    def stop(self) -> Deferred[None]:
        """Reserve nothing more; fires when every handler that runs has ended."""
        return self._consumer.stop()

    async def _handle(self, delivery: Delivery) -> None:
        """Run the handler and settle the event; return when the handler has really ended."""
        event = delivery.event
        route = self.routes.find(event.type)
        assert route is not None, f"{event.type} was reserved, but has no handler"
        policy = self._policy_for(route)
        hopeless = policy.before(event)
        if hopeless is not None:
            await self._settle(delivery, route, hopeless, None)
            return
        timeout = self.timeout if route.timeout is None else route.timeout
        attempt = Attempt(self.clock, timeout or None)
        with self.metrics.running.track_inprogress():
            with self.metrics.seconds.labels(route.pattern).time():
                attempt.begin(route, event, self.in_thread)
                error = await attempt.outcome
            verdict = None
            if error is not None:
                verdict = policy.after_failure(event, one_line(error), self.roll())
            await self._settle(delivery, route, verdict, error)
            await self._real_end(attempt, route)

    def _policy_for(self, route: Route) -> Policy:
        if route.max_attempts is None:
            return self.policy
        return evolve(self.policy, max_attempts=route.max_attempts)

    async def _settle(
        self,
        delivery: Delivery,
        route: Route,
        verdict: Retry | Bury | None,
        error: BaseException | None,
    ) -> None:
        """Tell the queue; log what becomes of the event once the queue has confirmed it."""
        try:
            if verdict is None:
                await delivery.ack()
                outcome = Outcome.DONE
            elif isinstance(verdict, Bury):
                outcome = await self._bury(delivery, verdict, error)
            else:
                outcome = await self._retry(delivery, verdict.delay, error)
        except QueueError as problem:
            outcome = Outcome.LOST
            self._log.warn(
                "event {event.id} ({event.type}) {happened}, but the queue did not confirm it, "
                "so it may come again: {reason}",
                event=delivery.event,
                happened="was handled" if error is None else f"failed ({one_line(error)})",
                reason=str(problem),
            )
        self.metrics.events.labels(route.pattern, outcome.value).inc()

    async def _retry(
        self, delivery: Delivery, delay: float, error: BaseException | None
    ) -> Outcome:
        await delivery.retry(delay)
        if error is not None:
            self._log.warn(
                "event {event.id} ({event.type}) failed, attempt {event.attempts}; "
                "again in {delay:.1f} seconds: {reason}",
                event=delivery.event,
                delay=delay,
                reason=one_line(error),
            )
        return Outcome.RETRIED

    async def _bury(
        self, delivery: Delivery, verdict: Bury, error: BaseException | None
    ) -> Outcome:
        event = delivery.event
        try:
            await delivery.bury(verdict.reason)
        except NotReserved:
            raise
        except QueueError as problem:
            # Most likely there was no room for the record: keep the event until there is.
            self._log.warn(
                "event {event.id} ({event.type}) cannot be buried now: {reason}",
                event=event,
                reason=str(problem),
            )
            return await self._retry(delivery, self.policy.back_off.ceiling, error)
        if error is None:
            self._log.error(
                "event {event.id} ({event.type}) is buried: {reason}",
                event=event,
                reason=verdict.reason,
            )
        else:
            self._log.failure(
                "event {event.id} ({event.type}) is buried after attempt {event.attempts}",
                Failure(error, type(error), error.__traceback__),
                event=event,
            )
        return Outcome.BURIED

    async def _real_end(self, attempt: Attempt, route: Route) -> None:
        if attempt.ended.called:
            return
        self._log.warn(
            "the handler of {pattern} goes on after its time-out; it keeps its place among those "
            "that may run at once",
            pattern=route.pattern,
        )
        with self.metrics.overdue.track_inprogress():
            await attempt.ended
