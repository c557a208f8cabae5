"""One event from reservation to verdict: run the handler, keep the event, tell the queue."""

from collections.abc import Callable
from random import random

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from evserve.events import Event, EventQueue, NotReserved, QueueError
from evserve.plugin import one_line
from evserve.work.attempt import Attempt, InThread
from evserve.work.metrics import Outcome, WorkMetrics
from evserve.work.policy import Bury, Policy, Retry
from evserve.work.routing import Route, Routes


@define(eq=False)
class Runner:
    """Handles events.

    policy, timeout (seconds, None for no limit): for handlers that bring none of their own.
    in_thread: runs blocking handlers.  roll: a random number from 0 to 1.
    """

    queue: EventQueue
    routes: Routes
    clock: IReactorTime
    metrics: WorkMetrics
    in_thread: InThread
    policy: Policy = field(factory=Policy)
    timeout: float | None = None
    roll: Callable[[], float] = random
    _log: Logger = field(init=False, default=Logger())

    async def handle(self, event: Event) -> None:
        """Run the handler of `event` and settle the event; returns when the handler is over."""
        route = self.routes.find(event.type)
        assert route is not None, f"{event.type} was reserved, but nobody wants it"
        policy = self._policy_for(route)
        hopeless = policy.before(event)
        if hopeless is not None:
            await self._settle(event, route, hopeless, None)
            return
        timeout = self.timeout if route.timeout is None else route.timeout
        attempt = Attempt(self.clock, timeout or None)
        with self.metrics.running.track_inprogress():
            error = await self._run(attempt, route, event)
            await self._settle(event, route, self._verdict(policy, event, error), error)
            await self._real_end(attempt, route)

    def _policy_for(self, route: Route) -> Policy:
        if route.max_attempts is None:
            return self.policy
        return evolve(self.policy, max_attempts=route.max_attempts)

    async def _run(self, attempt: Attempt, route: Route, event: Event) -> BaseException | None:
        """Let the handler run, and hold on to the event meanwhile."""
        holding = LoopingCall(self._hold, event)
        holding.clock = self.clock
        # Two chances before the TTR ends, should one touch be slow.
        holding.start(event.ttr / 3, now=False).addErrback(self._lost_hold, event)
        try:
            with self.metrics.seconds.labels(route.pattern).time():
                attempt.begin(route, event, self.in_thread)
                return await attempt.outcome
        finally:
            if holding.running:
                holding.stop()

    def _hold(self, event: Event) -> Deferred[None]:
        """Touch `event`; only that it is not held any more ends the attempts to do so."""
        return self.queue.touch(event).addErrback(self._not_touched, event)

    def _not_touched(self, failure: Failure, event: Event) -> None:
        failure.trap(QueueError)
        if failure.check(NotReserved):
            failure.raiseException()
        self._log.warn(
            "event {event.id} ({event.type}) could not be touched: {reason}",
            event=event,
            reason=failure.getErrorMessage(),
        )

    def _lost_hold(self, failure: Failure, event: Event) -> None:
        self._log.warn(
            "event {event.id} ({event.type}) is no longer held, but still being handled: {reason}",
            event=event,
            reason=failure.getErrorMessage(),
        )

    def _verdict(
        self, policy: Policy, event: Event, error: BaseException | None
    ) -> Retry | Bury | None:
        if error is None:
            return None
        return policy.after_failure(event, one_line(error), self.roll())

    async def _settle(
        self, event: Event, route: Route, verdict: Retry | Bury | None, error: BaseException | None
    ) -> None:
        """Tell the queue; what becomes of the event is logged once the queue has confirmed it."""
        try:
            if verdict is None:
                await self.queue.ack(event)
                outcome = Outcome.DONE
            elif isinstance(verdict, Bury):
                outcome = await self._bury(event, verdict, error)
            else:
                outcome = await self._retry(event, verdict, error)
        except QueueError as problem:
            outcome = Outcome.LOST
            self._log.warn(
                "event {event.id} ({event.type}) {happened}, but the queue did not confirm it, "
                "so it may come again: {reason}",
                event=event,
                happened="was handled" if error is None else f"failed ({one_line(error)})",
                reason=str(problem),
            )
        self.metrics.events.labels(route.pattern, outcome.value).inc()

    async def _retry(self, event: Event, verdict: Retry, error: BaseException | None) -> Outcome:
        await self.queue.retry(event, verdict.delay)
        if error is not None:
            self._log.warn(
                "event {event.id} ({event.type}) failed, attempt {event.attempts}; "
                "again in {delay:.1f} seconds: {reason}",
                event=event,
                delay=verdict.delay,
                reason=one_line(error),
            )
        return Outcome.RETRIED

    async def _bury(self, event: Event, verdict: Bury, error: BaseException | None) -> Outcome:
        try:
            await self.queue.bury(event, verdict.reason)
        except NotReserved:
            raise
        except QueueError as problem:
            # Most likely there was no room for the record: keep the event until there is.
            self._log.warn(
                "event {event.id} ({event.type}) cannot be buried now: {reason}",
                event=event,
                reason=str(problem),
            )
            return await self._retry(event, Retry(self.policy.back_off.ceiling), error)
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
