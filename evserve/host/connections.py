"""Connections of listening services: counting, limits, drain, idle time-outs, file descriptors.

`ConnectionLimiter` stands between a port and a service's protocol factory and wraps each protocol
in a `Connection`. Writes do not pass through the wrapper. A read costs one Python frame, which
counts bytes only if the transport does not count them itself.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from sys import intern
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

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
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import Interface, alsoProvides, implementer

from evserve.host.drain import Traffic, in_flight, is_answering, lowest_transport
from evserve.host.options import Limits
from evserve.interfaces import IBusy, IDrainable


_log = Logger()

DESCRIPTOR_RETRY = 0.25  # seconds between checks for free descriptors
DRAIN_INTERVAL = 0.1  # seconds between looks at the connections that have work in flight

_OPTIONAL_INTERFACES = (IHandshakeListener, IFileDescriptorReceiver)
_SWEEPS_PER_TIMEOUT = 4  # so a time-out is up to a quarter late
_BATCH_GROWTH = 20  # after a full batch, Twisted's ports accept this many more in the next


@define(eq=False)
class ConnectionLimiter(Factory):
    """Wraps a service's protocol factory: counts and limits its connections, and drains them."""

    name: str  # of the service
    inner: IProtocolFactory
    limits: Limits
    reactor: Any
    descriptors: "DescriptorLimiter"
    connections: set["Connection"] = field(init=False, factory=set)
    accepted: int = field(init=False, default=0)
    refused: Counter[str] = field(init=False, factory=Counter)  # by option name
    _peers: Counter[str] = field(init=False, factory=Counter)
    _received: int = field(init=False, default=0)  # bytes, from closed connections
    _unreported: Counter[str] = field(init=False, factory=Counter)
    _drained: list[Deferred[None]] = field(init=False, factory=list)
    _drain_loop: LoopingCall = field(init=False)
    _looked_at: float = field(init=False, default=0.0)  # when closed connections were looked for

    noisy = False

    def __attrs_post_init__(self) -> None:
        self._drain_loop = LoopingCall(self._drain_idle)
        self._drain_loop.clock = self.reactor
        if IProtocolNegotiationFactory.providedBy(self.inner):
            alsoProvides(self, IProtocolNegotiationFactory)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def logPrefix(self) -> str:
        """Return a prefix by which evserve.host.logs drops Twisted's own lines about the port."""
        return "evserve limiter"

    def startFactory(self) -> None:
        self.inner.doStart()

    def stopFactory(self) -> None:
        self.inner.doStop()

    def buildProtocol(self, addr: Any) -> Any:
        return self.build_limited(self.inner, addr)

    def build_limited(self, factory: IProtocolFactory, addr: Any) -> Any:
        """Return a protocol of `factory` for a connection that counts here, or a refusal."""
        host = getattr(addr, "host", None)
        peer = None if host is None else intern(host)  # one string for all connections of a peer
        reason = self._exceeded_limit(peer)
        if reason is not None and self._looked_at + 1 < self.reactor.seconds():
            self._forget_closed()
            reason = self._exceeded_limit(peer)
        if reason is not None:
            self._refuse(reason)
            return RefusedConnection()
        inner = factory.buildProtocol(addr)
        if inner is None:
            return RefusedConnection()
        kind = TransparentConnection if _optional_interfaces(inner) else Connection
        return kind(inner, self, peer)

    def _exceeded_limit(self, peer: str | None) -> str | None:
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

    def opened(self, connection: "Connection") -> None:
        """Count a connection that was made."""
        self.accepted += 1
        self.connections.add(connection)
        if connection.peer is not None:
            self._peers[connection.peer] += 1
        self.descriptors.opened(connection.transport)

    def closed(self, connection: "Connection") -> None:
        """Forget a connection that was lost."""
        if connection not in self.connections:  # its end was noticed before it was reported
            return
        self.connections.discard(connection)
        self.descriptors.closed()
        self._received += connection.received
        peer = connection.peer
        if peer is not None:
            self._peers[peer] -= 1
            if not self._peers[peer]:
                del self._peers[peer]
        if not self.connections:
            if self._drain_loop.running:
                self._drain_loop.stop()
            waiting, self._drained = self._drained, []
            for each in waiting:
                each.callback(None)

    def _forget_closed(self) -> None:
        """Forget connections whose end was not reported: their protocol has replaced itself."""
        self._looked_at = self.reactor.seconds()
        for connection in list(self.connections):
            if connection.is_closed:
                self.closed(connection)

    def drain(self) -> Deferred[None]:
        """Ask every connection to finish once it is idle; fires when all are closed."""
        self._forget_closed()
        if not self.connections:
            return succeed(None)
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        if not self._drain_loop.running:
            self._drain_loop.start(DRAIN_INTERVAL)
        return drained

    def _drain_idle(self) -> None:
        self._forget_closed()
        for connection in list(self.connections):
            try:
                connection.drain()
            except Exception:
                _log.failure("{name}: a protocol failed to drain", name=self.name)
                connection.abort()

    def abort(self) -> int:
        """Abort every connection; return how many there were."""
        connections = list(self.connections)
        for connection in connections:
            connection.abort()
        return len(connections)

    def collect(self) -> Iterator[Metric]:
        """Yield the connection metrics (prometheus_client's Collector)."""
        self._forget_closed()
        received = self._received + sum(each.received for each in self.connections)
        yield GaugeMetricFamily("evserve_connections", "Open connections.", len(self.connections))
        yield GaugeMetricFamily(
            "evserve_accepting",
            "Processes that accept connections: none that has too few free descriptors does.",
            0 if self.descriptors.paused else 1,
        )
        yield CounterMetricFamily(
            "evserve_connections_accepted", "Accepted connections.", self.accepted
        )
        yield CounterMetricFamily("evserve_received_bytes", "Bytes received.", received)
        refused = CounterMetricFamily(
            "evserve_connections_refused", "Refused connections.", labels=["reason"]
        )
        for reason, count in self.refused.items():
            refused.add_metric([reason], count)
        yield refused


@implementer(IProtocol, IHalfCloseableProtocol)
@define(eq=False)  # with slots: the uvloop reactor calls a `dataReceived` in a slot directly
class Connection:
    """Wraps a service's protocol, which is given the real transport.

    A protocol that replaces itself (`transport.protocol = ...`) also replaces this wrapper, which
    then hears of nothing: the limiter looks whether the transport is closed.
    """

    inner: Any
    limiter: ConnectionLimiter
    peer: str | None  # IP address
    transport: Any = None
    dataReceived: Callable[[bytes], None] = field(init=False)
    _drain_asked: bool = field(init=False, default=False)
    _counter: Any = field(init=False)  # has `bytes_received`
    _lowest: Any = field(init=False)  # the transport below all layers, such as TLS

    def __attrs_post_init__(self) -> None:
        self._counter = _ByteCounter(self.inner)
        self.dataReceived = self._counter.dataReceived

    @property
    def received(self) -> int:
        """Bytes received so far."""
        return int(self._counter.bytes_received)

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        # Look at the class: a layer such as TLS passes attribute access to the transport below.
        if hasattr(type(transport), "bytes_received"):
            self._counter = transport
            self.dataReceived = MethodType(_forward, self.inner)
        self._lowest = lowest_transport(transport)
        self.limiter.opened(self)
        _keep_alive(self._lowest)
        self.inner.makeConnection(transport)

    def connectionMade(self) -> None:
        # The protocol's own makeConnection has called this already, for every Twisted protocol.
        self.inner.connectionMade()

    def readConnectionLost(self) -> None:
        """Send what is still buffered for a client that closed its sending half.

        Twisted discards it unless the protocol knows about half-closed connections.
        """
        half = IHalfCloseableProtocol(self.inner, None)
        if half is None:
            self.transport.loseConnection()
        else:
            half.readConnectionLost()

    def writeConnectionLost(self) -> None:
        half = IHalfCloseableProtocol(self.inner, None)
        if half is not None:
            half.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.limiter.closed(self)
        self.inner.connectionLost(reason)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def is_closed(self) -> bool:
        """Whether the transport is closed, reported or not."""
        return bool(getattr(self._lowest, "disconnected", False))

    @property
    def _protocol(self) -> Any:
        """The protocol that gets the bytes: the service's, or what has replaced it."""
        transport = self.transport
        current = getattr(transport, "wrappedProtocol", getattr(transport, "protocol", self))
        outer = current
        while current is not self and hasattr(current, "wrappedProtocol"):
            current = current.wrappedProtocol
        return self.inner if current is self else outer

    def drain(self) -> None:
        """Ask the protocol to finish, or close the connection once nothing is in flight.

        To be called again and again: it asks once.
        """
        if self._drain_asked:
            # An idle client may not read TLS's close alert for hours, and there is no need to wait
            # for its own (RFC 8446, 6.1).
            tls = self.transport
            is_tls = isinstance(tls, TLSMemoryBIOProtocol)
            if is_tls and tls.disconnecting and not tls._appSendBuffer:  # noqa: SLF001 - all is below TLS
                self._lowest.loseConnection()
            return
        protocol = self._protocol
        drainable = IDrainable(protocol, None)
        if drainable is not None:
            self._drain_asked = True
            drainable.drain()
        elif not in_flight(protocol, self.transport):
            self._drain_asked = True
            if getattr(self._lowest, "producer", None) is not None:
                # Of an idle HTTP channel or proxy. TLS would wait until it is unregistered.
                self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        """Close the connection now; unsent data is lost."""
        getattr(self.transport, "abortConnection", self.transport.loseConnection)()


@define(eq=False, slots=False)  # without slots: alsoProvides sets an attribute
class TransparentConnection(Connection):
    """A connection that provides the optional interfaces of its protocol."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        alsoProvides(self, *_optional_interfaces(self.inner))


class RefusedConnection(Protocol):
    """Aborts at once.

    A factory may return None instead, but a TLS factory around the limiter would crash on that.
    """

    def makeConnection(self, transport: Any) -> None:
        transport.abortConnection()


def _optional_interfaces(protocol: Any) -> list[type[Interface]]:
    """Return the interfaces of a protocol that transports look for, beyond those of all."""
    return [each for each in _OPTIONAL_INTERFACES if each.providedBy(protocol)]


@define(eq=False)
class _ByteCounter:
    """Forwards bytes and counts them, for transports that do not."""

    inner: Any
    bytes_received: int = 0

    def dataReceived(self, data: bytes) -> None:
        self.bytes_received += len(data)
        self.inner.dataReceived(data)


def _forward(inner: Any, data: bytes) -> None:
    inner.dataReceived(data)  # looked up each time: a protocol may replace its method


@define(eq=False)
class IdleSweep:
    """Aborts connections on which no byte has moved, in either direction, for the idle time-out.

    While a connection is busy the time-out does not run (see IBusy), unless the client leaves
    unread what it was sent.

    A sweep looks at all connections every quarter of the time-out, so the data path does no work
    for it. Only a connection that has received nothing costs a system call, about what was sent.
    """

    limiter: ConnectionLimiter
    _seen: WeakKeyDictionary[Connection, tuple[int, float]] = field(
        init=False, factory=WeakKeyDictionary
    )  # bytes received, and since when it is that many
    _loop: LoopingCall = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(self.sweep)
        self._loop.clock = self.limiter.reactor

    def start(self) -> None:
        """Start sweeping, if there is an idle time-out."""
        if self.limiter.limits.idle_timeout is not None:
            self._loop.start(self.limiter.limits.idle_timeout / _SWEEPS_PER_TIMEOUT)

    def stop(self) -> None:
        """Stop sweeping."""
        if self._loop.running:
            self._loop.stop()

    def sweep(self) -> None:
        """Abort the connections that are idle now."""
        now = self.limiter.reactor.seconds()
        idle = [each for each in self.limiter.connections if self._is_idle(each, now)]
        for connection in idle:
            connection.abort()
        if idle:
            _log.info(
                "{name}: closed {count} idle connections",
                name=self.limiter.name,
                count=len(idle),
            )

    def _is_idle(self, connection: Connection, now: float) -> bool:
        received, since = self._seen.get(connection, (-1, now))
        if connection.received != received:
            self._seen[connection] = (connection.received, now)
            return False
        timeout = self.limiter.limits.idle_timeout or 0
        if now - since < timeout:
            return False
        traffic = Traffic.of(connection.transport)
        if traffic is not None and traffic.since_sent < timeout:
            return False
        if traffic is not None and traffic.has_unsent:  # whatever it waits for, it does not read
            return True
        busy = IBusy(connection.inner, None)
        if not (is_answering(connection.inner) if busy is None else busy.busy()):
            return True
        self._seen[connection] = (received, now)
        return False


def _keep_alive(transport: Any) -> None:
    """Have the kernel close the connection of a client whose machine is gone."""
    if hasattr(type(transport), "setTcpKeepAlive"):
        with suppress(OSError):  # of macOS, if the client is gone already
            transport.setTcpKeepAlive(True)


def count_open_descriptors() -> int | None:
    """Return how many descriptors the process has open, or None if they cannot be listed."""
    try:
        return len(os.listdir("/dev/fd"))  # noqa: PTH208 - only the number counts
    except OSError:
        return None


@define(eq=False)
class DescriptorLimiter:
    """Pauses all listening ports of the process while few of its `limit` descriptors are free.

    Without it, a process at its limit is woken for the same waiting connection again and again,
    and Twisted accepts and drops it. A paused port leaves clients in the kernel's queue, uses no
    CPU, and keeps descriptors free for files.
    """

    reactor: Any
    limit: int
    ports: set[Any] = field(init=False, factory=set)
    paused: bool = field(init=False, default=False)
    count_open: Callable[[], int | None] = count_open_descriptors
    _connections: int = field(init=False, default=0)
    _others: int = field(init=False, default=0)  # descriptors in use that are no connections

    @property
    def reserve(self) -> int:
        """Descriptors to keep free: as many as one turn of the reactor may accept."""
        return min(max(32, self.limit // 4), 256, self.limit // 2)

    def watch(self, port: Any) -> None:
        """Add a listening port."""
        if not self.ports and not self._connections:
            self._others = os.open(os.devnull, os.O_RDONLY)  # the lowest free number
            os.close(self._others)
        self.ports.add(port)
        self._limit_batch(port)
        if self.paused:
            port.stopReading()

    def forget(self, port: Any) -> None:
        """Remove a port that is about to close."""
        self.ports.discard(port)

    def opened(self, transport: Any) -> None:
        """Count a new connection, and pause if few descriptors are free.

        The kernel hands out the lowest free number, so a high one means that few are free. A low
        one may be that of a closed connection, so the open connections are counted as well.
        """
        self._connections += 1
        for port in self.ports:
            self._limit_batch(port)  # it grows with every full batch
        fileno = getattr(transport, "fileno", None)
        high = fileno is not None and fileno() >= self.limit - self.reserve
        if not self.paused and (high or self._is_full()):
            self._pause()

    def closed(self) -> None:
        """Count a connection that was closed."""
        self._connections -= 1

    def _is_full(self) -> bool:
        most = self.limit - self.reserve
        if self._others + self._connections < most:
            return False
        # A protocol that replaced itself did not report the end of its connection, so a count that
        # has become too high is corrected before it pauses anything.
        in_use = self.count_open()
        if in_use is not None and in_use < most:
            self._others = in_use - self._connections
            return False
        return True

    def _pause(self) -> None:
        self.paused = True
        _log.warn(
            "file limit ({limit}) nearly reached: no connections are accepted until some close",
            limit=self.limit,
        )
        for port in self.ports:
            port.stopReading()
        self.reactor.callLater(DESCRIPTOR_RETRY, self._retry)

    def _retry(self) -> None:
        if not self.has_free_descriptors():
            self.reactor.callLater(DESCRIPTOR_RETRY, self._retry)
            return
        self.paused = False
        _log.info("accepting connections again")
        for port in self.ports:
            port.startReading()

    def has_free_descriptors(self) -> bool:
        """Whether a connection would get a low number after each port has accepted one."""
        probes: list[int] = []
        try:
            for _ in range(len(self.ports) + 1):
                probes.append(os.open(os.devnull, os.O_RDONLY))  # noqa: PERF401 - may raise midway
        except OSError:
            return False
        finally:
            for each in probes:
                os.close(each)
        return probes[-1] < self.limit - self.reserve and not self._is_full()

    def _limit_batch(self, port: Any) -> None:
        if hasattr(port, "numberAccepts"):
            port.numberAccepts = max(1, self.reserve - _BATCH_GROWTH)
