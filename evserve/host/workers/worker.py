"""A worker: a process that serves from its parent's sockets, and ends with its parent."""

from typing import Any

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver
from twisted.python.usage import UsageError

from evserve.host import process
from evserve.host.application import GRACE, RootService
from evserve.host.endpoints import parse_endpoint
from evserve.host.workers.assignment import ORDERS, REPORTS, Assignment
from evserve.host.workers.control import Control
from evserve.host.workers.frames import Kind, Message
from evserve.host.workers.logs import WorkerObserver
from evserve.host.workers.sharing import Adopter, adoptable


REPORT_EVERY = 1.0  # seconds between snapshots of the metrics
SETTLE = 0.2  # seconds in which those let in last may say what they want


class WorkerRoot(RootService):
    """The root of a worker's tree."""

    def __init__(
        self,
        reactor: Any,
        twistd: dict[str, Any],
        log_format: str,
        drain: float,
        assignment: Assignment,
    ) -> None:
        super().__init__(reactor, twistd, log_format, drain)
        self._assignment = assignment
        self._control = Control(self._leave, self._cut_by_parent, self._orphaned)
        self._leaving = False
        self._reports = LoopingCall(self._report)
        self._reports.clock = reactor

    def setServiceParent(self, parent: Any) -> None:
        """Log as a worker: what the parent has said already is left to the parent."""
        super().setServiceParent(parent)
        observer = parent.getComponent(ILogObserver)
        if observer is not None:
            tagged = WorkerObserver(observer, self._assignment.number)
            parent.setComponent(ILogObserver, tagged)

    def endpoint(self, service: str, written: str, interface: str) -> IStreamServerEndpoint:
        """Return an endpoint on the socket that was inherited for it."""
        fileno = self._assignment.sockets.get((service, written))
        if fileno is None:
            raise UsageError(f"--workers: {written!r} is not an endpoint that its options name")
        return parse_endpoint(Adopter(self.reactor, fileno), adoptable(written), interface)

    def startService(self) -> None:
        """Start the services, then listen to the parent."""
        super().startService()
        standard_io: Any = StandardIO  # its stub knows nothing of other descriptors
        standard_io(self._control, ORDERS, REPORTS, self.reactor)

    def _reactor_running(self) -> None:
        process.on_stop_signals(self.reactor, self._on_signal)
        if self.failure is None:
            self._control.report(Message(Kind.READY))
            self._reports.start(REPORT_EVERY)

    def _report(self) -> None:
        self._control.report(Message(Kind.METRICS, tuple(self.metrics.collect())))

    def _on_signal(self, name: str) -> None:
        # Ctrl-C reaches every process of the terminal, and it is for the parent to decide. A
        # second SIGTERM may be systemd's to all of them after the parent's order to drain.
        if name == "SIGTERM":
            self._leave()

    def _orphaned(self) -> None:
        self._log.warn("the parent process is gone: stopping")
        self._leave()

    def _leave(self) -> None:
        """Leave new clients to the other workers, then stop.

        A client that was let in a moment ago has yet to send its first word; to close on it would
        be to lose it, although the server as a whole goes on.
        """
        if self._leaving:
            return
        self._leaving = True
        for service in self.listeners:
            service.pause()
        self.reactor.callLater(SETTLE, self._stop_reactor)

    def _cut_by_parent(self) -> None:
        if self._stopped is None:
            self._drain = 0
            self._stop_reactor()
        else:
            self._abort("told to stop now")

    def stopService(self) -> Deferred[None]:
        """Stop, then tell the parent what was counted in all."""
        return super().stopService().addCallback(self._last_report)

    def _last_report(self, _: None) -> Deferred[None]:
        if self._reports.running:
            self._reports.stop()
        self._report()
        left = self._control.leave()
        left.addTimeout(GRACE, self.reactor)  # a parent that is stopped reads nothing
        left.addErrback(lambda failure: failure.trap(defer.TimeoutError) and None)
        return left
