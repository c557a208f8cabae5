"""Sends jobs to the engine when it is polite to, and decides what comes after each request."""

import os
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from evserve.fetch.errors import (
    Cancelled,
    ConnectFailed,
    ConnectionLost,
    FetchError,
    TimedOut,
    TLSFailed,
    TotalTimeout,
)
from evserve.fetch.gate import Gate
from evserve.fetch.job import Job
from evserve.fetch.manners import Manners
from evserve.fetch.polite.breaker import Breaker
from evserve.fetch.polite.schedule import Schedule
from evserve.fetch.polite.verdict import Again, Elsewhere, Finished, Judge, Verdict
from evserve.fetch.refusals import OriginDown, SaveFailed
from evserve.fetch.request import Request
from evserve.fetch.seam import Engine
from evserve.fetch.settings import Timeouts
from evserve.fetch.url import Origin


_log = Logger(namespace="evserve.fetch")
_SILENCE = (ConnectFailed, ConnectionLost, TimedOut, TLSFailed)  # what breakers count
_WORTH_SAYING = 2.0  # seconds; shorter pauses are nobody's news


@define(eq=False)
class Dispatcher:
    """Takes jobs with `submit`; each ends with a call of its `done`."""

    engine: Engine
    clock: IReactorTime
    manners: Manners
    judge: Judge
    timeouts: Timeouts = field(factory=Timeouts)
    schedule: Schedule[Job] = field(init=False)
    gate: Gate = field(init=False)
    _breakers: dict[Origin, Breaker] = field(factory=dict, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _pumping: bool = field(default=False, init=False)
    _resting: dict[Job, IDelayedCall] = field(factory=dict, init=False)

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
        breaker = self._breakers.get(origin)
        if breaker is not None and breaker.is_down(now):
            down = OriginDown(f"{origin} is down, as it seems: {breaker.reason}")
            self._finish(job, down if job.failure is None else job.failure)
            return
        is_resumed = job.tries > 0
        self.schedule.add(origin, job, now, delay=delay, first=is_resumed)

    def _begin(self, job: Job) -> None:
        now = self.clock.seconds()
        job.begun_at = now
        try:
            job.begin(self.engine, self._timed(job, now), self._ended)
        except Exception as error:
            job.close_copies(error)
            self.schedule.release(job.request.url.origin, now)
            self._finish(job, error)

    def _timed(self, job: Job, now: float) -> Request:
        """Return the job's request with what is left of its time; raises FetchError."""
        if job.is_cancelled:
            raise Cancelled("given up")
        timeouts = job.request.timeouts or self.timeouts
        if job.deadline is None:
            job.deadline = now + timeouts.total
            return job.request
        left = job.deadline - now
        if left <= 0:
            raise TotalTimeout(f"not complete after {timeouts.total:g} s")
        return evolve(job.request, timeouts=evolve(timeouts, total=left))

    def _ended(self, job: Job, error: Exception | None) -> None:
        now, origin = self.clock.seconds(), job.request.url.origin
        job.elapsed += now - job.begun_at
        if job.head is not None:
            self._breakers.pop(origin, None)  # any answer is a sign of life
        elif isinstance(error, _SILENCE) and not error.is_at_proxy:
            self._failed(origin, error, now)
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
            self._settle(job, error or _not_saved(trouble))
            return
        if not waits:
            self._settle(job, error)
            return
        done: Deferred[Any] = waits[0] if len(waits) == 1 else gatherResults(waits, True)
        done.addCallbacks(
            lambda _: self._settle(job, error),
            lambda failure: self._settle(job, _not_saved(_first(failure.value))),
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
            self._pause(origin, verdict.pause, f"answered {verdict.error}")
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

    def _failed(self, origin: Origin, error: Exception, now: float) -> None:
        breaker = self._breakers.setdefault(origin, Breaker())
        pause = breaker.failed(str(error), now)
        if pause:
            self._pause(origin, pause, str(error))
        elif breaker.is_down(now):
            for job in self.schedule.drain(origin):
                self._enqueue(job)

    def _pause(self, origin: Origin, seconds: float, why: str) -> None:
        now = self.clock.seconds()
        self.schedule.pause(origin, now + seconds, now)
        if seconds >= _WORTH_SAYING:
            _log.info(
                "{origin} {why}: pausing it for {seconds:.1f} s",
                origin=str(origin),
                why=why,
                seconds=seconds,
            )

    def _finish(self, job: Job, error: Exception | None) -> None:
        job.failure = error
        job.done(job.result(error))


def _first(error: Exception) -> Any:
    return error.subFailure.value if isinstance(error, FirstError) else error


def _named(error: Exception) -> Exception:
    return _not_saved(error) if isinstance(error, OSError) else error


def _not_saved(error: Exception) -> Exception:
    if isinstance(error, FetchError):
        return error
    if not isinstance(error, OSError) or not error.strerror:
        return SaveFailed(str(error))
    # Of two names, the second is what was to be made.
    name = error.filename2 or error.filename
    return SaveFailed(f"{error.strerror}: {os.fsdecode(name)}" if name else error.strerror)
