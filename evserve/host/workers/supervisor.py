"""The supervisor: binds the sockets, and starts, replaces and stops the workers."""

import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IStreamServerEndpoint
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.usage import Options
from typing_extensions import override

from evserve.backoff import BackOff
from evserve.host import process
from evserve.host.application import GRACE, RootService
from evserve.host.config import ServiceConfig
from evserve.host.logs import logs_to_terminal
from evserve.host.process import current_folder
from evserve.host.reactor import runs_on_uvloop
from evserve.host.workers.messages import (
    COMMAND_FD,
    FIRST_SOCKET_FD,
    REPORT_FD,
    Assignment,
    Message,
    MessageDecoder,
    MessageKind,
    SocketKey,
    encode,
)
from evserve.host.workers.sockets import BindOnlyReactor
from evserve.host.workers.totals import ProcessTotals, ServiceTotals, Totals
from evserve.interfaces import IHost, LoadedService


RESTART_DELAYS = BackOff(initial=0.25, ceiling=30.0)
STABLE_AFTER = 30.0  # seconds of life after which a worker's next death counts as its first

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")

_log = Logger()


@define(eq=False)
class Supervisor(Service):
    """Starts `count` workers, replaces those that die, and stops them all.

    on_start_failed: called with a worker that ended before all workers served for the first time.
    """

    count: int
    reactor: Any
    launcher: "Launcher"
    on_start_failed: Callable[["WorkerProcess"], None]
    totals: Totals = field(factory=Totals)
    all_serving: Deferred[None] = field(init=False, factory=Deferred)  # for the first time
    clean: bool = field(init=False, default=True)  # no worker had to abort connections
    _sockets: Mapping[SocketKey, int] = field(init=False, factory=dict)
    _workers: dict[int, "WorkerProcess"] = field(init=False, factory=dict)  # by number
    _leaving: set["WorkerProcess"] = field(init=False, factory=set)  # which others have replaced
    _restarts: dict[int, IDelayedCall] = field(init=False, factory=dict)
    _deaths: Counter[int] = field(init=False, factory=Counter)  # in a row, by number
    _stopped: Deferred[None] | None = field(init=False, default=None)  # set by stopService

    def start(self, sockets: Mapping[SocketKey, int]) -> None:
        """Start the first worker on these descriptors; the others follow once it serves.

        A fault that stops one worker stops all of them: it is then reported once, not N times.
        """
        self._sockets = sockets
        if self._stopped is None:
            self._start(1)

    def pids(self) -> list[int]:
        """Return the process ids of the workers, in the order of their numbers."""
        return [self._workers[number].pid for number in sorted(self._workers)]

    def _start(self, number: int) -> None:
        self._restarts.pop(number, None)
        worker = WorkerProcess(number, self.reactor.seconds(), self)
        self._workers[number] = worker
        try:
            self.launcher.start(worker, self._sockets)
        except OSError as error:  # no memory, or too many processes: treat it as a death
            worker.exit_reason = f"could not start ({error.strerror})"
            self.ended(worker)

    def ready(self, worker: "WorkerProcess") -> None:
        """Note that a worker serves."""
        if self._stopped is not None:  # the sockets for further workers are closed
            return
        if self.all_serving.called:
            _log.info(
                "worker {number} serves (process {pid})", number=worker.number, pid=worker.pid
            )
            return
        if len(self._workers) < self.count:
            for number in range(2, self.count + 1):
                self._start(number)
        workers = self._workers.values()
        if len(workers) == self.count and all(each.serving for each in workers):
            self.all_serving.callback(None)

    def leaving(self, worker: "WorkerProcess") -> None:
        """Replace a worker that was told to end by a signal, while it drains."""
        if self._stopped is not None or not self.all_serving.called:
            return
        _log.info(
            "worker {number} (process {pid}) was told to end: starting another",
            number=worker.number,
            pid=worker.pid,
        )
        self._leaving.add(self._workers.pop(worker.number))
        self._start(worker.number)

    def ended(self, worker: "WorkerProcess") -> None:
        """Note that the process of a worker has ended, or could not start."""
        was_leaving = worker in self._leaving
        if was_leaving:
            self._leaving.remove(worker)
        else:
            del self._workers[worker.number]
        self.totals.retire(worker)
        if self._stopped is not None:
            if worker.serving and worker.exit_status != 0:  # its clients were cut off
                self.clean = False
            if not self._all() and not self._stopped.called:
                self._stopped.callback(None)
        elif was_leaving:
            pass
        elif self.all_serving.called:
            self._restart_later(worker)
        else:
            self.on_start_failed(worker)

    def _restart_later(self, worker: "WorkerProcess") -> None:
        if self.reactor.seconds() - worker.started_at >= STABLE_AFTER:
            self._deaths[worker.number] = 0
        self._deaths[worker.number] += 1
        delay = RESTART_DELAYS.delay(self._deaths[worker.number], roll=1)
        _log.warn(
            "worker {number} (process {pid}) {end}: starting another in {wait:g} seconds",
            number=worker.number,
            pid=worker.pid,
            end=worker.exit_reason,
            wait=delay,
        )
        self._restarts[worker.number] = self.reactor.callLater(delay, self._start, worker.number)

    @override
    def stopService(self) -> Deferred[None]:
        self._stopped = stopped = Deferred[None]()
        for call in self._restarts.values():
            call.cancel()
        self._restarts.clear()
        self.send_all(MessageKind.DRAIN)
        if not self._all():
            stopped.callback(None)
        return stopped

    def _all(self) -> list["WorkerProcess"]:
        return [*self._workers.values(), *self._leaving]

    def kill(self) -> int:
        """Kill the workers that are left; return how many there were."""
        left = self._all()
        for worker in left:
            worker.kill()
        return len(left)

    def send_all(self, kind: MessageKind) -> None:
        """Send a message to every worker."""
        for worker in self._all():
            worker.send(kind)


@define(eq=False)
class WorkerProcess(ProcessProtocol):
    """The process of a worker, as the supervisor sees it.

    started_at: the reactor's seconds.
    """

    number: int
    started_at: float
    supervisor: Supervisor
    serving: bool = field(init=False, default=False)  # stays true when it has ended
    pid: int = field(init=False, default=0)
    exit_status: int | None = field(init=False, default=None)  # None if a signal ended it
    exit_reason: str = field(init=False, default="")  # "ended with status 1"
    transport: Any = None
    _decoder: MessageDecoder = field(init=False, factory=MessageDecoder)
    _partial_line: bytes = field(init=False, default=b"")  # of its log

    @override
    def connectionMade(self) -> None:
        self.pid = self.transport.pid  # the transport forgets it when the process ends

    @override
    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD != REPORT_FD:
            self._log_output(data)
            return
        for message in self._decoder.feed(data):
            if message.kind is MessageKind.METRICS:
                self.supervisor.totals.update(self, message.families)
            elif message.kind is MessageKind.READY:
                self.serving = True
                self.supervisor.ready(self)
            elif message.kind is MessageKind.LEAVING:
                self.supervisor.leaving(self)

    def _log_output(self, data: bytes) -> None:
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        for line in lines:
            _log.info("{line}", line=_TIMESTAMP.sub("", line.decode("utf-8", "replace")))

    @override
    def processEnded(self, reason: Failure) -> None:
        error: Any = reason.value
        self.exit_status = error.exitCode
        if error.signal is None:
            self.exit_reason = f"ended with status {error.exitCode}"
        else:
            self.exit_reason = f"was ended by {signal.Signals(error.signal).name}"
        self.supervisor.ended(self)

    def send(self, kind: MessageKind) -> None:
        """Send a message without metrics to the worker."""
        with suppress(KeyError):  # the worker has closed its end of the pipe
            self.transport.writeToChild(COMMAND_FD, encode(Message(kind)))

    def kill(self) -> None:
        """End the process with SIGKILL."""
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")


@frozen
class Launcher:
    """Starts the process of a worker: the supervisor's command line with inherited descriptors.

    share_stderr: whether the worker writes to the supervisor's standard error; if not, the
    supervisor logs what it writes.  command: by default that of this process, with the options of
    its interpreter.  folder: where to start it, because `--rundir` changes the current folder of
    the supervisor; None (the current folder) if the original one no longer exists.
    """

    reactor: Any
    share_stderr: bool = True
    command: list[str] = field(factory=lambda: [sys.executable, *sys.orig_argv[1:]])
    folder: Path | None = field(factory=current_folder)

    def start(self, worker: WorkerProcess, sockets: Mapping[SocketKey, int]) -> None:
        """Start a process that inherits copies of the descriptors `sockets`; may raise OSError."""
        inherited = dict(enumerate(sockets.values(), FIRST_SOCKET_FD))
        handed_over = dict(zip(sockets, inherited, strict=True))
        assignment = Assignment(worker.number, handed_over, runs_on_uvloop(self.reactor))
        stderr: int | str = 2 if self.share_stderr else "r"
        pipes = {REPORT_FD: "r", COMMAND_FD: "w"}
        devnull = os.open(os.devnull, os.O_RDONLY)
        try:
            self.reactor.spawnProcess(
                worker,
                self.command[0],
                self.command,
                assignment.environment(os.environ),
                None if self.folder is None else str(self.folder),
                childFDs={0: devnull, 1: 1, 2: stderr, **pipes, **inherited},
            )
        finally:
            os.close(devnull)


class SupervisorRoot(RootService):
    """The root of the supervisor's service tree, whose services only bind sockets.

    args: those of RootService.  workers: how many.
    """

    def __init__(self, *args: Any, workers: int, launcher: Launcher) -> None:
        super().__init__(*args)
        self._drain += 3 * GRACE  # the workers keep the deadline, unless one of them hangs
        self.supervisor = Supervisor(workers, self.reactor, launcher, self._start_failed)
        self.process_metrics = ProcessTotals(self.supervisor.totals)
        self._reactors: dict[SocketKey, BindOnlyReactor] = {}

    def bind_only(self, config: ServiceConfig) -> ServiceConfig:
        """Return `config` for a service that binds the sockets, from which the workers accept."""
        return evolve(config, loaded=LoadedService(config.loaded.options, self._make_bind_only))

    def _make_bind_only(self, options: Options, host: IHost) -> IService:
        service: Any = host.listen(options, Factory())
        # The supervisor has no connections: its limiter names the metrics until workers report.
        host.metrics.unregister(service.limiter)
        totals = self.supervisor.totals
        host.metrics.register(ServiceTotals(totals, service.limiter.name, service.limiter))
        return IService(service)

    @override
    def endpoint(self, service: str, written: str, interface: str) -> IStreamServerEndpoint:
        reactor = self._reactors[service, written] = BindOnlyReactor(self.reactor)
        return self.certificates.endpoint(reactor, written, interface)

    @override
    def _reactor_running(self) -> None:
        if self.failure is not None:
            return
        for (service, written), reactor in self._reactors.items():
            if reactor.port is None:
                self.fail(f"{service}: --workers: {written!r} has no socket that can be shared")
                return
        self._started_children.append(self.supervisor)
        self.supervisor.all_serving.addCallback(self._all_serving)
        self.supervisor.start({key: each.port.fileno() for key, each in self._reactors.items()})

    def _all_serving(self, _: None) -> None:
        pids = ", ".join(map(str, self.supervisor.pids()))
        self._log.info("{size} workers: processes {pids}", size=self.supervisor.count, pids=pids)
        super()._reactor_running()

    def _start_failed(self, worker: WorkerProcess) -> None:
        if worker.exit_status and logs_to_terminal(self._twistd):
            self.finish(worker.exit_status)  # the worker has written the reason to the terminal
        else:
            self.fail(f"worker {worker.number} {worker.exit_reason} before it served")

    @override
    def _read_certificates(self) -> list[str]:
        # The workers read the same files; the supervisor says what is wrong with them, once.
        problems = super()._read_certificates()
        self.supervisor.send_all(MessageKind.RELOAD)
        return problems

    @override
    def stopService(self) -> Deferred[None]:
        def set_status(_: None) -> None:
            if not self.supervisor.clean:
                process.exit_with(1)

        return super().stopService().addCallback(set_status)

    @override
    def _abort_services(self) -> str:
        self.supervisor.send_all(MessageKind.ABORT)
        self.reactor.callLater(2 * GRACE, self._kill)
        return "aborting what workers do"

    def _kill(self) -> None:
        if self.supervisor.kill():
            self.reactor.callLater(GRACE, self._stop_admin)
