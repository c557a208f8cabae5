"""`--queue URL`: take URLs from events of the type `fetch.url`.

The body of an event is a URL, or a JSON object with `url` and optionally `method`, `headers` and
`timeout`. An event is acknowledged when its result is on disk.
"""

import json
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python import usage
from typing_extensions import override

from evserve.events import (
    BackOff,
    BadEvent,
    Consumer,
    Delivery,
    EventQueue,
    QueueError,
    check_type,
    open_queue,
)
from evserve.fetch.fetcher import Fetcher
from evserve.fetch.output.recorder import Recorder, write_error_message
from evserve.fetch.policy import check_page_headers
from evserve.fetch.text import MarkedDecoder
from evserve.http.errors import FetchError
from evserve.http.headers import Headers
from evserve.http.url import parse_url
from evserve.interfaces import IHost
from evserve.options import MAX_TIMER_SECONDS


EVENT_TYPE = "fetch.url"
_PAUSE = 1.0  # seconds between attempts while the queue or a proxy fails
_PROXY_RETRY = 60.0  # seconds until the retry of an event whose proxy was down
_KEYS = frozenset(["url", "method", "headers", "timeout"])
_METHODS = ("GET", "HEAD")  # an event may come twice, so its method must be safe to repeat
_log = Logger(namespace="evserve.fetch")


def make_consumer(
    options: usage.Options, host: IHost, fetcher: Fetcher, recorder: Recorder
) -> "ConsumerService":
    """Open the queue and return the service that consumes its events; raises UsageError."""
    results = options["results-tube"]
    try:
        if results is not None:
            check_type(results)
        queue = open_queue(options["queue"], host.reactor)
    except BadEvent as error:
        raise usage.UsageError(f"--results-tube {error}") from error
    except QueueError as error:
        raise usage.UsageError(str(error)) from error
    headers = Headers(options["header"])
    return ConsumerService(
        host, queue, fetcher, recorder, options["concurrency"], results, headers
    )


@define(eq=False, slots=False)
class ConsumerService(Service):
    """Fetches the URLs of events, at most `concurrency` at once, until it is stopped.

    results_type: the type of the events that carry results; None for no such events.  headers: of
    all requests, unless an event has its own of the same name.
    """

    _host: IHost
    _queue: EventQueue
    _fetcher: Fetcher
    _recorder: Recorder
    _concurrency: int
    _results_type: str | None = None
    _headers: Headers = field(factory=Headers)
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

    @override
    def startService(self) -> None:
        Service.startService(self)
        self._recorder.on_error = lambda error: self._host.fail(write_error_message(error))
        try:
            self._queue.open()
        except QueueError as error:
            self._host.fail(str(error))
        else:
            self._consumer.start()

    @override
    def stopService(self) -> Deferred[None]:
        """Give back events whose URL is not fetched yet; record and acknowledge the others."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        stopped = self._consumer.stop()
        with self._recorder.reader_timeout(self._host.reactor):
            await stopped
            self._recorder.is_closing = True
            self._fetcher.close()
            await self._recorder.settle()
        await self._queue.close()
        self._recorder.terminal.stop()
        await self._recorder.close()

    async def _handle(self, delivery: Delivery) -> None:
        try:
            await self._fetch(delivery)
        except (CancelledError, QueueError):
            raise
        except Exception as error:
            _log.failure("handling an event failed")
            self._host.fail(f"handling an event failed: {error}")

    async def _fetch(self, delivery: Delivery) -> None:
        try:
            wanted = parse_body(delivery.event.body)
        except BadEventBody as error:
            _log.warn("event {id}: {error}", id=delivery.event.id, error=error)
            await delivery.bury(str(error))
            return
        timeouts = self._fetcher.timeouts
        if wanted.timeout is not None:
            timeouts = evolve(timeouts, total=wanted.timeout)
        own = [name.lower() for name, _ in wanted.headers]
        headers = self._headers.without(*own).plus(*wanted.headers)
        result = await self._consumer.until_stopped(
            self._fetcher.fetch(wanted.url, wanted.method, headers, timeouts)
        )
        if result.is_proxy_down:
            await delivery.retry(_PROXY_RETRY)
            await self._consumer.until_stopped(deferLater(self._host.reactor, _PAUSE))
            return
        is_kept: Deferred[bool] = Deferred()
        self._recorder.record(result.url, result, is_kept.callback)
        if not await is_kept:
            return  # the event comes back, at the latest when the process ends
        if self._results_type is not None:
            await self._queue.put(self._results_type, result.as_json().encode())
        await delivery.ack()


class BadEventBody(Exception):  # noqa: N818 - named as in `errors`
    """The body of an event is neither a URL nor a valid JSON object."""


@frozen
class EventBody:
    """The body of a `fetch.url` event. timeout: seconds; None for that of the fetcher."""

    url: str
    method: bytes = b"GET"
    headers: Headers = field(factory=Headers)
    timeout: float | None = None


def parse_body(data: bytes) -> EventBody:
    """Parse the body of a `fetch.url` event; raises BadEventBody with the reason in one line."""
    text = MarkedDecoder().decode(data, final=True).strip()
    body = _parse_object(text) if text.startswith("{") else EventBody(text)
    try:
        parse_url(body.url)
        check_page_headers(body.headers)
    except FetchError as error:
        raise BadEventBody(str(error)) from None
    return body


def _parse_object(text: str) -> EventBody:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise BadEventBody(f"not JSON: {error}") from None
    except RecursionError:
        raise BadEventBody("not JSON: too deep") from None
    unknown = sorted(given.keys() - _KEYS)
    if unknown:
        raise BadEventBody(f"unknown key {unknown[0]!r}; known: {', '.join(sorted(_KEYS))}")
    url, method = given.get("url"), given.get("method", "GET")
    if not isinstance(url, str):
        raise BadEventBody('no "url" that is a string')
    if method not in _METHODS:
        raise BadEventBody(f"method {method!r} is not one of {', '.join(_METHODS)}")
    headers = _parse_headers(given.get("headers", {}))
    timeout = _parse_timeout(given.get("timeout"))
    return EventBody(url, method.encode("ascii"), headers, timeout)


def _parse_headers(given: Any) -> Headers:
    if not (isinstance(given, dict) and all(isinstance(each, str) for each in given.values())):
        raise BadEventBody('"headers" is not an object of strings')
    try:
        lines = [(_raw(name), _raw(value)) for name, value in given.items()]
    except UnicodeEncodeError:
        raise BadEventBody('"headers" cannot be sent: a lone surrogate') from None
    return Headers(lines)


def _raw(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _parse_timeout(given: Any) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise BadEventBody('"timeout" is not a number of seconds')
    if not 0 < given <= MAX_TIMER_SECONDS:
        raise BadEventBody(f'"timeout" is not above 0 and up to {MAX_TIMER_SECONDS} seconds')
    return float(given)
