"""The library: `Fetcher(agent, clock).fetch(url)`, or `add(url, callback)` and then `run()`."""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IAgent

from evserve.fetch.agents import AgentClient
from evserve.fetch.downloader import Downloader
from evserve.fetch.interfaces import HTTPClient, Sink
from evserve.fetch.job import Callback, Job, Result
from evserve.fetch.policy import Decider, Policy
from evserve.http.errors import BadURL
from evserve.http.headers import Headers
from evserve.http.request import Request
from evserve.http.settings import Timeouts
from evserve.http.url import parse_url


_NO_HEADERS = Headers()


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

    def __attrs_post_init__(self) -> None:
        client: HTTPClient = self._agent
        if IAgent.providedBy(self._agent):
            client = AgentClient(self._agent, self._clock, self.policy.user_agent.encode())
        decider = Decider(self.policy, self._random, self._wall)
        self._downloader = Downloader(
            client, self._clock, decider, self.timeouts, on_finish=self._proceed
        )

    def fetch(
        self,
        url: str,
        method: bytes = b"GET",
        headers: Iterable[tuple[bytes, bytes]] = (),
        timeouts: Timeouts | None = None,
    ) -> Deferred[Result]:
        """Fetch `url`. The Deferred never fails, because errors are in the result.

        Cancelling it cancels the request.
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

        answer: Deferred[Result] = Deferred(cancel)
        job = self.start(url, done, method, Headers(list(headers)), timeouts)
        return answer

    def add(self, url: str, callback: Callback) -> None:
        """Queue `url` for `run`, which calls `callback` with its result."""
        self._added.append((url, callback))

    def run(self) -> Deferred[None]:
        """Fetch what was added; fires when nothing is left, additions of callbacks included."""
        done: Deferred[None] = Deferred()
        self._runs.append(done)
        self._proceed()
        return done

    def close(self) -> None:
        """Cancel everything. URLs that are not fetched yet get a result with the error."""
        self._downloader.close()

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
        except BadURL as error:
            callback(Result.not_sent(url, error))
            return None
        request = Request(parsed, method, headers, follow=False, timeouts=timeouts)
        return self.submit(Job(url, request, callback, self.sinks))

    def submit(self, job: Job) -> Job:
        """Run a job."""
        self._downloader.submit(job)
        return job

    def _proceed(self) -> None:
        while self._runs and self._added:
            url, callback = self._added.popleft()
            self.start(url, callback)
        if not self._downloader.jobs and not self._added:
            runs, self._runs = self._runs, []
            for run in runs:
                run.callback(None)
