"""The service tree of the process: its start, its drain, and the host that services see."""

import asyncio
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Any, TextIO

import twisted
from attrs import define
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector
from twisted.application.service import IProcess, IService, MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.python.failure import Failure
from twisted.python.usage import Options
from typing_extensions import override
from zope.interface import implementer

from evserve import __version__
from evserve.aio import as_deferred, reactor_loop
from evserve.host import process
from evserve.host.certificates import Certificates
from evserve.host.config import ServiceConfig
from evserve.host.connections import ConnectionLimiter, DescriptorLimiter
from evserve.host.endpoints import endpoint_strings
from evserve.host.hosted import HostedService
from evserve.host.listener import ListenerService, SharedSocketReactor
from evserve.host.logs import LogFile, logs_to_terminal, make_observer, open_log_file, take_records
from evserve.host.metrics import Metrics, ProcessMetrics
from evserve.host.options import LOOPBACK, Limits
from evserve.host.process import USER_ERRORS, explain
from evserve.host.signals import SignalHandlers, Terminal, hangs_up
from evserve.host.systemd import notifier_from_environment
from evserve.interfaces import IAbortable, IHost, IStopsLast
from evserve.plugin import ServiceMakerPlugin


MINIMUM_DRAIN = 0.1  # seconds: services without work in flight also need a turn to stop
GRACE = 1.0  # seconds for services to see that their connections were aborted
EXIT_TIME = 2.0  # seconds for what ends after the services at once, such as idle threads
HANG_UP_DELAY = 1.0  # seconds from the SIGHUP of a shell that ends to the end of its terminal


class StartError(Exception):
    """A service failed to start; `twistd` reports it from the daemon to the terminal."""

    __module__ = "evserve"  # twistd shows 98 bytes, the name of the class included


class Phase(Enum):
    """The progress of the process, in this order."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


class RootService(MultiService):
    """The parent of all services: starts all of them or none, and drains them in reverse order.

    The `admin` service beside them starts first and stops last.

    reactor: stopped on failure and on signals.  twistd: the options of `twistd`.
    log_format: "text" or "json".  drain: seconds for services to stop.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, twistd: dict[str, Any], log_format: str = "text", drain: float = 10.0
    ) -> None:
        MultiService.__init__(self)
        self.reactor = reactor
        self.metrics = Metrics()
        self.process_metrics: Collector = ProcessMetrics()
        self.certificates = Certificates()
        self.descriptors = DescriptorLimiter(reactor, process.raise_file_limit())
        self.listeners: list[ListenerService] = []
        self.failure: str | None = None
        self.phase = Phase.STARTING
        self.admin: IService | None = None
        self.notifier = notifier_from_environment(reactor, os.environ, os.getpid())
        self._twistd = twistd
        self._log_format = log_format
        self._drain = drain
        self._log_file: LogFile | None = None
        self._observer: ILogObserver | None = None
        self._signals = SignalHandlers(reactor, self._on_signal)
        in_foreground = twistd.get("nodaemon", True)
        self._tty = Terminal() if in_foreground and hangs_up() else None
        self._started_children: list[IService] = []
        self._to_stop: list[IService] = []  # when the others have stopped
        self._stopping: list[IService] = []
        self._reactor_stopped = False
        self._why_stopped = ""  # the signal by which, if it was one
        self._stopped: Deferred[None] | None = None  # what stopService returned
        self._deadline: IDelayedCall  # of the drain
        self._aborted = False
        self._succeeded = False  # a job, which nothing told to stop
        # twistd replaces sys.stderr when it starts to log; it is None if it was closed.
        self._terminal: TextIO | None = sys.stderr

    @override
    def setServiceParent(self, parent: Any) -> None:
        MultiService.setServiceParent(self, parent)
        self._signals.install()
        self._log_file = open_log_file(self._twistd)
        take_records()
        self._observer = make_observer(self._twistd, self._log_format, self._log_file)
        if self._observer is not None:
            parent.setComponent(ILogObserver, self._observer)
        for child in self:
            if isinstance(child, HostedService):
                with _errors_of(str(child.name)):
                    child.share_process(IProcess(parent))

    def endpoint(self, service: str, written: str, interface: str) -> IStreamServerEndpoint:
        """Return the endpoint of a service's endpoint string; raises EndpointError."""
        reactor = SharedSocketReactor(self.reactor)
        return self.certificates.endpoint(reactor, written, interface)

    @override
    def privilegedStartService(self) -> None:
        for child in self._all_services():
            self._start_child(child, child.privilegedStartService)
        self._tell_twistd()

    @override
    def startService(self) -> None:
        self.running = 1
        for child in self._all_services():
            self._start_child(child, self._interruptible(child.startService))
        self._tell_twistd()
        self.reactor.callWhenRunning(process.before_threads_end, self._interpreter_ends)
        self.reactor.callWhenRunning(self._check_descriptors)
        self.reactor.callWhenRunning(self._reactor_running)

    def _tell_twistd(self) -> None:
        """Raise a failure of the daemon, which ends then and whose terminal shows the line."""
        if self.failure is not None and not self._twistd.get("nodaemon", True):
            raise StartError(self.failure)

    def _all_services(self) -> list[IService]:
        return list(self) if self.admin is None else [self.admin, *self]

    def _start_child(self, child: IService, start: Any) -> None:
        if self.failure is not None:
            return
        if child not in self._started_children:
            self._started_children.append(child)
        try:
            start()
        except KeyboardInterrupt as error:
            # Start nothing more. The reactor must run nevertheless, and stops at once, because it
            # gets the signal too: started services need it to stop, and would otherwise leave UNIX
            # sockets and their locks behind.
            self.failure = "interrupted"
            if not self.listeners:  # a job, which is not done; a server ends as it was told to
                process.exit_with(128 + error.args[0])
        except Exception as error:
            if not isinstance(error, USER_ERRORS):
                self._log.failure("{name}: failed to start", name=child.name)
            self.fail(f"{child.name}: {explain(error)}")

    def _interruptible(self, start: Callable[[], None]) -> Callable[[], None]:
        """Return `start` as a function that SIGINT and SIGTERM end early: it may read for long."""

        def run() -> None:
            try:
                self._signals.interrupts = True
                start()
            finally:
                self._signals.interrupts = False

        return run

    def _check_descriptors(self) -> None:
        """Fail instead of waiting forever for descriptors that cannot become free."""
        if self.listeners and not self.descriptors.has_free_descriptors():
            limit = self.descriptors.limit
            self.fail(f"file limit {limit}: too low to accept connections (raise ulimit -n)")

    def _reactor_running(self) -> None:
        if self.failure is None:
            self.phase = Phase.SERVING
            names = ", ".join(str(child.name) for child in self)
            self._log.info(
                "evserve {version} serves {names} (Twisted {twisted}, {reactor}, Python {python})",
                version=__version__,
                names=names,
                twisted=twisted.__version__,
                reactor=type(self.reactor).__name__,
                python=sys.version.partition(" ")[0],
            )
            self.notifier.ready(f"Serving {names}")

    def fail(self, reason: str) -> None:
        """Stop with status 1 after one line on the terminal; only the first failure is shown."""
        if self.failure is not None:
            return
        self.failure = reason = " ".join(reason.split())
        self.finish(1)  # before anything that may raise
        if self._terminal is not None:
            with suppress(OSError, ValueError):  # full, broken pipe, closed
                self._terminal.write(f"evserve: {reason}\n")
                self._terminal.flush()
        if not logs_to_terminal(self._twistd):
            # Not critical: Twisted would print that again if logging has not begun (`twist`).
            self._log.error("{reason}", reason=reason)

    def finish(self, status: int) -> None:
        """Stop the reactor, now or as soon as it runs, and exit with `status`."""
        if status:
            process.exit_with(status)
        elif not self._reactor_stopped:
            self._succeeded = True
        self.reactor.callWhenRunning(self._stop_reactor)

    def _stop_reactor(self) -> None:
        if not self._reactor_stopped:
            self._reactor_stopped = True
            self.reactor.stop()

    def _on_signal(self, name: str) -> None:
        if name == "SIGUSR1":
            self._log.info("{name}: {log}", name=name, log=self._reopen_log())
        elif name == "SIGHUP":
            if not self._stop_without_terminal():
                self._reload()
                if self._tty is not None:
                    self.reactor.callLater(HANG_UP_DELAY, self._stop_without_terminal)
        elif not self._reactor_stopped:
            self._stop(name)
        elif self._stopped is not None:
            self._abort(f"{name} again")

    def _stop(self, why: str) -> None:
        self._why_stopped = why
        self._stop_reactor()

    def _stop_without_terminal(self) -> bool:
        """Stop if the terminal has gone that the process was started from; return whether."""
        if self._tty is None or not self._tty.has_gone():
            return False
        if not self._reactor_stopped:
            self._stop("SIGHUP, because the terminal has gone")
        return True

    def _reload(self) -> None:
        """Open the log file and read the certificates again; log the outcome as one line."""
        is_serving = self.phase is Phase.SERVING
        if is_serving:
            self.notifier.reloading()
        log, problems = self._reopen_log(), self._read_certificates()
        outcome = "; ".join([log, *(problems or ["certificates read again"])])
        (self._log.error if problems else self._log.info)("SIGHUP: {outcome}", outcome=outcome)
        if is_serving:
            self.notifier.reloaded()

    def _read_certificates(self) -> list[str]:
        """Read the certificates again; return the problems."""
        return [f"{each} (the old certificate stays)" for each in self.certificates.read_again()]

    def _reopen_log(self) -> str:
        """Open the log file again; return what happened."""
        if self._log_file is None:
            return "no log file to reopen"
        try:
            self._log_file.reopen()
        except OSError as error:
            return f"the old log file stays ({explain(error)})"
        return "log file reopened"

    @override
    def stopService(self) -> Deferred[None]:
        """Stop the started services, the last first; fires when all have, or time is up."""
        # Logged here, because a signal before is one with the first (`timeout` sends two at once).
        if self._why_stopped and self.failure is None:
            self._log.info("{why}: stopping", why=self._why_stopped)
        self.running = 0
        self.phase = Phase.DRAINING
        self.notifier.stopping("Draining")
        stopped = self._stopped = Deferred[None]()
        why = f"still draining after {self._drain:g} seconds"
        seconds = max(self._drain, MINIMUM_DRAIN)
        self._deadline = self.reactor.callLater(seconds, self._abort, why)
        stopping = Deferred.fromCoroutine(self._stop_all())
        stopping.addErrback(lambda failure: self._log.failure("failed to stop", failure))
        return stopped

    async def _stop_all(self) -> None:
        """Stop the services, what they have left in asyncio's loop, and the admin service."""
        children = [each for each in reversed(self._started_children) if each is not self.admin]
        self._to_stop = [each for each in children if IStopsLast.providedBy(each)]
        await self._stop_children([each for each in children if each not in self._to_stop])
        await self._stop_last()
        loop = reactor_loop(self.reactor)
        if loop is not None:
            await as_deferred(_end_asyncio(loop), self.reactor)
        if self._deadline.active():
            self._deadline.cancel()
        self._stop_admin()

    async def _stop_last(self) -> None:
        """Stop the services that the others may have needed."""
        children, self._to_stop = self._to_stop, []
        await self._stop_children(children)

    async def _stop_children(self, children: list[IService]) -> None:
        """Stop services; log those that fail to."""
        self._stopping += children
        stopping = [maybeDeferred(child.stopService) for child in children]
        for child, each in zip(children, stopping, strict=True):
            each.addBoth(self._child_stopped, child)
        await DeferredList(stopping)

    def _child_stopped(self, result: object, child: IService) -> None:
        self._stopping.remove(child)
        if isinstance(result, Failure):
            process.exit_with(1)
            self._log.failure("{name}: failed to stop", result, name=child.name)

    def _abort(self, why: str) -> None:
        """Give up what is in flight, once."""
        if not self._aborted:
            self._aborted = True
            process.exit_with(1)
            self._log.warn("{why}: {what}", why=why, what=self._abort_services())

    def _abort_services(self) -> str:
        """Abort what services do; those that have not stopped after GRACE are abandoned.

        Returns what that was, for the log.
        """
        count = self._abort_connections()
        aborted = [f"{count} connections"] if count else []
        aborted += filter(None, map(self._abort_service, self._started_children))
        names = sorted(str(each.name) for each in self._stopping)
        if not names:
            aborted.append("tasks and threads of asyncio")
        self.reactor.callLater(GRACE / 2, self._abort_last)
        self.reactor.callLater(GRACE, self._stop_admin)
        return f"aborted {', '.join(aborted)}" if aborted else f"abandoned {', '.join(names)}"

    def _abort_connections(self) -> int:
        """Abort the connections, but those of services that others still need; count them."""
        needed = {each.name for each in self._to_stop}
        return sum(
            each.limiter.abort() for each in self.listeners if each.limiter.name not in needed
        )

    def _abort_last(self) -> None:
        """Stop the services that others may have needed to give up what they did."""
        Deferred.fromCoroutine(self._stop_last())
        self._abort_connections()

    def _abort_service(self, service: IService) -> str:
        """Have a service give up what is in flight; return what that was."""
        try:
            return str(IAbortable(service).abort()) if IAbortable.providedBy(service) else ""
        except Exception:
            self._log.failure("{name}: failed to abort", name=service.name)
            return ""

    def _stop_admin(self) -> None:
        """Stop the admin service, which reported the drain until now, and finish."""
        stopping = Deferred.fromCoroutine(self._stop_children([self.admin] if self.admin else []))
        stopping.addCallback(lambda _: self._finish_stop())

    def _finish_stop(self) -> None:
        if self._stopped is None or self._stopped.called:
            return
        if self._aborted and getattr(self.reactor, "threadpoolShutdownID", None) is not None:
            # By this the reactor would wait for the threads of its pool.
            self.reactor.removeSystemEventTrigger(self.reactor.threadpoolShutdownID)
        seconds = max(self._deadline.getTime() - self.reactor.seconds(), EXIT_TIME)
        process.limit_exit(None if self._succeeded else seconds, self._give_up)
        self._stopped.callback(None)

    def _interpreter_ends(self) -> None:
        if self._stopped is None:
            # Where no UvloopReactor keeps it from ending.
            self._say_last(
                "the reactor has ended without a stop, so nothing was drained (a task raised "
                "SystemExit or KeyboardInterrupt, or something stopped asyncio's loop)"
            )
            process.end(1)
        elif self._aborted:
            process.end(1)  # with all threads

    def _give_up(self, left: list[str]) -> None:
        self._say_last(f"aborted {', '.join(left) or 'exit hooks'}, which do not end")

    def _say_last(self, text: str) -> None:
        """Log `text` although `twistd` may have stopped to log."""
        if self._observer is not None:
            globalLogPublisher.addObserver(self._observer)  # once: it may be there
        self._log.error("{text}", text=text)


async def _end_asyncio(loop: asyncio.AbstractEventLoop) -> None:
    """End what services have left in the loop, as `asyncio.run` does; wait for its threads."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for each in left:
        each.cancel()
    if left:
        await asyncio.wait(left)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


@implementer(IHost)
@define(eq=False)
class ServiceHost:
    """The host as the service `name` sees it."""

    name: str
    root: RootService

    @property
    def reactor(self) -> Any:
        return self.root.reactor

    @property
    def metrics(self) -> CollectorRegistry:
        return self.root.metrics.of(self.name)

    def listen(self, options: Options, factory: IProtocolFactory) -> IService:
        root = self.root
        limits = Limits.of(options)
        limiter = ConnectionLimiter(self.name, factory, limits, root.reactor, root.descriptors)
        interface = options.get("interface") or LOOPBACK
        endpoints = {
            written: root.endpoint(self.name, written, interface)
            for written in endpoint_strings(options)
        }
        self.metrics.register(limiter)
        service = ListenerService(self, endpoints, limiter)
        root.listeners.append(service)
        return service

    def fail(self, reason: str) -> None:
        self.root.fail(f"{self.name}: {reason}")

    def finish(self, status: int = 0) -> None:
        self.root.finish(status)


def add_services(configs: list[ServiceConfig], root: RootService) -> None:
    """Make the services and add them to `root`; raises SystemExit if one cannot be made."""
    for config in configs:
        host = ServiceHost(config.name, root)
        if isinstance(config.plugin, ServiceMakerPlugin):
            service: Any = _make_hosted(config, host)
        else:
            service = _make_service(config, host)
        if service.parent is not None:  # an Application that the plugin has made for itself
            service.disownServiceParent()
        service.setName(config.name)
        service.setServiceParent(root)


def _make_service(config: ServiceConfig, host: "ServiceHost") -> IService:
    with _errors_of(config.name):
        made = config.loaded.make_service(config.options, host)
    service: IService | None = IService(made, None)
    if service is None:
        raise SystemExit(f"evserve: {config.name}: makeService returned {made!r}, not a service")
    return service


def _make_hosted(config: ServiceConfig, host: "ServiceHost") -> HostedService:
    root = host.root
    added = getattr(config.options, "limit_options", ())
    limits = Limits.of({name: config.options[name] for name in added})
    limiter = ConnectionLimiter(config.name, Factory(), limits, root.reactor, root.descriptors)
    service = HostedService(host, {}, limiter, config)
    root.listeners.append(service)
    with _errors_of(config.name):
        service.make()
    return service


@contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """Exit with one line about the service `name`, after the traceback if it is a defect."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, USER_ERRORS):
            traceback.print_exc()
        raise SystemExit(f"evserve: {name}: {explain(error)}") from None
