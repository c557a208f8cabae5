"""The library: `Fetcher(agent, clock).fetch(url)`, or `add(url, callback)` and then `run()`."""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from inspect import iscoroutine
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.http_headers import Headers as WebHeaders
from twisted.web.iweb import IAgent

from evserve.fetch.agents import AgentClient
from evserve.fetch.downloader import Downloader
from evserve.fetch.interfaces import HTTPClient, Sink
from evserve.fetch.job import Callback, Job
from evserve.fetch.policy import Decider, Policy, check_page_headers
from evserve.fetch.result import Result
from evserve.http.errors import Cancelled, FetchError
from evserve.http.headers import Headers
from evserve.http.request import Request
from evserve.http.settings import Timeouts
from evserve.http.url import parse_url


_log = Logger(namespace="evserve.fetch")
_NO_HEADERS = Headers()

_Text = str | bytes
_Values = _Text | Sequence[_Text]
# As treq and Twisted have them, too.
AnyHeaders = (
    Iterable[tuple[_Text, _Values]] | Mapping[str, _Values] | Mapping[bytes, _Values] | WebHeaders
)


@define(eq=False)
class Fetcher:
    """Fetches many URLs at once, politely.

    agent: `evserve.http.client.Client`, or any IAgent.  clock: the reactor.  sinks: where
    responses go, see `evserve.fetch.output`.  random: 0 to 1, for jitter.  wall: seconds since
    the epoch, for dates in Retry-After.
    """

    _agent: Any
    _clock: IReactorTime
    policy: Policy = field(factory=Policy)
    sinks: Sequence[Sink] = ()
    timeouts: Timeouts = field(factory=Timeouts)
    _random: Callable[[], float] = random.random
    _wall: Callable[[], float] = time.time
    _downloader: Downloader = field(init=False)
    _added: deque[tuple[str, Callback]] = field(init=False, factory=deque)
    _runs: "list[Deferred[None]]" = field(init=False, factory=list)
    _callbacks: "set[Deferred[Any]]" = field(init=False, factory=set)  # that are not done
    _is_refusing: bool = field(init=False, default=False)  # URLs of a closed fetcher

    def __attrs_post_init__(self) -> None:
        client: HTTPClient = self._agent
        if IAgent.providedBy(self._agent):
            client = AgentClient(self._agent, self._clock, self.policy.user_agent.encode())
        elif not hasattr(client, "proxy_for"):
            raise TypeError(f"neither an IAgent nor an evserve.http.client.Client: {client!r}")
        decider = Decider(self.policy, self._random, self._wall)
        self._downloader = Downloader(
            client, self._clock, decider, self.timeouts, on_finish=self._proceed
        )

    def fetch(
        self,
        url: str | bytes,
        method: str | bytes = b"GET",
        headers: AnyHeaders | None = None,
        timeouts: Timeouts | None = None,
    ) -> Deferred[Result]:
        """Fetch `url`. The Deferred does not fail, because errors are in the result.

        Cancelling it cancels the request, and then it fails with CancelledError.
        """
        job: Job | None = None

        def cancel(answer: Deferred[Result]) -> None:
            answer.errback(CancelledError())  # first, or the job would answer
            if job is not None:
                job.cancel()

        def done(result: Result) -> None:
            nonlocal job
            job = None  # or it would be a cycle for the garbage collector
            if not answer.called:
                answer.callback(result)

        lines = Headers(list(_header_lines(headers or ())))
        answer: Deferred[Result] = Deferred(cancel)
        started = self.start(_as_text(url), done, _as_bytes(method).upper(), lines, timeouts)
        if not answer.called:
            job = started
        return answer

    def add(self, url: str | bytes, callback: Callback) -> None:
        """Queue `url` for `run`, which calls `callback` with its result.

        If the callback is an `async def`, or returns a Deferred, `run` waits for it. What it
        raises is logged. Once the fetcher is closed, the result is a Cancelled, at once; if the
        callback then adds again, that raises the Cancelled, or it could go on for ever.
        """
        if self._is_refusing:
            raise Cancelled("the fetcher is closed")
        self._added.append((_as_text(url), callback))
        if self._downloader.is_closed:
            self._refuse_added()

    def run(self) -> Deferred[None]:
        """Fetch what was added; fires when nothing is left, additions of callbacks included."""
        done: Deferred[None] = Deferred()
        self._runs.append(done)
        self._proceed()
        return done

    def close(self) -> None:
        """Cancel everything. URLs that are not fetched yet get a result with Cancelled."""
        self._downloader.close()
        self._refuse_added()
        self._proceed()

    def start(
        self,
        url: str,
        callback: Callback,
        method: bytes = b"GET",
        headers: Headers = _NO_HEADERS,
        timeouts: Timeouts | None = None,
    ) -> Job | None:
        """Fetch `url` and call `callback`, perhaps at once; return the job, to cancel it."""
        try:
            parsed = parse_url(url)
            if headers.lines:
                check_page_headers(headers)
        except FetchError as error:
            callback(Result.not_sent(url, error))
            return None
        request = Request(parsed, method, headers, follow=False, timeouts=timeouts)
        return self.fetch_page(url, request, callback)

    def fetch_page(self, url: str, request: Request, callback: Callback) -> Job:
        """Fetch a page that `url` names, and pass the response to the sinks."""
        policy = self.policy
        job = Job(url, request, callback, self.sinks, True, policy.max_size, policy.max_body)
        return self.submit(job)

    def submit(self, job: Job) -> Job:
        """Run a job."""
        self._downloader.submit(job)
        return job

    def _proceed(self) -> None:
        while self._runs and self._added:
            self._start_added()
        if not (self._downloader.jobs or self._added or self._callbacks):
            runs, self._runs = self._runs, []
            for run in runs:
                run.callback(None)

    def _refuse_added(self) -> None:
        self._is_refusing = True
        try:
            while self._added:
                self._start_added()
        finally:
            self._is_refusing = False

    def _start_added(self) -> None:
        url, callback = self._added.popleft()
        self.start(url, partial(self._call, callback))

    def _call(self, callback: Callback, result: Result) -> None:
        """Call a callback of `add`; what it waits for is noted for `run`."""
        try:
            returned = callback(result)
        except Exception:
            if not self._is_refusing:  # then it is most likely the Cancelled of `add`
                _log.failure("the callback of {result} failed", result=result)
            return
        if iscoroutine(returned):
            returned = Deferred.fromCoroutine(returned)
        if not isinstance(returned, Deferred):
            return

        def ended(_: object) -> None:
            self._callbacks.discard(returned)
            self._proceed()

        self._callbacks.add(returned)
        returned.addErrback(
            lambda failure: _log.failure("the callback of {result} failed", failure, result=result)
        )
        returned.addCallback(ended)


def _as_text(url: str | bytes) -> str:
    if isinstance(url, bytes):
        return url.decode("utf-8", "surrogateescape")
    if not isinstance(url, str):
        raise TypeError(f"a URL is text or bytes, not {type(url).__name__}")
    return url


def _header_lines(headers: AnyHeaders) -> Iterator[tuple[bytes, bytes]]:
    pairs: Any = headers
    if isinstance(headers, WebHeaders):
        pairs = headers.getAllRawHeaders()
    elif isinstance(headers, Mapping):
        pairs = headers.items()
    for name, values in pairs:
        for value in [values] if isinstance(values, str | bytes) else values:
            yield _as_bytes(name), _as_bytes(value)


def _as_bytes(text: str | bytes) -> bytes:
    if isinstance(text, str):
        return text.encode("utf-8", "surrogateescape")
    if not isinstance(text, bytes):
        raise TypeError(f"a method, and a header's name and value, is text or bytes: {text!r}")
    return text
