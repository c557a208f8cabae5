"""The library: `Fetcher(agent, clock).fetch(url)`, or URLs and callbacks and then `run()`."""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import Factory, define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

from evserve.fetch.agents import as_engine
from evserve.fetch.downloader import Dispatcher
from evserve.fetch.interfaces import Engine, Store
from evserve.fetch.job import Done, Job, Result
from evserve.fetch.policy import Judge, Manners
from evserve.http.errors import BadURL, Cancelled
from evserve.http.messages import Headers
from evserve.http.request import Request
from evserve.http.settings import Timeouts
from evserve.http.url import URL, parse_url


_NO_HEADERS = Headers()


def _told(result: Result) -> None:
    """Whoever waited has been told already."""


@define(eq=False)
class Fetcher:
    """Fetches many URLs at once, politely.

    agent: `evserve.http.client.Client`, or any IAgent.  clock: the reactor.  stores: what keeps
    the responses (see `evserve.fetch.output`).  random, wall: where jitter and the date come from.
    """

    _agent: Any
    _clock: IReactorTime
    manners: Manners = field(factory=Manners)
    stores: Sequence[Store] = ()
    timeouts: Timeouts = field(factory=Timeouts)
    _random: Callable[[], float] = random.random
    _wall: Callable[[], float] = time.time
    _dispatcher: Dispatcher = field(
        init=False, default=Factory(lambda self: self._make_dispatcher(), takes_self=True)
    )
    _added: deque[tuple[str, Done]] = field(init=False, factory=deque)
    _jobs: set[Job] = field(init=False, factory=set)
    _idle: "list[Deferred[None]]" = field(init=False, factory=list)

    def fetch(
        self,
        url: str,
        method: bytes = b"GET",
        headers: Iterable[tuple[bytes, bytes]] = (),
        timeouts: Timeouts | None = None,
    ) -> Deferred[Result]:
        """Fetch `url`; what goes wrong is in the result, this does not fail.

        Cancelling the Deferred gives the URL up.
        """
        job: Job | None = None

        def cancel(answer: Deferred[Result]) -> None:
            answer.errback(CancelledError())  # first, or the job would answer
            if job is not None:
                job.cancel()

        def done(result: Result) -> None:
            if not answer.called:
                answer.callback(result)

        answer: Deferred[Result] = Deferred(cancel)
        job = self.start(url, done, method, Headers(list(headers)), timeouts)
        return answer

    def add(self, url: str, callback: Done) -> None:
        """Have `callback(result)` called when `url` is fetched, which begins with `run`."""
        self._added.append((url, callback))

    def run(self) -> Deferred[None]:
        """Fetch what was added; fires when nothing is left, what callbacks add included."""
        done: Deferred[None] = Deferred()
        self._idle.append(done)
        self._proceed()
        return done

    def close(self) -> None:
        """Give everything up; what was not fetched has a result that says so."""
        self._dispatcher.close()
        self._dispatcher.engine.close()
        for job in tuple(self._jobs):
            job.done(job.result(Cancelled("given up")))

    def start(
        self,
        url: str,
        done: Done,
        method: bytes = b"GET",
        headers: Headers | None = None,
        timeouts: Timeouts | None = None,
    ) -> Job | None:
        """Fetch `url` and call `done(result)`, maybe at once; the job is there to be cancelled."""
        try:
            parsed = parse_url(url)
        except BadURL as error:
            done(Result(url, error=f"BadURL: {error}"))
            return None
        return self.start_parsed(
            url, parsed, done, method=method, headers=headers, timeouts=timeouts
        )

    def start_parsed(
        self,
        text: str,
        url: URL,
        done: Done,
        *,
        method: bytes = b"GET",
        headers: Headers | None = None,
        timeouts: Timeouts | None = None,
    ) -> Job:
        """Do what `start` does for a URL that has been parsed; `text`: what it was."""
        request = Request(url, method, headers or _NO_HEADERS, follow=False, timeouts=timeouts)
        return self.submit(Job(text, request, done, self.stores))

    def submit(self, job: Job) -> Job:
        """Fetch what `job` says."""
        done = job.done

        def finished(result: Result) -> None:
            if job in self._jobs:  # not if it was given up while its body was being stored
                self._jobs.remove(job)
                job.done = _told  # or each job would be a cycle for the garbage collector
                done(result)
                self._proceed()

        job.done = finished
        self._jobs.add(job)
        self._dispatcher.submit(job)
        return job

    def _proceed(self) -> None:
        while self._idle and self._added:
            url, callback = self._added.popleft()
            self.start(url, callback)
        if not self._jobs and not self._added:
            idle, self._idle = self._idle, []
            for done in idle:
                done.callback(None)

    def _make_dispatcher(self) -> Dispatcher:
        engine: Engine = as_engine(self._agent, self._clock, self.manners.user_agent)
        judge = Judge(self.manners, self._random, self._wall)
        return Dispatcher(engine, self._clock, self.manners, judge, self.timeouts)
