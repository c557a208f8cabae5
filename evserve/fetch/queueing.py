"""`--queue URL`: fetches what events ask for, and acknowledges them when the result is on disk."""

from attrs import define, evolve, field
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python import usage

from evserve.events import BadEvent, EventQueue, QueueError, check_type, open_queue
from evserve.events.backoff import BackOff
from evserve.events.consumer import Consumer, Delivery
from evserve.fetch.fetcher import Fetcher
from evserve.fetch.orders import BadOrder, Order, parse_order
from evserve.fetch.recorder import Recorder, line_on
from evserve.fetch.result import Result
from evserve.interfaces import IHost


EVENT_TYPE = "fetch.url"
_PAUSE = 1.0  # seconds between attempts while the queue or a proxy fails
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
    """Fetches what events ask for, at most `concurrency` URLs at once.

    results_type: of the events that carry results; None for none.
    """

    _host: IHost
    _queue: EventQueue
    _fetcher: Fetcher
    _recorder: Recorder
    _concurrency: int
    _results_type: str | None = None
    _consumer: Consumer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._consumer = Consumer(
            self._queue,
            self._host.reactor,
            self._concurrency,
            frozenset([EVENT_TYPE]),
            self._handle,
            back_off=BackOff(_PAUSE, _PAUSE),
        )

    def startService(self) -> None:
        """Start to reserve events."""
        Service.startService(self)
        self._recorder.broken = self._broken
        self._consumer.start()

    def stopService(self) -> Deferred[None]:
        """Give events back whose URL is not fetched yet; keep and acknowledge the others."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        stopped = self._consumer.stop()
        with self._recorder.patience(self._host.reactor):
            await stopped
            self._recorder.is_over = True
            self._fetcher.close()
            await self._recorder.settle()
        await self._queue.close()
        self._recorder.screen.stop()
        await self._recorder.close()

    async def _handle(self, delivery: Delivery) -> None:
        try:
            await self._serve(delivery)
        except (CancelledError, QueueError):
            raise
        except Exception as error:
            _log.failure("taking events failed")
            self._host.fail(f"taking events failed: {error}")

    async def _serve(self, delivery: Delivery) -> None:
        try:
            order = parse_order(delivery.event.body)
        except BadOrder as error:
            _log.warn("event {id}: {error}", id=delivery.event.id, error=error)
            await delivery.bury(str(error))
            return
        result = await self._consumer.until_stopped(self._begin(order))
        if result.is_proxys:
            # There is no result while the proxy is down.
            await delivery.retry(_PROXY_REST)
            await self._consumer.until_stopped(deferLater(self._host.reactor, _PAUSE))
            return
        if not await self._kept(result):
            return  # the event comes back, at the latest when the process ends
        if self._results_type is not None:
            await self._queue.put(self._results_type, result.as_json().encode())
        await delivery.ack()

    def _begin(self, order: Order) -> Deferred[Result]:
        timeouts = self._fetcher.timeouts
        if order.timeout is not None:
            timeouts = evolve(timeouts, total=order.timeout)
        return self._fetcher.fetch(order.url, order.method, order.headers, timeouts)

    def _kept(self, result: Result) -> Deferred[bool]:
        kept: Deferred[bool] = Deferred()
        self._recorder.record(result.url, result, kept.callback)
        return kept

    def _broken(self, error: OSError) -> None:
        self._host.fail(line_on(error))
