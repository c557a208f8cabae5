"""The admin port as a service, which starts before the other services and stops after them."""

from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from typing_extensions import override

from evserve.host.admin.http import AdminResource, AdminSite
from evserve.host.application import RootService, ServiceHost
from evserve.host.config import ServiceConfig
from evserve.host.connections import ConnectionLimiter, DescriptorLimiter
from evserve.host.listener import ListenerService, SharedSocketReactor
from evserve.host.options import LOOPBACK, Limits


LIMITS = Limits(idle_timeout=60)  # AdminSite limits the number of connections


@define(eq=False)
class AdminService(ListenerService):
    """Listens like any service, but does not wait for its connections when it stops."""

    @override
    def stopService(self) -> Deferred[None]:
        stopped = ListenerService.stopService(self)
        self.limiter.abort()
        return stopped


@define(eq=False)
class _UnlimitedDescriptors(DescriptorLimiter):
    """Never pauses the admin port: it must answer when the services have paused theirs."""

    @override
    def watch(self, port: Any) -> None:
        pass

    @override
    def opened(self, transport: Any) -> None:
        pass


def make_admin(endpoint: str, configs: list[ServiceConfig], root: RootService) -> AdminService:
    """Return the admin port of `root`, on an endpoint string that `valid_endpoint` accepted."""
    site = AdminSite(AdminResource(root, configs), root.reactor)
    descriptors = _UnlimitedDescriptors(root.reactor, root.descriptors.limit)
    limiter = ConnectionLimiter("admin", site, LIMITS, root.reactor, descriptors)
    # Not root.endpoint: a supervisor only binds those.
    reactor = SharedSocketReactor(root.reactor)
    endpoints = {endpoint: root.certificates.endpoint(reactor, endpoint, LOOPBACK)}
    service = AdminService(ServiceHost("admin", root), endpoints, limiter)
    service.name = "admin"
    return service
