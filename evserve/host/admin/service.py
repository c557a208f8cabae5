"""The admin port as a service: it starts before the others and stops after them."""

from typing import Any

from attrs import define
from twisted.internet.defer import Deferred

from evserve.host.admin.pages import Pages
from evserve.host.admin.site import admin_site
from evserve.host.application import RootService, ServiceHost
from evserve.host.config import ServiceConfig
from evserve.host.connections import ConnectionLimiter, DescriptorLimiter
from evserve.host.endpoints import parse_endpoint
from evserve.host.listener import ListenerService
from evserve.host.options import LOOPBACK, Limits


# Few enough to live on the descriptors that the host keeps free.
LIMITS = Limits(max_connections=24, idle_timeout=60)


@define(eq=False)
class Unguarded(DescriptorLimiter):
    """Lets the admin port answer when the others pause: that is when somebody looks."""

    def watch(self, port: Any) -> None:
        """Leave the port alone."""

    def opened(self, transport: Any) -> None:
        """Take no notice."""


@define(eq=False)
class AdminService(ListenerService):
    """Listens like any service, but its connections hold nothing up when it stops."""

    def stopService(self) -> Deferred[None]:
        """Stop listening and close every connection now."""
        stopped = ListenerService.stopService(self)
        self.limiter.abort()
        return stopped


def make_admin(endpoint: str, orders: list[ServiceConfig], root: RootService) -> AdminService:
    """Return the admin port of `root`, listening on an endpoint string that was checked."""
    site = admin_site(root.reactor, Pages(root, orders).by_path())
    limiter = ConnectionLimiter(
        "admin", site, LIMITS, root.reactor, Unguarded(root.reactor, root.descriptors.limit)
    )
    endpoints = {endpoint: parse_endpoint(root.reactor, endpoint, LOOPBACK)}
    service = AdminService(ServiceHost("admin", root), endpoints, limiter)
    service.name = "admin"
    return service
