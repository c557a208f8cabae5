"""The door of a listening service: who comes in, who is still there, who has to go.

It counts and limits connections for every service alike.
"""

import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from sys import intern
from types import MethodType
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from attrs import define, field
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from twisted.internet import protocol
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IFileDescriptorReceiver,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IProtocolNegotiationFactory,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface, alsoProvides, implementer

from evserve.host.options import Limits
from evserve.interfaces import IDrainable


_log = Logger()


_OPTIONAL = (IHandshakeListener, IFileDescriptorReceiver)


class Keeper(Protocol):
    """Who is told of connections: the door."""

    def opened(self, connection: "Connection") -> None:
        """Hear that it is open."""

    def closed(self, connection: "Connection") -> None:
        """Hear that it is gone."""


def _pass_on(inner: Any, data: bytes) -> None:
    """Give bytes to a protocol, whose `dataReceived` may be another at any time."""
    inner.dataReceived(data)


@define(eq=False)
class Metered:
    """Passes bytes on and counts them, for a transport that does not."""

    inner: Any
    bytes_received: int = 0

    def dataReceived(self, data: bytes) -> None:
        """Count, and pass on."""
        self.bytes_received += len(data)
        self.inner.dataReceived(data)


@implementer(IProtocol, IHalfCloseableProtocol)
@define(eq=False)  # with slots: the uvloop reactor calls a `dataReceived` in a slot directly
class Connection:
    """A service's protocol and what the host knows of its connection.

    The protocol is given the real transport, so its writes do not come past here. A protocol that
    puts another in its place (`transport.protocol = ...`) is counted for as long as the process
    lives.
    """

    inner: Any
    door: Keeper
    peer: str | None
    transport: Any = None
    dataReceived: Callable[[bytes], None] = field(init=False)
    _counter: Any = field(init=False)  # has `bytes_received`

    def __attrs_post_init__(self) -> None:
        self._counter = Metered(self.inner)
        self.dataReceived = self._counter.dataReceived

    @property
    def received(self) -> int:
        """How many bytes have come."""
        return int(self._counter.bytes_received)

    def makeConnection(self, transport: Any) -> None:
        """Let the protocol have its transport."""
        self.transport = transport
        # Asked of its class: a layer such as TLS would answer for the transport beneath.
        if hasattr(type(transport), "bytes_received"):
            self._counter = transport
            self.dataReceived = MethodType(_pass_on, self.inner)
        self.door.opened(self)
        self.inner.makeConnection(transport)

    def connectionMade(self) -> None:
        """Pass on; `makeConnection` of the protocol has done it."""
        self.inner.connectionMade()

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


@define(eq=False, slots=False)  # without slots, because alsoProvides leaves a note
class ParticularConnection(Connection):
    """That of a protocol with optional interfaces, which it shows."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        alsoProvides(self, *optional_interfaces(self.inner))


def optional_interfaces(protocol: Any) -> list[type[Interface]]:
    """Return what transports look for in a protocol, beyond what each has to have."""
    return [each for each in _OPTIONAL if each.providedBy(protocol)]


class Refusal(protocol.Protocol):
    """Closes at once: returning no protocol would crash a TLS factory around the door."""

    def makeConnection(self, transport: Any) -> None:
        """Close."""
        transport.abortConnection()


RETRY = 0.25  # seconds between looks whether there is room again
_MORE = 20  # Twisted accepts this many more in one go than in the last, at most


@define(eq=False)
class DescriptorGuard:
    """Pauses every listening port of the process while few of its `limit` descriptors are left."""

    reactor: Any
    limit: int
    ports: set[Any] = field(init=False, factory=set)
    paused: bool = field(init=False, default=False)

    @property
    def reserve(self) -> int:
        """How many descriptors are kept free: enough for all that one turn may accept."""
        return min(max(32, self.limit // 4), 256, self.limit // 2)

    def watch(self, port: Any) -> None:
        """Look after a listening port."""
        self.ports.add(port)
        self._bound_batch(port)
        if self.paused:
            port.stopReading()

    def forget(self, port: Any) -> None:
        """Stop looking after a port that is being closed."""
        self.ports.discard(port)

    def opened(self, transport: Any) -> None:
        """Note a new connection: the kernel gives the lowest free number, so a high one warns."""
        for port in self.ports:
            self._bound_batch(port)  # it grows while every batch is full
        fileno = getattr(transport, "fileno", None)
        if fileno is not None and fileno() >= self.limit - self.reserve and not self.paused:
            self._pause()

    def _pause(self) -> None:
        self.paused = True
        _log.warn(
            "file limit ({limit}) nearly reached: accepting no connections until there is room",
            limit=self.limit,
        )
        for port in self.ports:
            port.stopReading()
        self.reactor.callLater(RETRY, self._retry)

    def _retry(self) -> None:
        if not self.has_room():
            self.reactor.callLater(RETRY, self._retry)
            return
        self.paused = False
        _log.info("accepting connections again")
        for port in self.ports:
            port.startReading()

    def has_room(self) -> bool:
        """Whether a connection would get a low number, even if each port takes one to accept."""
        probes: list[int] = []
        try:
            for _ in range(len(self.ports) + 1):
                probes.append(os.open(os.devnull, os.O_RDONLY))  # noqa: PERF401 - may raise midway
        except OSError:
            return False
        finally:
            for each in probes:
                os.close(each)
        return probes[-1] < self.limit - self.reserve

    def _bound_batch(self, port: Any) -> None:
        if hasattr(port, "numberAccepts"):
            port.numberAccepts = max(1, self.reserve - _MORE)


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


# struct tcp_info of Linux: eight single bytes, nine 32-bit fields, then the milliseconds since
# data was last sent.
_LAST_DATA_SENT = struct.Struct("=44xI")
_SWEEPS = 4  # a time-out: the precision is a quarter of it


@define(eq=False)
class IdleSweep:
    """Aborts each of a door's connections once it has been silent for the door's idle time-out."""

    door: Door
    _seen: WeakKeyDictionary[Connection, tuple[int, float]] = field(
        init=False, factory=WeakKeyDictionary
    )
    _loop: LoopingCall = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(self.sweep)
        self._loop.clock = self.door.reactor

    def start(self) -> None:
        """Begin, if the door has an idle time-out."""
        if self.door.limits.idle_timeout is not None:
            self._loop.start(self.door.limits.idle_timeout / _SWEEPS)

    def stop(self) -> None:
        """End."""
        if self._loop.running:
            self._loop.stop()

    def sweep(self) -> None:
        """Look at every connection once."""
        now = self.door.reactor.seconds()
        silent = [each for each in self.door.connections if self._is_silent(each, now)]
        for connection in silent:
            connection.abort()
        if silent:
            _log.info(
                "{name}: closed {count} idle connections", name=self.door.name, count=len(silent)
            )

    def _is_silent(self, connection: Connection, now: float) -> bool:
        received, since = self._seen.get(connection, (-1, now))
        if connection.received != received:
            self._seen[connection] = (connection.received, now)
            return False
        timeout = self.door.limits.idle_timeout or 0
        if now - since < timeout:
            return False
        sent = seconds_since_sent(connection.transport)
        return sent is None or sent >= timeout


def seconds_since_sent(transport: Any) -> float | None:
    """Ask the kernel how long ago a TCP transport last sent data; None where it cannot tell."""
    while hasattr(transport, "transport"):  # TLS, haproxy: layers around the connection
        transport = transport.transport
    try:
        info = transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        (milliseconds,) = _LAST_DATA_SENT.unpack_from(info)
    except (AttributeError, OSError, struct.error):
        return None
    return float(milliseconds) / 1000
