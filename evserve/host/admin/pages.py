"""What stands at which path of the admin port."""

import os
import platform
from collections.abc import Mapping
from http import HTTPStatus

import twisted
from attrs import define, field
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from evserve import __version__
from evserve.host.admin.answer import Answer, AnswerTo, plain
from evserve.host.admin.exposition import exposition, registry_of
from evserve.host.admin.page import status_page
from evserve.host.admin.readiness import reason_unready
from evserve.host.admin.status import Process, ServiceMetrics, ServiceStatus, Status
from evserve.host.application import RootService
from evserve.host.config import ServiceConfig


@define(eq=False)
class Pages:
    """The pages about the services that `orders` asked for and `root` runs."""

    root: RootService
    orders: list[ServiceConfig]
    _since: float = field(init=False)
    _registry: CollectorRegistry = field(init=False)
    _page: Answer = field(init=False, factory=status_page)

    def __attrs_post_init__(self) -> None:
        self._since = self.root.reactor.seconds()
        self._registry = registry_of(self.root.metrics)

    def by_path(self) -> Mapping[str, AnswerTo]:
        """Return the pages by their paths."""
        return {
            "/": lambda _: self._page,
            "/api/status": lambda _: self._api_status(),
            "/healthz": lambda _: plain("ok"),
            "/metrics": lambda accept: exposition(self._registry, accept),
            "/readyz": lambda _: self._ready(),
        }

    def _ready(self) -> Answer:
        reason = reason_unready(self.root)
        if reason is None:
            return plain("ready")
        return plain(reason, HTTPStatus.SERVICE_UNAVAILABLE)

    def _api_status(self) -> Answer:
        return Answer(self.status().as_json(), content_type="application/json")

    def status(self) -> Status:
        """Return the state of everything now."""
        families = list(self.root.metrics.collect())
        services = tuple(self._service(order, families) for order in self.orders)
        return Status(self.root.phase, reason_unready(self.root), self._process(), services)

    def _service(self, order: ServiceConfig, families: list[Metric]) -> ServiceStatus:
        metrics = ServiceMetrics.of(order.name, families)
        listeners = [each for each in self.root.listeners if each.limiter.name == order.name]
        return ServiceStatus(
            name=order.name,
            plugin=order.plugin.name,
            description=order.plugin.description,
            listening=tuple(address for each in listeners for address in each.addresses),
            connections=metrics.total("evserve_connections"),
            accepted=metrics.total("evserve_connections_accepted"),
            refused=metrics.total("evserve_connections_refused"),
            received_bytes=metrics.total("evserve_received_bytes"),
            metrics=metrics.own(),
        )

    def _process(self) -> Process:
        reactor = self.root.reactor
        return Process(
            version=__version__,
            pid=os.getpid(),
            uptime=round(reactor.seconds() - self._since, 3),
            reactor=type(reactor).__name__,
            python=platform.python_version(),
            twisted=twisted.__version__,
        )
