"""`--queue URL`: fetches what events ask for, and acknowledges them when the result is on disk."""

from typing import Any, TypeVar

from attrs import define, evolve, field
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from evserve.events import BadEvent, Event, EventQueue, QueueError, check_type, open_queue
from evserve.fetch.fetcher import Fetcher
from evserve.fetch.job import Result
from evserve.fetch.orders import BadOrder, Order, parse_order
from evserve.fetch.output.recorder import Recorder, write_error_message
from evserve.interfaces import IHost


T = TypeVar("T")

EVENT_TYPE = "fetch.url"
_PAUSE = 1.0  # seconds after trouble with the queue, whose engine has a back-off of its own
_PROXY_REST = 60.0  # seconds until an event comes again whose proxy was down
_log = Logger(namespace="evserve.fetch")


def queue_service(
    options: usage.Options, host: IHost, fetcher: Fetcher, recorder: Recorder
) -> "QueueService":
    """Open the queue; raises UsageError."""
    results = options["results-tube"]
    try:
        if results is not None:
            check_type(results)
        queue = open_queue(options["queue"], host.reactor)
    except BadEvent as error:
        raise usage.UsageError(f"--results-tube {error}") from error
    except QueueError as error:
        raise usage.UsageError(str(error)) from error
    return QueueService(host, queue, fetcher, recorder, options["concurrency"], results)


@define(eq=False, slots=False)
class QueueService(Service):
    """Has `slots` loops, each of which takes one event at a time.

    results_type: of the events that carry results; None for none.
    """

    _host: IHost
    _queue: EventQueue
    _fetcher: Fetcher
    _recorder: Recorder
    _slots: int
    _results_type: str | None = None
    _loops: list[Deferred[None]] = field(factory=list, init=False)
    _given_up: set[Deferred[Any]] = field(factory=set, init=False)  # at the end, if not yet there
    _trouble: str = field(default="", init=False)  # with the queue, said already

    def startService(self) -> None:
        """Begin to take events."""
        Service.startService(self)
        self._recorder.on_error = self._broken
        self._loops = [Deferred.fromCoroutine(self._loop()) for _ in range(self._slots)]
        for loop in self._loops:
            loop.addErrback(self._unforeseen)

    def stopService(self) -> Deferred[None]:
        """Give events back whose URL is not fetched yet; keep and acknowledge the others."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for waiting in list(self._given_up):
            waiting.cancel()
        with self._recorder.reader_timeout(self._host.reactor):
            await DeferredList(self._loops)
            self._recorder.is_closing = True
            self._fetcher.close()
            await self._recorder.settle()
        await self._queue.close()
        self._recorder.terminal.stop()
        await self._recorder.close()

    async def _loop(self) -> None:
        while self.running:
            try:
                event = await self._unless_stopped(self._queue.reserve([EVENT_TYPE]))
                self._trouble = ""
                if event is not None:
                    await self._serve(event)
            except QueueError as error:
                self._complain(str(error))
                await self._unless_stopped(deferLater(self._host.reactor, _PAUSE))

    def _complain(self, trouble: str) -> None:
        """Say it once, and not once for each loop and second."""
        if trouble != self._trouble:
            self._trouble = trouble
            _log.warn("the queue: {error}", error=trouble)

    async def _unless_stopped(self, waited_for: Deferred[T]) -> T:
        self._given_up.add(waited_for)
        try:
            return await waited_for
        finally:
            self._given_up.discard(waited_for)

    async def _serve(self, event: Event) -> None:
        try:
            order = parse_order(event.body)
        except BadOrder as error:
            _log.warn("event {id}: {error}", id=event.id, error=error)
            await self._queue.bury(event, str(error))
            return
        if await self._fetch(event, order):
            await self._queue.ack(event)
        # If not, the event goes back, now or when the process ends.

    def _kept(self, result: Result) -> Deferred[bool]:
        kept: Deferred[bool] = Deferred()
        self._recorder.record(result.url, result, kept.callback)
        return kept

    async def _fetch(self, event: Event, order: Order) -> bool:
        """Fetch and keep the result; return whether it is kept. Meanwhile the event is ours.

        Behind a proxy that is down there is no result: the event goes back for a while.
        """
        touching = LoopingCall(self._touch, event)
        touching.clock = self._host.reactor
        touching.start(event.ttr / 2, now=False)
        try:
            result = await self._unless_stopped(self._begin(order))
            if result.is_proxy_down:
                await self._queue.retry(event, _PROXY_REST)
                await self._unless_stopped(deferLater(self._host.reactor, _PAUSE))
                return False
            is_kept = await self._kept(result)
            if is_kept and self._results_type is not None:
                await self._queue.put(self._results_type, result.as_json().encode())
        finally:
            touching.stop()
        return is_kept

    def _begin(self, order: Order) -> Deferred[Result]:
        timeouts = self._fetcher.timeouts
        if order.timeout is not None:
            timeouts = evolve(timeouts, total=order.timeout)
        return self._fetcher.fetch(order.url, order.method, order.headers, timeouts)

    def _touch(self, event: Event) -> Any:
        return self._queue.touch(event).addErrback(self._untouched, event)

    def _untouched(self, failure: Failure, event: Event) -> None:
        _log.warn("event {id}: {error}", id=event.id, error=failure.getErrorMessage())

    def _unforeseen(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            _log.failure("taking events failed", failure)
            self._host.fail(f"taking events failed: {failure.getErrorMessage()}")

    def _broken(self, error: OSError) -> None:
        self._host.fail(write_error_message(error))
