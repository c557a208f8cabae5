"""A worker: serves from inherited sockets, reports to its supervisor and ends with it."""

from collections.abc import MutableMapping
from typing import Any

from attrs import define
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, LogEvent, LogLevel
from twisted.python.usage import UsageError
from typing_extensions import override
from zope.interface import implementer

from evserve.host.application import GRACE, RootService
from evserve.host.logs import logs_to_terminal
from evserve.host.workers.messages import (
    COMMAND_FD,
    REPORT_FD,
    Assignment,
    ControlChannel,
    Message,
    MessageKind,
)
from evserve.host.workers.sockets import InheritedSocketReactor, without_systemd


REPORT_INTERVAL = 1.0  # seconds between two reports of the metrics
LEAVE_DELAY = 0.2  # seconds for the first bytes of connections that were just accepted


def set_worker_options(
    twistd: MutableMapping[str, Any], options: MutableMapping[str, Any]
) -> None:
    """Turn off in a worker what the supervisor has done: daemonize, switch users, open a log file.

    Several processes cannot write one log file: a worker logs text to standard error, and the
    supervisor writes that to its log.
    """
    if not logs_to_terminal(twistd):
        options["log-format"] = "text"
    twistd.update(nodaemon=True, pidfile="", uid=None, gid=None, chroot=None)
    twistd.update(logfile=None, syslog=False, logger=None)


class WorkerRoot(RootService):
    """The root of a worker's service tree.

    args: those of RootService.
    """

    def __init__(self, *args: Any, assignment: Assignment) -> None:
        super().__init__(*args)
        self._assignment = assignment
        self._control = ControlChannel(
            self._leave, self._on_abort, self.certificates.read_again, self._on_supervisor_lost
        )
        self._leaving = False
        self._reports = LoopingCall(self._report)
        self._reports.clock = self.reactor

    @override
    def setServiceParent(self, parent: Any) -> None:
        super().setServiceParent(parent)
        if self._observer is not None:
            self._observer = WorkerLogObserver(self._observer, self._assignment.number)
            parent.setComponent(ILogObserver, self._observer)

    @override
    def endpoint(self, service: str, written: str, interface: str) -> IStreamServerEndpoint:
        fileno = self._assignment.sockets.get((service, written))
        if fileno is None:
            raise UsageError(f"--workers: {written!r} is not among the endpoints of its options")
        reactor = InheritedSocketReactor(self.reactor, fileno)
        return self.certificates.endpoint(reactor, without_systemd(written), interface)

    @override
    def startService(self) -> None:
        super().startService()
        standard_io: Any = StandardIO  # its annotations lack the descriptors
        standard_io(self._control, COMMAND_FD, REPORT_FD, self.reactor)

    @override
    def _reactor_running(self) -> None:
        if self.failure is None:
            self._control.send(Message(MessageKind.READY))
            self._reports.start(REPORT_INTERVAL)

    def _report(self) -> None:
        families = *self.metrics.collect(), *self.process_metrics.collect()
        self._control.send(Message(MessageKind.METRICS, families))

    @override
    def _on_signal(self, name: str) -> None:
        # Ctrl-C and SIGHUP reach every process of the terminal; the supervisor handles them.
        # SIGTERM may come twice: systemd may send it to all processes after the supervisor has
        # sent DRAIN.
        if name == "SIGTERM" and not self._leaving:
            self._control.send(Message(MessageKind.LEAVING))
            self._leave()

    def _on_supervisor_lost(self) -> None:
        self._log.warn("the supervisor is gone: stopping")
        self._leave()

    def _leave(self) -> None:
        """Stop accepting, then stop.

        A client whose connection was accepted a moment ago may not have sent anything yet. Closing
        it now would lose a request, although the server as a whole keeps running.
        """
        if self._leaving:
            return
        self._leaving = True
        if self._tty is not None:
            self._tty.has_gone()  # then nothing more is written to it
        for service in self.listeners:
            service.pause()
        self.reactor.callLater(LEAVE_DELAY, self._stop_reactor)

    def _on_abort(self) -> None:
        if self._stopped is None:
            self._drain = 0
            self._stop_reactor()
        else:
            self._abort("ordered by the supervisor")

    @override
    def stopService(self) -> Deferred[None]:
        return super().stopService().addCallback(self._send_last_report)

    def _send_last_report(self, _: None) -> Deferred[None]:
        if self._reports.running:
            self._reports.stop()
        self._report()
        closed = self._control.close()
        closed.addTimeout(GRACE, self.reactor)  # a suspended supervisor reads nothing
        closed.addErrback(lambda failure: failure.trap(defer.TimeoutError) and None)
        return closed


@implementer(ILogObserver)
@define(eq=False)
class WorkerLogObserver:
    """Adds the worker's number to warnings and errors, and drops the host's information lines.

    The supervisor logs those lines (listening on, serves, stopping) once for all workers.
    """

    inner: ILogObserver
    number: int

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_level", LogLevel.info) > LogLevel.info:
            text = event.get("log_format") or ""
            event = {**event, "worker": self.number, "log_format": f"worker {{worker}}: {text}"}
        elif str(event.get("log_namespace")).startswith("evserve.host."):
            return
        self.inner(event)

    @property
    def observe_lines(self) -> Any:
        """What the inner observer has to print an access log: its lines are information."""
        return getattr(self.inner, "observe_lines", None)
