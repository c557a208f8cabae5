"""One-shot jobs: services that work once and then end the process, as several commands do."""

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from typing_extensions import override

from evserve.interfaces import IHost
from evserve.writing import UnwritableError


_log = Logger()


@define(eq=False)
class OneShotService(Service):
    """Works once, as soon as the reactor runs, and ends the process.

    `stopService` ends the work early and waits for the end of it.
    """

    _host: IHost
    _done: Deferred[None] | None = field(default=None, init=False)

    async def work(self) -> str | None:
        """Do the work; return why it failed, None if it did not. Raises UnwritableError."""
        raise NotImplementedError

    def cancel(self) -> None:
        """End the work early."""

    @override
    def startService(self) -> None:
        Service.startService(self)
        self._host.reactor.callWhenRunning(self._begin)

    @override
    def stopService(self) -> Deferred[None] | None:
        Service.stopService(self)
        self.cancel()
        return self._done

    def _begin(self) -> None:
        if self.running:
            self._done = Deferred.fromCoroutine(self._work())

    async def _work(self) -> None:
        try:
            failure = await self.work()
        except UnwritableError as error:
            failure = str(error)
        except Exception:  # a bug, for which the traceback is needed
            failure = "the run failed unexpectedly"
            _log.failure(failure)
        if failure is None:
            self._host.finish()
        else:
            self._host.fail(failure)
