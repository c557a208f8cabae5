"""The root of the service tree: starts all or nothing, stops in good order, says how it went."""

import os
import signal
import sys
import traceback
from contextlib import suppress
from enum import Enum
from typing import Any, TextIO

import twisted
from attrs import define
from prometheus_client import CollectorRegistry
from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.logger import ILogObserver, Logger
from twisted.python.usage import Options
from zope.interface import implementer

from evserve import __version__
from evserve.host import process
from evserve.host.config import Order
from evserve.host.connections import DescriptorGuard, Door
from evserve.host.endpoints import endpoint_strings, parse_endpoint
from evserve.host.listener import Adopting, ListeningService
from evserve.host.logs import logs_to_terminal, make_observer
from evserve.host.metrics import Metrics
from evserve.host.options import LOOPBACK, Limits
from evserve.host.process import MENDABLE, explain
from evserve.host.systemd import take_notifier
from evserve.interfaces import IHost


TURN = 0.1  # seconds in which a service that has nothing to finish has stopped
GRACE = 1.0  # seconds that aborted connections get to say goodbye to their services


class StartError(Exception):
    """A service could not start; `twistd` reports it from the daemon to the terminal."""


class Phase(Enum):
    """How far the process is; it only ever moves on."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


class Root(MultiService):
    """All services of the process, and `admin` beside them: first to start, last to stop.

    reactor: it stops this reactor on failure and on signals.  twistd: the options of `twistd`.
    log_format: "text" or "json".  drain: seconds that stopping services get.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, twistd: dict[str, Any], log_format: str = "text", drain: float = 10.0
    ) -> None:
        MultiService.__init__(self)
        self.reactor = reactor
        self.metrics = Metrics()
        self.guard = DescriptorGuard(reactor, process.raise_file_limit())
        self.listening: list[ListeningService] = []
        self.failure: str | None = None
        self.phase = Phase.STARTING
        self.admin: IService | None = None
        self.notifier = take_notifier(reactor, os.environ, os.getpid())
        self._twistd = twistd
        self._log_format = log_format
        self._drain = drain
        self._begun: list[IService] = []
        self._ended = False  # the reactor was told to stop
        self._stopped: Deferred[None] | None = None
        # twistd replaces sys.stderr when it starts to log; it is None if it was closed.
        self._terminal: TextIO | None = sys.stderr

    def setServiceParent(self, parent: Any) -> None:
        """Join the application, and log where and how the user asked."""
        MultiService.setServiceParent(self, parent)
        observer = make_observer(self._twistd, self._log_format)
        if observer is not None:
            parent.setComponent(ILogObserver, observer)

    def endpoint(self, service: str, written: str, interface: str) -> IStreamServerEndpoint:
        """Return the endpoint that a string among a service's options describes."""
        return parse_endpoint(Adopting(self.reactor), written, interface)

    def privilegedStartService(self) -> None:
        """Start what needs privileges: above all, listen."""
        if self.admin is not None:
            self._begin(self.admin, self.admin.privilegedStartService)
        for child in self:
            self._begin(child, child.privilegedStartService)
        if self.failure is not None and not self._twistd.get("nodaemon"):
            raise StartError(self.failure)

    def startService(self) -> None:
        """Start the services; after a failure, only stop what was begun."""
        self.running = 1
        if self.admin is not None:
            self._begin(self.admin, self.admin.startService)
        for child in self:
            self._begin(child, child.startService)
        self.reactor.callWhenRunning(self._make_sure_of_room)
        self.reactor.callWhenRunning(self._now_running)

    def _begin(self, child: IService, start: Any) -> None:
        if self.failure is not None:
            return
        if child not in self._begun:
            self._begun.append(child)
        try:
            start()
        except KeyboardInterrupt:
            # Nothing more starts. The reactor has to run nevertheless: without it, what has begun
            # cannot stop, and UNIX sockets and their locks would be left behind.
            self.failure = "interrupted"
            self.finish(128 + signal.SIGINT)
        except Exception as error:
            if not isinstance(error, MENDABLE):
                self._log.failure("{name} did not start", name=child.name)
            self.fail(f"{child.name}: {explain(error)}")

    def _make_sure_of_room(self) -> None:
        """Fail rather than wait for ever for room that there will never be."""
        if self.listening and not self.guard.has_room():
            limit = self.guard.limit
            self.fail(f"a file limit of {limit} leaves no room for connections (ulimit -n)")

    def _now_running(self) -> None:
        process.on_stop_signals(self.reactor, self._signalled)
        if self.failure is None:
            self.phase = Phase.SERVING
            self._log.info(
                "evserve {version} serves {names} (Twisted {twisted}, {reactor}, Python {python})",
                version=__version__,
                names=", ".join(str(child.name) for child in self),
                twisted=twisted.__version__,
                reactor=type(self.reactor).__name__,
                python=sys.version.partition(" ")[0],
            )
            self.notifier.ready(f"Serving {', '.join(str(child.name) for child in self)}")

    def fail(self, reason: str) -> None:
        """Stop with status 1 after one line on the terminal; the first failure speaks."""
        if self.failure is not None:
            return
        self.failure = reason = " ".join(reason.split())
        self.finish(1)  # before anything that may go wrong in turn
        if self._terminal is not None:
            with suppress(OSError, ValueError):  # it is full, nobody reads, it is closed
                self._terminal.write(f"evserve: {reason}\n")
                self._terminal.flush()
        if not self._logs_to_terminal():
            # Not critical: Twisted would print that once more if logging has not begun (`twist`).
            self._log.error("{reason}", reason=reason)

    def _logs_to_terminal(self) -> bool:
        return logs_to_terminal(self._twistd)

    def finish(self, status: int) -> None:
        """Stop the reactor, now or as soon as it runs, and end the process with `status`."""
        if status:
            process.exit_with(status)
        self.reactor.callWhenRunning(self._end)

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self.reactor.stop()

    def _signalled(self, name: str) -> None:
        if self._stopped is None:
            self._log.info("{name}: stopping", name=name)
            self._end()
        else:
            self._cut(f"{name} again")

    def stopService(self) -> Deferred[None]:
        """Stop everything begun, the last first; fires when all is done or time is up."""
        self.running = 0
        self.phase = Phase.DRAINING
        self.notifier.stopping("Draining")
        stopped: Deferred[None] = Deferred()
        self._stopped = stopped
        deadline = self.reactor.callLater(
            max(self._drain, TURN), self._cut, f"not done after {self._drain:g} seconds"
        )
        stopping = DeferredList(
            [
                maybeDeferred(child.stopService)
                for child in reversed(self._begun)
                if child is not self.admin
            ],
            consumeErrors=True,
        )

        def all_stopped(results: list[tuple[bool, Any]]) -> None:
            if deadline.active():
                deadline.cancel()
            for succeeded, result in results:
                if not succeeded:
                    process.exit_with(1)
                    self._log.failure("a service did not stop", result)
            self._let_go()

        stopping.addCallback(all_stopped)
        return stopped

    def _cut(self, why: str) -> None:
        """Abort what is still open; whatever does not end within GRACE is left behind."""
        process.exit_with(1)
        count = sum(each.door.abort() for each in self.listening)
        self._log.warn("{why}: aborted {count} connections", why=why, count=count)
        self.reactor.callLater(GRACE, self._let_go)

    def _let_go(self) -> None:
        """Close the admin port, which has told of the drain until now; then all is done."""
        leaving = maybeDeferred(self.admin.stopService) if self.admin else succeed(None)
        leaving.addErrback(lambda failure: self._log.failure("admin did not stop", failure))
        leaving.addCallback(lambda _: self._all_stopped())

    def _all_stopped(self) -> None:
        if self._stopped is not None and not self._stopped.called:
            self._stopped.callback(None)


@implementer(IHost)
@define(eq=False)
class ServiceHost:
    """The host, as the service called `name` sees it."""

    name: str
    root: Root

    @property
    def reactor(self) -> Any:
        """See IHost."""
        return self.root.reactor

    @property
    def metrics(self) -> CollectorRegistry:
        """See IHost."""
        return self.root.metrics.of(self.name)

    def listen(self, options: Options, factory: IProtocolFactory) -> IService:
        """See IHost."""
        root = self.root
        door = Door(self.name, factory, Limits.of(options), root.reactor, root.guard)
        interface = options.get("interface") or LOOPBACK
        endpoints = {
            written: root.endpoint(self.name, written, interface)
            for written in endpoint_strings(options)
        }
        self.metrics.register(door)
        service = ListeningService(self, endpoints, door)
        root.listening.append(service)
        return service

    def fail(self, reason: str) -> None:
        """See IHost."""
        self.root.fail(f"{self.name}: {reason}")

    def finish(self, status: int = 0) -> None:
        """See IHost."""
        self.root.finish(status)


def build_tree(orders: list[Order], root: Root) -> Root:
    """Make the services; one that cannot be made ends the process with one line."""
    for order in orders:
        service = _make(order, root)
        service.setName(order.name)
        service.setServiceParent(root)
    return root


def _make(order: Order, root: Root) -> IService:
    try:
        made = order.loaded.make_service(order.options, ServiceHost(order.name, root))
    except Exception as error:
        if not isinstance(error, MENDABLE):  # a defect: whoever mends it wants to see where
            traceback.print_exc()
        raise SystemExit(f"evserve: {order.name}: {explain(error)}") from None
    service: IService | None = IService(made, None)
    if service is None:
        raise SystemExit(f"evserve: {order.name}: makeService returned {made!r}, not a service")
    return service
