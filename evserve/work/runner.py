"""Runs the handler of each event and settles the event by the outcome."""

import json
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from concurrent.futures import Future
from contextvars import copy_context
from enum import Enum
from functools import partial
from inspect import isawaitable, iscoroutine
from itertools import islice
from random import random
from threading import Thread
from traceback import TracebackException
from typing import Any, TypeVar

from attrs import define, evolve, field
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.reflect import safe_repr
from twisted.python.threadpool import ThreadPool
from typing_extensions import override

from evserve.aio import NoAsyncioLoop, as_deferred, reactor_loop
from evserve.events import (
    MAX_RESULT,
    Consumer,
    Delivery,
    Event,
    EventQueue,
    NotReserved,
    QueueError,
    current_event,
)
from evserve.plugin import MAX_TEXT, one_line, printable
from evserve.work.policy import Bury, Retry, RetryPolicy
from evserve.work.routing import Route, Routes


T = TypeVar("T")

InThread = Callable[[Callable[[], Any]], Deferred[Any]]
"""Calls a function in a thread; the Deferred fires when the function has returned or raised."""


# Of what is raised where no loop of asyncio's runs: by get_running_loop, get_event_loop, a future
# that is awaited, Event, Queue and other classes that wait, older aiohttp; by anyio and sniffio.
_NO_LOOP_TEXTS = (
    "no running event loop",
    "There is no current event loop in thread 'MainThread'.",
    "await wasn't used with future",
    "'NoneType' object has no attribute 'create_future'",
    "Timeout context manager should be used inside a task",
)
_NO_LOOP_CLASSES = ("NoEventLoopError", "AsyncLibraryNotFoundError")

CLEAN_UP = 1.0  # seconds after its time-out in which a handler may end without a warning

# Of each exception in a traceback that is logged, and of all together.
_MAX_FRAMES = 20
_MAX_CHUNKS = 100


class Outcome(Enum):
    """What became of an event after a run of its handler: the label `outcome` of a metric."""

    DONE = "done"
    RETRIED = "retried"
    BURIED = "buried"
    LOST = "lost"
    """The queue did not confirm what it was told: the event may come again."""


class WorkMetrics:
    """The metrics of one handler runner. The label `handler` is the handler's pattern."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "evserve_work_events", "Events handled.", ["handler", "outcome"], registry=registry
        )
        self.seconds = Histogram(
            "evserve_work_handler_seconds", "Time a handler took.", ["handler"], registry=registry
        )
        self.running = Gauge("evserve_work_running", "Handlers running now.", registry=registry)
        self.overdue = Gauge(
            "evserve_work_overdue",
            "Handlers still running after their timeout.",
            registry=registry,
        )
        self.connected = Gauge(
            "evserve_work_queue_up", "Whether the queue answered last time.", registry=registry
        )


@define(eq=False)
class HandlerRunner:
    """Runs the handlers of events, at most `concurrency` at once.

    in_thread: runs blocking handlers.  policy, timeout (seconds, None for no limit): for handlers
    without limits of their own.  keep: seconds for which the queue's history keeps what was
    handled.  roll: a random number from 0 to 1.
    """

    queue: EventQueue
    routes: Routes
    clock: IReactorTime
    metrics: WorkMetrics
    in_thread: InThread
    concurrency: int
    policy: RetryPolicy = field(factory=RetryPolicy)
    timeout: float | None = None
    keep: float = 0.0
    roll: Callable[[], float] = random
    _consumer: Consumer = field(init=False)
    _attempts: set["_Attempt"] = field(init=False, factory=set)
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

    def give_back(self) -> int:
        """Give back the events of the handlers that run, and cancel those handlers.

        Returns their number. What they do until the process ends no longer counts.
        """
        given_back = self._consumer.give_back()
        for attempt in list(self._attempts):
            attempt.give_up()
        return given_back

    async def _handle(self, delivery: Delivery) -> None:
        """Run the handler and settle the event; return when the handler has really ended."""
        event = delivery.event
        route = self.routes.find(event.type)
        assert route is not None, f"{event.type} was reserved, but has no handler"
        policy = self.policy
        if route.max_attempts is not None:
            policy = evolve(policy, max_attempts=route.max_attempts)
        hopeless = policy.before_attempt(event)
        if hopeless is not None:
            await self._settle(delivery, route, hopeless)
            return
        timeout = self.timeout if route.timeout is None else route.timeout
        attempt = _Attempt(self.clock, timeout or None)
        self._attempts.add(attempt)
        with self.metrics.running.track_inprogress():
            with self.metrics.seconds.labels(route.pattern).time():
                attempt.start(route, event, self.in_thread)
                error = await attempt.outcome
            self._attempts.discard(attempt)
            if attempt.given_up:
                return  # the event is given back
            verdict: Retry | Bury | None = None
            if isinstance(error, NoAsyncioLoop):
                verdict = Bury(one_line(error))  # no other attempt will do better
            elif error is not None:
                verdict = policy.after_failure(event, one_line(error), self.roll())
            await self._settle(delivery, route, verdict, error, attempt.result)
            if not attempt.ended.called:
                warning = self.clock.callLater(CLEAN_UP, self._warn_overdue, route)
                with self.metrics.overdue.track_inprogress():
                    await attempt.ended
                if warning.active():
                    warning.cancel()

    def _warn_overdue(self, route: Route) -> None:
        self._log.warn(
            "the handler of {pattern} goes on after its time-out, and counts as running until it "
            "ends",
            pattern=route.pattern,
        )

    async def _settle(
        self,
        delivery: Delivery,
        route: Route,
        verdict: Retry | Bury | None,
        error: BaseException | None = None,
        result: object = None,
    ) -> None:
        """Tell the queue; log what becomes of the event once the queue has confirmed it."""
        try:
            if verdict is None:
                kept = encode_result(result) if self.keep else b""
                await delivery.ack(result=kept, keep=self.keep)
                outcome = Outcome.DONE
            elif isinstance(verdict, Bury):
                outcome = await self._bury(delivery, verdict.reason, error)
            else:
                outcome = await self._retry(delivery, verdict.delay, error)
        except QueueError as problem:
            outcome = Outcome.LOST
            self._log.warn(
                "{event} {happened}, but the queue did not confirm it, so it may come again: "
                "{reason}",
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
                "{event} failed, attempt {event.attempts}; again in {delay:.1f} seconds: {reason}",
                event=delivery.event,
                delay=delay,
                reason=one_line(error),
            )
        return Outcome.RETRIED

    async def _bury(self, delivery: Delivery, reason: str, error: BaseException | None) -> Outcome:
        event = delivery.event
        try:
            await delivery.bury(reason, keep=self.keep)
        except NotReserved:
            raise
        except QueueError as problem:
            # Most likely there is no room for the record: retry the event until there is.
            self._log.warn(
                "{event} cannot be buried now: {reason}", event=event, reason=str(problem)
            )
            return await self._retry(delivery, self.policy.back_off.ceiling, error)
        if error is None:
            self._log.error("{event} is buried: {reason}", event=event, reason=reason)
        else:
            kind = type(error)
            failure = _ShownFailure(error, kind, error.__traceback__)  # type: ignore[no-untyped-call]  # Twisted's
            text = "{event} is buried after attempt {event.attempts}"
            self._log.failure(text, failure, event=event)
        return Outcome.BURIED


def encode_result(value: object) -> bytes:
    """Return what the history keeps of what a handler returned, at most MAX_RESULT bytes.

    Bytes as they are, text as UTF-8, nothing for None, else JSON, or the repr() of what JSON
    cannot express.
    """
    if value is None:
        return b""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)[:MAX_RESULT]
    if isinstance(value, str):
        text = value
    else:
        try:
            text = json.dumps(value)
        except Exception:  # of whatever class the value is
            text = safe_repr(value)
    kept = text[:MAX_RESULT].encode(errors="backslashreplace")[:MAX_RESULT]
    return kept.decode(errors="ignore").encode()  # no part of a character at the end


class HandlerTimeout(Exception):  # noqa: N818 - read by operators, as Twisted's names are
    """A handler did not end in time."""


@define(eq=False)
class _Attempt:
    """One run of a handler.

    The run may outlast its outcome, because a thread cannot be stopped and a coroutine may ignore
    that it was cancelled. The outcome decides about the event, but another handler may start only
    at the end: otherwise handlers that never end would exceed the concurrency.

    timeout: seconds, None for no limit.  outcome: what the handler raised, or None when it
    returned; HandlerTimeout when the timeout is over.  result: what it returned.  ended: fires
    when the handler has really returned or raised.  Neither Deferred ever fails.
    """

    clock: IReactorTime
    timeout: float | None
    outcome: Deferred[BaseException | None] = field(init=False, factory=Deferred)
    result: object = field(init=False, default=None)
    given_up: bool = field(init=False, default=False)
    ended: Deferred[None] = field(init=False, factory=Deferred)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _running: Deferred[object] = field(init=False)
    _cancel: Callable[[], object] | None = field(init=False, default=None)

    def start(self, route: Route, event: Event, in_thread: InThread) -> None:
        """Call the handler."""
        if self.timeout is not None:
            self._timer = self.clock.callLater(self.timeout, self._time_out)
        self._running = _run_coroutine(self._run(route, event, in_thread), self.clock)
        self._running.addBoth(self._end)

    def give_up(self) -> None:
        """Cancel the handler, whose outcome no longer counts."""
        self.given_up = True
        self.cancel()

    def cancel(self) -> None:
        cancel = self._running.cancel if self._cancel is None else self._cancel
        cancel()

    async def _run(self, route: Route, event: Event, in_thread: InThread) -> object:
        """Call the handler; wait for what it returns, and for what comes of that."""
        current_event.set(event)
        if route.blocking:
            # It cannot be cancelled: the Deferred of a thread would only seem to end.
            self._cancel = lambda: None
            call = partial(_finish_in_thread, route.function, event)
            return await in_thread(partial(copy_context().run, call))
        try:
            result = route.function(event)
            while True:
                if isinstance(result, Future):
                    self._cancel = result.cancel
                    result = await in_thread(result.result)
                    self._cancel = None
                elif isawaitable(result):
                    result = await result
                else:
                    break
        except BaseException as error:
            if reactor_loop(self.clock) is None and _wants_asyncio(error):
                raise NoAsyncioLoop(f"{one_line(error)}: this handler", self.clock) from error
            raise
        _refuse_unfinished(result)
        return result

    def _time_out(self) -> None:
        if self.given_up:
            return  # a second cancellation would end what it still awaits
        self.outcome.callback(HandlerTimeout(f"not done after {self.timeout:g} seconds"))
        self.cancel()

    def _end(self, result: object) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if not isinstance(result, Failure):
            self.result = result
        # The end comes first: a callback of the outcome asks whether the handler still runs.
        self.ended.callback(None)
        if not self.outcome.called:
            self.outcome.callback(result.value if isinstance(result, Failure) else None)


# A handler that returns something that still has to run must not count as done: its event would
# be acknowledged, and lost.


def _finish_in_thread(function: Callable[[Event], object], event: Event) -> object:
    """Call a handler and wait for a future that it returns; return the result.

    Raises TypeError for what nothing in a thread would run or wait for.
    """
    result = function(event)
    while isinstance(result, Future):
        result = result.result()
    if iscoroutine(result):
        result.close()
        raise TypeError("an async function cannot be a handler with blocking=True")
    if isawaitable(result):
        raise TypeError("a handler with blocking=True cannot return an awaitable")
    _refuse_unfinished(result)
    return result


def _refuse_unfinished(result: object) -> None:
    kind = type(result)
    if isinstance(result, Generator | AsyncIterator):
        raise TypeError("a handler cannot be a generator: nothing would run it")
    if isinstance(result, map | filter):
        raise TypeError(f"a handler returned a lazy {kind.__name__}: nothing would run it")
    # The results of multiprocessing, celery and gevent; the futures of libraries.
    if hasattr(kind, "add_done_callback") or (hasattr(kind, "ready") and hasattr(kind, "wait")):
        raise TypeError(f"a handler returned {kind.__name__}, which is not waited for: wait there")


def _run_coroutine(coroutine: Coroutine[Any, Any, T], reactor: object) -> Deferred[T]:
    """Run it in a task of asyncio's, or in Twisted's way if the reactor has no loop for one."""
    if reactor_loop(reactor) is None:
        return Deferred.fromCoroutine(coroutine)
    return as_deferred(coroutine, reactor)


def _wants_asyncio(error: BaseException) -> bool:
    """Return whether an error, or its cause, says that there is no loop to wait in.

    anyio and sniffio have a class for that, asyncio only texts. An error that was being handled
    is no cause: there may be another way without a loop, which failed for a reason of its own.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        kind = type(current)
        if kind.__name__ in _NO_LOOP_CLASSES:
            return True
        if kind in (RuntimeError, AttributeError) and str(current) in _NO_LOOP_TEXTS:
            return True
        seen.add(id(current))
        current = current.__cause__
    return False


class _ShownFailure(Failure):
    """A failure whose text is bounded and printable, whatever its exception says."""

    @override
    def getTraceback(self, elideFrameworkCode: int = 0, detail: str = "default") -> str:
        error = self.value
        assert error is not None
        shown = TracebackException(type(error), error, error.__traceback__, limit=-_MAX_FRAMES)
        # Indented, so that no line of a message looks like a line of the log.
        lines = [
            f"  {printable(line)}"
            for chunk in islice(shown.format(), _MAX_CHUNKS)
            for line in chunk[:MAX_TEXT].rstrip("\n").split("\n")
        ]
        return "\n".join([*lines, ""])


class _DaemonThread(Thread):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, daemon=True, **kwargs)


@define(eq=False)
class HandlerThreads:
    """A pool of up to `size` threads for blocking handlers, started when first needed.

    It is not the reactor's own pool, which looks up names. Its threads are daemons: a handler
    that never returns must not keep the process from ending.
    """

    reactor: Any
    size: int
    _pool: ThreadPool | None = field(init=False, default=None)
    _busy: int = field(init=False, default=0)

    def call(self, function: Callable[[], T]) -> Deferred[T]:
        """Call `function` in a thread; the Deferred fires when it has returned or raised."""
        if self._pool is None:
            self._pool = ThreadPool(minthreads=0, maxthreads=self.size, name="handlers")
            self._pool.threadFactory = _DaemonThread
            self._pool.start()
        self._busy += 1
        return deferToThreadPool(self.reactor, self._pool, function).addBoth(self._returned)

    def _returned(self, outcome: T) -> T:
        self._busy -= 1
        return outcome

    def stop(self) -> None:
        """Stop the threads, unless one is busy: `ThreadPool.stop` would wait for it."""
        if self._pool is not None and not self._busy:
            self._pool.stop()
