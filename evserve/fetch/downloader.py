"""Sends jobs to the engine when it is polite to, and decides what comes after each request."""

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from evserve.fetch.breaker import Health, Place
from evserve.fetch.errors import not_saved
from evserve.fetch.interfaces import Engine
from evserve.fetch.job import Job
from evserve.fetch.policy import Again, Elsewhere, Finished, Judge, Manners, Verdict
from evserve.fetch.robots import Gate
from evserve.fetch.scheduler import Schedule
from evserve.http.errors import Cancelled
from evserve.http.proxies import Proxy
from evserve.http.settings import Timeouts
from evserve.http.url import Origin


_log = Logger(namespace="evserve.fetch")
_WORTH_SAYING = 2.0  # seconds; shorter pauses are nobody's news


@define(eq=False)
class Dispatcher:
    """Takes jobs with `submit`; each ends with a call of its `done`."""

    engine: Engine
    clock: IReactorTime
    manners: Manners
    judge: Judge
    timeouts: Timeouts = field(factory=Timeouts)
    schedule: Schedule[Origin, Job] = field(init=False)
    gate: Gate = field(init=False)
    _health: Health = field(factory=Health, init=False)
    _held: dict[Proxy, list[Job]] = field(factory=dict, init=False)  # until a proxy has rested
    _timer: IDelayedCall | None = field(default=None, init=False)
    _pumping: bool = field(default=False, init=False)
    _resting: dict[Job | Proxy, IDelayedCall] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        manners = self.manners
        self.schedule = Schedule(manners.total, manners.per_origin, manners.delay)
        self.gate = Gate(manners, self.clock, self._enqueue, self._finish)

    def submit(self, job: Job) -> None:
        """Begin with a job as soon as it is polite."""
        self.gate.admit(job)
        self.pump()

    def pump(self) -> None:
        """Start whatever may start now."""
        if self._pumping:  # a job that ends at once brings us here again
            return
        self._pumping = True
        try:
            while (job := self.schedule.take(self.clock.seconds())) is not None:
                self._begin(job)
        finally:
            self._pumping = False
        self._set_timer()

    def close(self) -> None:
        """Leave no timer; jobs that wait are not told."""
        for timer in (*self._resting.values(), *([self._timer] if self._timer else ())):
            timer.cancel()
        self._resting.clear()
        self._timer = None
        self._pumping = True  # start nothing more

    def _set_timer(self) -> None:
        wakes_at = self.schedule.wakes_at
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wakes_at is not None:
            wait = max(0.0, wakes_at - self.clock.seconds())
            self._timer = self.clock.callLater(wait, self._woken)

    def _woken(self) -> None:
        self._timer = None
        self.pump()

    def _enqueue(self, job: Job, delay: float = 0.0) -> None:
        origin, now = job.request.url.origin, self.clock.seconds()
        proxy = self.engine.proxy_for(origin)
        trouble = self._health.trouble(origin, proxy, now)
        if trouble is not None:
            self._finish(job, trouble if job.failure is None else job.failure)
        elif proxy is not None and proxy in self._held:
            self._held[proxy].append(job)
        else:
            is_resumed = job.tries > 0
            self.schedule.add(origin, job, now, delay=delay, first=is_resumed)

    def _begin(self, job: Job) -> None:
        now = self.clock.seconds()
        job.begun_at = now
        try:
            job.begin(self.engine, job.timed(now, self.timeouts), self._ended)
        except Exception as error:
            job.close_copies(error)
            self.schedule.release(job.request.url.origin, now)
            self._finish(job, error)

    def _ended(self, job: Job, error: Exception | None) -> None:
        now, origin = self.clock.seconds(), job.request.url.origin
        job.elapsed += now - job.begun_at
        self._note(job, error, now)
        self.schedule.release(origin, now)
        if job.copies:
            self._close_copies(job, error)
        else:
            self._settle(job, error)
        self.pump()

    def _close_copies(self, job: Job, error: Exception | None) -> None:
        try:
            waits = job.close_copies(error)
        except Exception as trouble:
            self._settle(job, error or not_saved(trouble))
            return
        if not waits:
            self._settle(job, error)
            return
        done: Deferred[Any] = waits[0] if len(waits) == 1 else gatherResults(waits, True)
        done.addCallbacks(
            lambda _: self._settle(job, error),
            lambda failure: self._settle(job, not_saved(failure.value)),
        )
        done.addErrback(lambda failure: _log.failure("a job did not settle", failure))

    def _settle(self, job: Job, error: Exception | None) -> None:
        """Decide what comes after a request."""
        verdict = self._verdict(job, error)
        if isinstance(verdict, Finished):
            self._finish(job, verdict.error)
        elif isinstance(verdict, Elsewhere):
            job.hops += 1
            job.request = verdict.request
            self.submit(job)
        else:
            self._again(job, verdict)

    def _verdict(self, job: Job, error: Exception | None) -> Verdict:
        if job.is_cancelled:
            return Finished(Cancelled("given up"))
        tries = job.tries - job.hops
        if job.again and error is not None:
            return Again(0.0, error)
        if error is not None and not job.skips_body:
            return self.judge.after_error(job.request, _named(error), tries)
        assert job.head is not None
        limit = self.manners.max_redirects if job.max_hops is None else job.max_hops
        return self.judge.after_response(job.request, job.head, tries, limit - job.hops)

    def _again(self, job: Job, verdict: Again) -> None:
        now, origin = self.clock.seconds(), job.request.url.origin
        if verdict.pause:
            self._pause(origin, verdict.pause, f"{origin} answered {verdict.error}")
        assert job.deadline is not None
        if now + verdict.wait >= job.deadline:
            self._finish(job, verdict.error)
            return
        job.failure = verdict.error
        if verdict.wait > verdict.pause:
            self._resting[job] = self.clock.callLater(verdict.wait, self._rested, job)
        else:
            self._rested(job)

    def _rested(self, job: Job) -> None:
        self._resting.pop(job, None)
        self._enqueue(job)
        self.pump()

    def _note(self, job: Job, error: Exception | None, now: float) -> None:
        """Note for the breakers what became of a request."""
        origin = job.request.url.origin
        proxy = self.engine.proxy_for(origin)
        if job.head is not None:
            self._health.answered(origin, proxy)
            return
        blamed, pause = self._health.failed(origin, proxy, error, now)
        if pause and isinstance(blamed, Proxy):
            self._hold(blamed, pause, str(error))
        elif pause:
            self._pause(origin, pause, str(error))
        elif blamed is not None and self._health.is_down(blamed, now):
            for each in self._waiting_for(blamed):
                self._enqueue(each)

    def _waiting_for(self, place: Place) -> list[Job]:
        """Take what waits for an origin, or for all that are behind a proxy."""
        if isinstance(place, Origin):
            return self.schedule.drain(place)
        waiting: list[Job] = []
        for origin in self.schedule.origins:
            if self.engine.proxy_for(origin) == place:
                waiting += self.schedule.drain(origin)
        return waiting

    def _hold(self, proxy: Proxy, seconds: float, why: str) -> None:
        self._held.setdefault(proxy, []).extend(self._waiting_for(proxy))
        if proxy in self._resting:
            self._resting[proxy].cancel()
        self._resting[proxy] = self.clock.callLater(seconds, self._let_go, proxy)
        _say_pause(proxy.origin, seconds, why)

    def _let_go(self, proxy: Proxy) -> None:
        del self._resting[proxy]
        for job in self._held.pop(proxy):
            self.gate.admit(job)  # which knows the delay of its origin
        self.pump()

    def _pause(self, origin: Origin, seconds: float, why: str) -> None:
        now = self.clock.seconds()
        self.schedule.pause(origin, now + seconds, now)
        _say_pause(origin, seconds, why)

    def _finish(self, job: Job, error: Exception | None) -> None:
        job.failure = error
        job.done(job.result(error))


def _named(error: Exception) -> Exception:
    return not_saved(error) if isinstance(error, OSError) else error


def _say_pause(origin: Origin, seconds: float, why: str) -> None:
    if seconds >= _WORTH_SAYING:
        _log.info(
            "{why}: pausing {origin} for {seconds:.1f} s",
            origin=str(origin),
            why=why,
            seconds=seconds,
        )
