"""Sends jobs to the client when it is polite to, and acts on what comes back."""

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from evserve.fetch.breaker import Breakers, Peer
from evserve.fetch.errors import SaveFailed, sink_error
from evserve.fetch.interfaces import HTTPClient
from evserve.fetch.job import Job
from evserve.fetch.policy import (
    Decider,
    Decision,
    Finish,
    Redirect,
    Retry,
)
from evserve.fetch.robots import RobotsFilter
from evserve.fetch.scheduler import Scheduler
from evserve.http.errors import Cancelled, FetchError, TotalTimeout, UnwantedBody
from evserve.http.proxy import Proxy
from evserve.http.redirects import is_redirect
from evserve.http.settings import Timeouts
from evserve.http.url import Origin


_log = Logger(namespace="evserve.fetch")
_LOGGED_PAUSE = 2.0  # seconds; shorter pauses are not worth a line


@define(eq=False)
class Downloader:
    """Takes jobs with `submit`; each ends with a call of its `callback`.

    A job waits in `robots` for its origin's robots.txt, in `scheduler` for its turn, in `_timers`
    for its next try, and in `_held` while its proxy is paused.
    """

    client: HTTPClient
    clock: IReactorTime
    decider: Decider
    timeouts: Timeouts
    _on_finish: Callable[[], None]  # called after each job
    jobs: set[Job] = field(factory=set, init=False)  # not finished
    scheduler: Scheduler[Origin, Job] = field(init=False)
    robots: RobotsFilter = field(init=False)
    _breakers: Breakers = field(factory=Breakers, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)  # the scheduler's
    _timers: dict[Job | Proxy, IDelayedCall] = field(factory=dict, init=False)
    _held: dict[Proxy, list[Job]] = field(factory=dict, init=False)
    _is_starting: bool = field(default=False, init=False)
    is_closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        policy = self.decider.policy
        self.scheduler = Scheduler(policy.concurrency, policy.per_origin, policy.delay)
        self.robots = RobotsFilter(
            policy, self.clock, self.submit, self._enqueue, refuse=self._finish
        )

    def submit(self, job: Job) -> None:
        """Take a job; its request is sent as soon as it is polite."""
        self.jobs.add(job)
        if self.is_closed:
            self._finish(job, Cancelled("the fetcher is closed"))
        else:
            self._admit(job)

    def close(self) -> None:
        """Close the client and cancel all jobs."""
        for timer in (*self._timers.values(), *([self._timer] if self._timer else ())):
            timer.cancel()
        self._timers.clear()
        self._timer = None
        self.is_closed = self._is_starting = True  # start nothing more
        self.client.close()
        for job in tuple(self.jobs):
            self._finish(job, Cancelled("cancelled"))

    def _admit(self, job: Job) -> None:
        self.robots.check(job)
        self._start_jobs()

    def _start_jobs(self) -> None:
        """Start all jobs that may start now."""
        if self._is_starting:  # a job that ends at once brings us here again
            return
        self._is_starting = True
        try:
            while (job := self.scheduler.take(self.clock.seconds())) is not None:
                self._send(job)
        finally:
            self._is_starting = False
        self._set_timer()

    def _set_timer(self) -> None:
        wakes_at = self.scheduler.wakes_at
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wakes_at is not None:
            wait = max(0.0, wakes_at - self.clock.seconds())
            self._timer = self.clock.callLater(wait, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._start_jobs()

    def _enqueue(self, job: Job, delay: float = 0.0) -> None:
        origin, now = job.request.url.origin, self.clock.seconds()
        proxy = self.client.proxy_for(origin)
        down = self._breakers.error(origin, proxy, now)
        if down is not None:
            self._finish(job, down if job.error is None else job.error)
        elif proxy is not None and proxy in self._held:
            self._held[proxy].append(job)
        else:
            is_started = job.tries > 0
            self.scheduler.add(origin, job, now, delay=delay, first=is_started)

    def _send(self, job: Job) -> None:
        now = self.clock.seconds()
        job.sent_at = now
        try:
            job.send(self.client, job.timed_request(now, self.timeouts), self._response_ended)
        except Exception as error:
            job.close_writers(error)
            self.scheduler.release(job.request.url.origin, now)
            self._finish(job, error)

    def _response_ended(self, job: Job, error: Exception | None) -> None:
        now, origin = self.clock.seconds(), job.request.url.origin
        job.elapsed += now - job.sent_at
        self._update_breakers(job, error, now)
        self.scheduler.release(origin, now)
        if job.writers:
            self._close_writers(job, error)
        else:
            self._act(job, error)
        self._start_jobs()

    def _close_writers(self, job: Job, error: Exception | None) -> None:
        try:
            waits = job.close_writers(error)
        except Exception as failure:
            self._act(job, error or sink_error(failure))
            return
        if not waits:
            self._act(job, error)
            return
        closed: Deferred[Any] = waits[0] if len(waits) == 1 else gatherResults(waits, True)
        closed.addCallbacks(
            lambda _: self._act(job, error),
            lambda failure: self._act(job, sink_error(failure.value)),
        )
        closed.addErrback(lambda failure: _log.failure("cannot finish a job", failure))

    def _act(self, job: Job, error: Exception | None) -> None:
        """Finish, redirect or retry after a request."""
        decision = self._decide(job, error)
        if isinstance(decision, Finish):
            self._finish(job, decision.error)
        elif isinstance(decision, Redirect):
            job.redirects += 1
            job.request = decision.request
            self._admit(job)
        else:
            self._retry(job, decision)

    def _decide(self, job: Job, error: Exception | None) -> Decision:
        if job.is_cancelled:
            return Finish(Cancelled("cancelled"))
        tries = job.tries - job.redirects
        if job.resends and error is not None:
            return Retry(0.0, error)
        if error is not None and not _is_redirected(job, error):
            if isinstance(error, OSError):  # of a sink, while it wrote
                error = sink_error(error)
            return self.decider.after_error(job.request, error, tries)
        assert job.head is not None
        limit = job.max_redirects
        if limit is None:
            limit = self.decider.policy.max_redirects
        return self.decider.after_response(
            job.request, job.head, tries, redirects_left=limit - job.redirects
        )

    def _retry(self, job: Job, retry: Retry) -> None:
        now, origin = self.clock.seconds(), job.request.url.origin
        if retry.pause:
            self._pause(origin, retry.pause, f"{origin} answered {retry.error}")
        assert job.deadline is not None
        if now + retry.wait >= job.deadline:
            self._finish(job, retry.error)
            return
        job.error = retry.error
        job.body = None  # many jobs may wait
        if retry.wait > retry.pause:
            self._timers[job] = self.clock.callLater(retry.wait, self._retry_now, job)
        else:  # the pause of the origin is enough
            self._retry_now(job)

    def _retry_now(self, job: Job) -> None:
        self._timers.pop(job, None)
        self._enqueue(job)
        self._start_jobs()

    def _update_breakers(self, job: Job, error: Exception | None, now: float) -> None:
        origin = job.request.url.origin
        proxy = self.client.proxy_for(origin)
        if job.head is not None:
            self._breakers.answered(origin, proxy)
            return
        peer, pause = self._breakers.failed(origin, proxy, error, now)
        if pause and isinstance(peer, Proxy):
            self._hold(peer, pause, str(error))
        elif pause:
            self._pause(origin, pause, str(error))
        elif peer is not None and self._breakers.is_open(peer, now):
            for waiting in self._drain(peer):
                self._enqueue(waiting)  # which lets it fail

    def _drain(self, peer: Peer) -> list[Job]:
        """Take what waits for an origin, or for all origins behind a proxy."""
        if isinstance(peer, Origin):
            return self.scheduler.drain(peer)
        waiting: list[Job] = []
        for origin in self.scheduler.origins:
            if self.client.proxy_for(origin) == peer:
                waiting += self.scheduler.drain(origin)
        return waiting

    def _hold(self, proxy: Proxy, seconds: float, reason: str) -> None:
        self._held.setdefault(proxy, []).extend(self._drain(proxy))
        if proxy in self._timers:
            self._timers[proxy].cancel()
        self._timers[proxy] = self.clock.callLater(seconds, self._release, proxy)
        _log_pause(proxy.origin, seconds, reason)

    def _release(self, proxy: Proxy) -> None:
        del self._timers[proxy]
        for job in self._held.pop(proxy):
            self.robots.check(job)  # again, because it knows the origin's Crawl-delay
        self._start_jobs()

    def _pause(self, origin: Origin, seconds: float, reason: str) -> None:
        now = self.clock.seconds()
        self.scheduler.pause(origin, now + seconds, now)
        _log_pause(origin, seconds, reason)

    def _finish(self, job: Job, error: Exception | None) -> None:
        if job not in self.jobs:  # cancelled while a sink was closing
            return
        self.jobs.remove(job)
        job.error = error
        try:
            job.callback(job.result(error))
        except Exception:  # the other URLs go on
            _log.failure("the callback of {url} failed", url=str(job.request.url))
        self._on_finish()


def _is_redirected(job: Job, error: Exception) -> bool:
    """Whether the error concerns only the body of a redirect, which at most a sink wants."""
    if job.head is None or not is_redirect(job.head):
        return False
    if isinstance(error, UnwantedBody):
        return True
    is_of_body = isinstance(error, FetchError) and not isinstance(error, SaveFailed)
    return is_of_body and not isinstance(error, Cancelled | TotalTimeout)


def _log_pause(origin: Origin, seconds: float, reason: str) -> None:
    if seconds >= _LOGGED_PAUSE:
        _log.info(
            "{reason}: pausing {origin} for {seconds:.1f} s",
            origin=str(origin),
            reason=reason,
            seconds=seconds,
        )
