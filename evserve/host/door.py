"""The door of a listening service: who comes in, who is still there, who has to go.

It counts and limits connections for every service alike; that costs one Python frame per read and
none per write.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from attrs import define, field
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IFileDescriptorReceiver,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IProtocolNegotiationFactory,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from evserve.host.descriptors import DescriptorGuard
from evserve.host.options import Limits
from evserve.interfaces import IDrainable


_log = Logger()

PREFIX = "evserve door"  # marks Twisted's own lines about our ports, which say less than ours
_OPTIONAL = (IHandshakeListener, IFileDescriptorReceiver)


@implementer(IProtocol, IHalfCloseableProtocol)
@define(eq=False, slots=False)  # without slots, because alsoProvides leaves a note
class Connection:
    """A service's protocol and what the host knows of its connection.

    The protocol is given the real transport, so its writes do not come past here. A protocol that
    puts another in its place (`transport.protocol = ...`) is counted for as long as the process
    lives.
    """

    inner: Any
    door: "Door"
    peer: str | None
    received: int = 0  # bytes
    transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        """Let the protocol have its transport."""
        self.transport = transport
        optional = [each for each in _OPTIONAL if each.providedBy(self.inner)]
        if optional:
            alsoProvides(self, *optional)
        self.door.opened(self)
        self.inner.makeConnection(transport)

    def connectionMade(self) -> None:
        """Pass on; `makeConnection` of the protocol has done it."""
        self.inner.connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """Count, and pass on."""
        self.received += len(data)
        self.inner.dataReceived(data)

    def readConnectionLost(self) -> None:
        """Let a client that says no more still get what was written to it.

        Twisted would drop that, unless the protocol knows of half-closed connections itself.
        """
        half = IHalfCloseableProtocol(self.inner, None)
        if half is None:
            self.transport.loseConnection()
        else:
            half.readConnectionLost()

    def writeConnectionLost(self) -> None:
        """Pass on."""
        half = IHalfCloseableProtocol(self.inner, None)
        if half is not None:
            half.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Let it go."""
        self.door.closed(self)
        self.inner.connectionLost(reason)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def drain(self) -> None:
        """Ask the protocol to finish, or close once what it wrote is sent."""
        drainable = IDrainable(self.inner, None)
        if drainable is None:
            self.transport.loseConnection()
        else:
            drainable.drain()

    def abort(self) -> None:
        """Close now; what has not been sent is lost."""
        getattr(self.transport, "abortConnection", self.transport.loseConnection)()


class Refusal(Protocol):
    """Closes at once: returning no protocol would crash a TLS factory around the door."""

    def makeConnection(self, transport: Any) -> None:
        """Close."""
        transport.abortConnection()


@define(eq=False)
class Door(Factory):
    """A protocol factory around a service's own: counts, limits, and empties when asked."""

    name: str
    inner: IProtocolFactory
    limits: Limits
    reactor: Any
    guard: DescriptorGuard
    connections: set[Connection] = field(init=False, factory=set)
    accepted: int = field(init=False, default=0)
    refused: Counter[str] = field(init=False, factory=Counter)
    _peers: Counter[str] = field(init=False, factory=Counter)
    _received: int = field(init=False, default=0)  # bytes, from connections that are gone
    _unreported: Counter[str] = field(init=False, factory=Counter)
    _emptied: list[Deferred[None]] = field(init=False, factory=list)

    noisy = False

    def __attrs_post_init__(self) -> None:
        if IProtocolNegotiationFactory.providedBy(self.inner):
            alsoProvides(self, IProtocolNegotiationFactory)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def logPrefix(self) -> str:
        """Mark the lines that Twisted writes about the port."""
        return PREFIX

    def startFactory(self) -> None:
        """Pass on."""
        self.inner.doStart()

    def stopFactory(self) -> None:
        """Pass on."""
        self.inner.doStop()

    def buildProtocol(self, addr: Any) -> Any:
        """Let a client in, or refuse it."""
        peer = getattr(addr, "host", None)
        reason = self._reason_to_refuse(peer)
        if reason is not None:
            self._refuse(reason)
            return Refusal()
        inner = self.inner.buildProtocol(addr)
        return Refusal() if inner is None else Connection(inner, self, peer)

    def _reason_to_refuse(self, peer: str | None) -> str | None:
        most, per_peer = self.limits.max_connections, self.limits.max_per_peer
        if most is not None and len(self.connections) >= most:
            return "max-connections"
        if per_peer is not None and peer is not None and self._peers[peer] >= per_peer:
            return "max-per-peer"
        return None

    def _refuse(self, reason: str) -> None:
        self.refused[reason] += 1
        if not self._unreported:
            self.reactor.callLater(1, self._report_refused)
        self._unreported[reason] += 1

    def _report_refused(self) -> None:
        for reason, count in self._unreported.items():
            _log.warn(
                "{name}: refused {count} connections in the last second ({reason})",
                name=self.name,
                count=count,
                reason=reason,
            )
        self._unreported.clear()

    def opened(self, connection: Connection) -> None:
        """Note a connection."""
        self.accepted += 1
        self.connections.add(connection)
        if connection.peer is not None:
            self._peers[connection.peer] += 1
        self.guard.opened(connection.transport)

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        self._received += connection.received
        peer = connection.peer
        if peer is not None:
            self._peers[peer] -= 1
            if not self._peers[peer]:
                del self._peers[peer]
        if not self.connections:
            waiting, self._emptied = self._emptied, []
            for each in waiting:
                each.callback(None)

    def drain(self) -> Deferred[None]:
        """Ask every connection to finish; fires when all are gone."""
        for connection in list(self.connections):
            try:
                connection.drain()
            except Exception:
                _log.failure("{name}: a protocol cannot finish", name=self.name)
                connection.abort()
        if not self.connections:
            return succeed(None)
        emptied: Deferred[None] = Deferred()
        self._emptied.append(emptied)
        return emptied

    def abort(self) -> int:
        """Close every connection now; return how many there were."""
        present = list(self.connections)
        for connection in present:
            connection.abort()
        return len(present)

    def collect(self) -> Iterator[Metric]:
        """Yield the connection metrics (prometheus_client's Collector)."""
        received = self._received + sum(each.received for each in self.connections)
        yield GaugeMetricFamily(
            "evserve_connections", "Connections that are open.", len(self.connections)
        )
        yield CounterMetricFamily(
            "evserve_connections_accepted", "Connections let in.", self.accepted
        )
        yield CounterMetricFamily("evserve_received_bytes", "Bytes received.", received)
        refused = CounterMetricFamily(
            "evserve_connections_refused", "Connections turned away.", labels=["reason"]
        )
        for reason, count in self.refused.items():
            refused.add_metric([reason], count)
        yield refused
