"""Test doubles for plugin authors: a host, clients and a queue, all in memory.

host = MemoryHost()
service = makeService(Options(), host)
service.startService()
client = host.connect()
client.send(b"hello")
assert client.received == b"HELLO"
"""

from typing import Any

from attrs import define, field
from prometheus_client import CollectorRegistry
from twisted.application.service import IService, Service
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IProtocolFactory
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.python.usage import Options
from zope.interface import implementer

from evserve.events.memory import MemoryQueue
from evserve.interfaces import IDrainable, IHost


__all__ = ["MemoryClient", "MemoryHost", "MemoryListener", "MemoryQueue"]


@define(eq=False)
class MemoryClient:
    """A client of a service; data arrives at once in both directions."""

    protocol: Any  # the service's IProtocol
    transport: Any

    @property
    def received(self) -> bytes:
        """The bytes that the service has sent so far."""
        sent: bytes = self.transport.value()
        return sent

    @property
    def connected(self) -> bool:
        """Whether the connection is open."""
        return bool(self.transport.connected)

    def send(self, data: bytes) -> None:
        """Send `data` to the service."""
        self.protocol.dataReceived(data)

    def finish(self) -> None:
        """Close the sending half, or the connection if the service needs both halves."""
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is None:
            self.disconnect()
        else:
            half.readConnectionLost()

    def disconnect(self) -> None:
        """Close the connection."""
        self.transport.loseConnection()


@define(eq=False)
class MemoryListener(Service):
    """The service that `MemoryHost.listen` returns; it accepts clients while it runs."""

    options: Options
    factory: IProtocolFactory
    clients: list[MemoryClient] = field(init=False, factory=list)

    def connect(self) -> MemoryClient:
        """Return a new client; raises ConnectionRefusedError if the service is not started."""
        if not self.running:
            raise ConnectionRefusedError("the service is not running: call startService")
        address = IPv4Address("TCP", "192.0.2.1", 50000 + len(self.clients))
        protocol: IProtocol | None = self.factory.buildProtocol(address)
        if protocol is None:
            raise ConnectionRefusedError("the factory returned no protocol")
        transport = StringTransportWithDisconnection(peerAddress=address)
        transport.protocol = protocol
        client = MemoryClient(protocol, transport)
        self.clients.append(client)
        protocol.makeConnection(transport)
        return client

    def stopService(self) -> None:
        """Drain every connection, as the host does when the process stops."""
        Service.stopService(self)
        for client in self.clients:
            if client.connected:
                drainable = IDrainable(client.protocol, None)
                (client.transport.loseConnection if drainable is None else drainable.drain)()


@implementer(IHost)
@define(eq=False)
class MemoryHost:
    """A host without a network; its reactor is a clock that the test advances.

    failures, statuses: what the service passed to `fail` and `finish`.
    """

    reactor: Any = field(factory=MemoryReactorClock)
    metrics: CollectorRegistry = field(factory=CollectorRegistry)
    listeners: list[MemoryListener] = field(init=False, factory=list)
    failures: list[str] = field(init=False, factory=list)
    statuses: list[int] = field(init=False, factory=list)

    def listen(self, options: Options, factory: IProtocolFactory) -> IService:
        listener = MemoryListener(options, factory)
        self.listeners.append(listener)
        return listener

    def connect(self) -> MemoryClient:
        """Return a new client of the last listener."""
        return self.listeners[-1].connect()

    def fail(self, reason: str) -> None:
        self.failures.append(reason)

    def finish(self, status: int = 0) -> None:
        self.statuses.append(status)

    def metric(self, name: str, **labels: str) -> float | None:
        """Return the value of a metric, such as `evserve_datagrams_total`, or None."""
        return self.metrics.get_sample_value(name, labels)
