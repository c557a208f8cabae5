"""The admin port as a service, which starts before the other services and stops after them."""

from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from typing_extensions import override

from evserve.host.admin.http import AdminResource, AdminSite
from evserve.host.descriptors import DescriptorGuard
from evserve.host.door import Door
from evserve.host.endpoints import parse_endpoint
from evserve.host.listening import ListeningService
from evserve.host.options import LOOPBACK, Limits
from evserve.host.orders import Order
from evserve.host.root import Root
from evserve.host.serving import ServiceHost


# So few that the descriptors which the host keeps free are enough for them.
LIMITS = Limits(max_connections=24, idle_timeout=60)


@define(eq=False)
class AdminService(ListeningService):
    """Listens like any service, but does not wait for its connections when it stops."""

    @override
    def stopService(self) -> Deferred[None]:
        stopped = ListeningService.stopService(self)
        self.door.abort()
        return stopped


@define(eq=False)
class _NoGuard(DescriptorGuard):
    """Never pauses the admin port: it must answer when the services have paused theirs."""

    @override
    def watch(self, port: Any) -> None:
        pass

    @override
    def opened(self, transport: Any) -> None:
        pass


def make_admin(endpoint: str, orders: list[Order], root: Root) -> AdminService:
    """Return the admin port of `root`, on an endpoint string that `admin_endpoint` accepted."""
    make_site: Any = AdminSite  # its constructor has no annotations
    site = make_site(AdminResource(root, orders), reactor=root.reactor)
    door = Door("admin", site, LIMITS, root.reactor, _NoGuard(root.reactor, root.guard.limit))
    endpoints = {endpoint: parse_endpoint(root.reactor, endpoint, LOOPBACK)}
    service = AdminService(ServiceHost("admin", root), endpoints, door)
    service.name = "admin"
    return service
