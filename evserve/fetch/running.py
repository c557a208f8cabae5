"""A run as a service: it ends the process when everything is fetched, and in good order before."""

import errno

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from evserve.fetch.fetcher import Fetcher
from evserve.fetch.recorder import Recorder, line_on
from evserve.fetch.run import Run
from evserve.fetch.summary import size
from evserve.interfaces import IHost


_log = Logger(namespace="evserve.fetch")
_REFRESH = 0.2  # seconds; what the eye takes for moving


@define(eq=False, slots=False)
class RunService(Service):
    """Runs once, from the start of the service."""

    _host: IHost
    _fetcher: Fetcher
    _run: Run
    recorder: Recorder
    _began: float = field(default=0.0, init=False)
    _running: "Deferred[None] | None" = field(default=None, init=False)
    _is_broken: bool = field(default=False, init=False)
    _ending: "Deferred[None] | None" = field(default=None, init=False)
    _bar: LoopingCall | None = field(default=None, init=False)

    def startService(self) -> None:
        """Begin once the reactor runs."""
        Service.startService(self)
        self.recorder.broken = self._broken
        self._host.reactor.callWhenRunning(self._begin)

    def stopService(self) -> "Deferred[None]":
        """Give up what is not done, close the files, sum up."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._running is not None and self._ending is None:
            self._running.cancel()
            _log.info("stopped before everything was fetched")
            self._host.finish(1)
        self.recorder.is_over = True  # what is given up now is for the next run to fetch
        self._fetcher.close()
        with self.recorder.patience(self._host.reactor):
            await self._end()
        await self.recorder.close()

    def _begin(self) -> None:
        if not self.running:
            return
        self._began = self._host.reactor.seconds()
        self._bar = LoopingCall(self._draw)
        self._bar.clock = self._host.reactor
        self._bar.start(_REFRESH, now=False)
        running = self._running = Deferred.fromCoroutine(self._fetch())
        running.addErrback(self._failed)
        running.addErrback(self._unforeseen)

    async def _fetch(self) -> None:
        await self._run.fetch_all()
        await self._end()
        if not self._is_broken:
            self._host.finish(1 if self.recorder.summary.total.failed else 0)

    def _end(self) -> "Deferred[None]":
        """Keep what there is and sum up, once; fire when that is done."""
        if self._ending is None:
            self._ending = Deferred.fromCoroutine(self._keep_and_sum_up())
        return self._ending

    async def _keep_and_sum_up(self) -> None:
        if self._bar is not None and self._bar.running:
            self._bar.stop()
        self.recorder.screen.stop()
        await self.recorder.settle()
        if not self._is_broken:
            await self.recorder.sum_up(self._host.reactor.seconds() - self._began)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        self._running = None
        if isinstance(failure.value, OSError):
            self._broken(failure.value)
        else:
            failure.raiseException()

    def _unforeseen(self, failure: Failure) -> None:
        self._running = None
        _log.failure("the run failed", failure)
        self._host.fail(f"the run failed: {failure.getErrorMessage()}")

    def _broken(self, error: OSError) -> None:
        self._is_broken = True
        if error.errno == errno.EPIPE:
            self._host.finish(1)  # `| head` has seen enough
        else:
            self._host.fail(line_on(error))

    def _draw(self) -> None:
        run, total = self._run, self.recorder.summary.total
        expected = total.count + run.pending if run.is_fed else None
        note = f"{size(total.received)}, {total.failed} failed"
        self.recorder.screen.move(total.count, expected, note)
