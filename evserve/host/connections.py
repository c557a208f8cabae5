"""The door of a listening service: who comes in, who is still there, who has to go.

It counts and limits connections for every service alike.
"""

from collections import Counter
from collections.abc import Iterator
from sys import intern
from typing import Any

from attrs import define, field
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IProtocolFactory,
    IProtocolNegotiationFactory,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import alsoProvides

from evserve.host.connection import Connection, ParticularConnection, Refusal, optional_interfaces
from evserve.host.descriptors import DescriptorGuard
from evserve.host.options import Limits


_log = Logger()


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
        """Mark the lines that Twisted writes about the port, which say less than ours."""
        return "evserve door"

    def startFactory(self) -> None:
        """Pass on."""
        self.inner.doStart()

    def stopFactory(self) -> None:
        """Pass on."""
        self.inner.doStop()

    def buildProtocol(self, addr: Any) -> Any:
        """Let a client in, or refuse it."""
        host = getattr(addr, "host", None)
        peer = None if host is None else intern(host)  # those of one peer share the text
        reason = self._reason_to_refuse(peer)
        if reason is not None:
            self._refuse(reason)
            return Refusal()
        inner = self.inner.buildProtocol(addr)
        if inner is None:
            return Refusal()
        kind = ParticularConnection if optional_interfaces(inner) else Connection
        return kind(inner, self, peer)

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
