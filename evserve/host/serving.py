"""What a service sees of the host, and how the services asked for become one tree."""

import traceback
from typing import Any

from attrs import define
from prometheus_client import CollectorRegistry
from twisted.application.service import IService
from twisted.internet.interfaces import IProtocolFactory
from twisted.python.usage import Options
from zope.interface import implementer

from evserve.host.application import Root
from evserve.host.connections import Door
from evserve.host.endpoints import endpoint_strings
from evserve.host.errors import MENDABLE, explain
from evserve.host.listener import ListeningService
from evserve.host.options import LOOPBACK, Limits
from evserve.host.orders import Order
from evserve.interfaces import IHost


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
