"""A run as a service: it ends the process when everything is fetched, and in good order before."""

import errno

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from evserve.fetch.fetcher import Fetcher
from evserve.fetch.recorder import Recorder
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
        running, self._running = self._running, None
        if self._bar is not None and self._bar.running:
            self._bar.stop()
        self.recorder.screen.stop()
        if running is not None:
            running.cancel()
            _log.info("stopped before everything was fetched")
            self._host.finish(1)
        self.recorder.is_over = True  # what is given up now is for the next run to fetch
        self._fetcher.close()
        try:
            await self.recorder.settle()
            if not self._is_broken:
                self._sum_up()
        except OSError as error:  # nobody reads on
            self.recorder.fail(error)
        finally:
            await self.recorder.close()

    def _begin(self) -> None:
        if not self.running:
            return
        self._began = self._host.reactor.seconds()
        self._bar = LoopingCall(self._draw)
        self._bar.clock = self._host.reactor
        self._bar.start(_REFRESH, now=False)
        running = self._running = Deferred.fromCoroutine(self._run.fetch_all())
        running.addCallbacks(self._over, self._failed)
        running.addErrback(self._unforeseen)

    def _over(self, _: None) -> None:
        self._running = None
        self._host.finish(1 if self.recorder.summary.total.failed else 0)

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
            self._host.fail(f"{error.filename or 'cannot write results'}: {error.strerror}")

    def _draw(self) -> None:
        run, total = self._run, self.recorder.summary.total
        expected = total.count + run.pending if run.is_fed else None
        note = f"{size(total.received)}, {total.failed} failed"
        self.recorder.screen.move(total.count, expected, note)

    def _sum_up(self) -> None:
        recorder, wall = self.recorder, self._host.reactor.seconds() - self._began
        before = 0 if recorder.journal is None else recorder.journal.finished
        for line in recorder.summary.lines(wall, before):
            recorder.summarise(line)
