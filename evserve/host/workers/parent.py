"""The parent of the workers: it binds the sockets, and watches."""

from typing import Any

from attrs import evolve
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.python.usage import Options

from evserve.host import process
from evserve.host.application import GRACE, RootService
from evserve.host.config import ServiceConfig
from evserve.host.endpoints import parse_endpoint
from evserve.host.logs import logs_to_terminal
from evserve.host.workers.assignment import Socket
from evserve.host.workers.child import Child
from evserve.host.workers.crew import Crew, Starter
from evserve.host.workers.sharing import Binder
from evserve.host.workers.totals import ServiceTotals
from evserve.interfaces import IHost, LoadedService


class ParentRoot(RootService):
    """The root of the parent's tree, whose services are stand-ins that only bind."""

    def __init__(
        self,
        reactor: Any,
        twistd: dict[str, Any],
        log_format: str,
        drain: float,
        *,
        size: int,
        launcher: Starter,
    ) -> None:
        # The workers keep the time; the parent only steps in if one of them hangs.
        super().__init__(reactor, twistd, log_format, drain + 3 * GRACE)
        self.crew = Crew(size, reactor, launcher, self._worker_failed)
        self._binders: dict[Socket, Binder] = {}

    def endpoint(self, service: str, written: str, interface: str) -> IStreamServerEndpoint:
        """Return an endpoint that binds a socket for the workers."""
        binder = self._binders[service, written] = Binder(self.reactor)
        return parse_endpoint(binder, written, interface)

    def _reactor_running(self) -> None:
        process.on_stop_signals(self.reactor, self._on_signal)
        if self.failure is None:
            self._start_crew()

    def _start_crew(self) -> None:
        for (service, written), binder in self._binders.items():
            if binder.port is None:
                self.fail(f"{service}: --workers: {written!r} has no socket that can be shared")
                return
        self._started_children.append(self.crew)
        self.crew.complete.addCallback(self._complete)
        ports = {key: binder.port.fileno() for key, binder in self._binders.items()}
        self.crew.start(ports)

    def _complete(self, _: None) -> None:
        pids = ", ".join(map(str, self.crew.pids()))
        self._log.info("{size} workers: processes {pids}", size=self.crew.size, pids=pids)
        super()._reactor_running()

    def _worker_failed(self, child: Child) -> None:
        if child.status and logs_to_terminal(self._twistd):
            self.finish(child.status)  # it has said why itself
        else:
            self.fail(f"worker {child.number} {child.end} before it served")

    def stopService(self) -> Deferred[None]:
        """Stop; the status says whether a worker had to cut somebody off."""
        return super().stopService().addCallback(self._judge)

    def _judge(self, _: None) -> None:
        if not self.crew.clean:
            process.exit_with(1)

    def _abort(self, why: str) -> None:
        """Let the workers abort what is open; those that hang are killed."""
        process.exit_with(1)
        self._log.warn("{why}: aborting connections", why=why)
        self.crew.cut()
        self.reactor.callLater(2 * GRACE, self._kill)

    def _kill(self) -> None:
        if self.crew.kill():
            self.reactor.callLater(GRACE, self._stop_admin)


def stand_in(order: ServiceConfig) -> ServiceConfig:
    """Return an order for a service that only binds the sockets of another."""
    return evolve(order, loaded=LoadedService(order.loaded.options, _bind))


def _bind(options: Options, host: IHost) -> IService:
    service: Any = host.listen(options, Factory())
    host.metrics.unregister(service.limiter)  # nobody comes in here: the workers count
    root: ParentRoot = service.host.root
    host.metrics.register(ServiceTotals(root.crew.totals, service.limiter.name))
    return IService(service)
