"""Echo over UDP (RFC 862, `--udp`), which must not serve an attack.

UDP sources are easily forged, and two services that answer everything answer each other forever.
So, as in inetd, nothing is sent to a source port below 1024, where echo and chargen live; nor to
our own port number, which is ourselves or another server like us. Datagrams that still wait when
the process ends are not sent: UDP promises nothing.
"""

from typing import Any

from attrs import define, field
from prometheus_client import CollectorRegistry, Counter
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, InvalidAddressError, MessageLengthError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from typing_extensions import override

from evserve.echo.delay import DelayQueue
from evserve.echo.protocol import Transform
from evserve.interfaces import IHost


CAPACITY = 4 * 1024 * 1024  # bytes that wait for their delay, over all clients

_FIRST_UNPRIVILEGED_PORT = 1024
_MAX_DATAGRAM = 65535  # bytes; Twisted would cut datagrams at 8192 silently

_log = Logger(namespace="evserve.echo")

Address = tuple[str, int]
Reply = tuple[bytes, Address]


class DatagramMetrics:
    """The UDP counters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.received = Counter(
            "evserve_datagrams", "Datagrams received over UDP.", registry=registry
        )
        self._dropped = Counter(
            "evserve_datagrams_dropped", "Datagrams not answered.", ["reason"], registry=registry
        )

    def drop(self, reason: str) -> None:
        """Count a datagram without an answer: reserved_port, own_port, full or unsendable."""
        self._dropped.labels(reason).inc()


@define(eq=False)
class EchoDatagrams(DatagramProtocol):
    """Sends each datagram back to its source, transformed, `delay` seconds later."""

    noisy = False  # the service logs where it listens

    _transform: Transform
    _delay: float
    _clock: IReactorTime
    _metrics: DatagramMetrics
    _queue: DelayQueue[Reply] = field(init=False)
    transport: Any = field(default=None, init=False)  # an IUDPTransport once there is one

    def __attrs_post_init__(self) -> None:
        self._queue = DelayQueue[Reply](self._delay, CAPACITY, self._clock, self._send_all)

    def logPrefix(self) -> str:
        """Mark Twisted's own log line about the port, which the host leaves out."""
        return "evserve datagrams"

    @override
    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        self._metrics.received.inc()
        if addr[1] < _FIRST_UNPRIVILEGED_PORT:
            self._metrics.drop("reserved_port")
        elif addr[1] == self.transport.getHost().port:
            self._metrics.drop("own_port")
        elif self._queue.full:
            self._metrics.drop("full")
        else:
            reply = self._transform.datagram(datagram), addr
            if self._delay:
                self._queue.put(reply, len(reply[0]))
            else:
                self._send_all([reply])

    @override
    def stopProtocol(self) -> None:
        self._queue.pause()

    def _send_all(self, replies: list[Reply]) -> None:
        for data, addr in replies:
            # A full socket buffer, a lost route or a suffix that makes the datagram too long each
            # lose one datagram. UDP allows that, and a log line for each would flood the log.
            try:
                self.transport.write(data, addr)
            except (OSError, MessageLengthError):
                self._metrics.drop("unsendable")


@define(eq=False)
class DatagramService(Service):
    """Listens on a UDP port; the process ends with one line if it can't."""

    _host: IHost
    _port: int
    _interface: str
    _protocol: DatagramProtocol
    _has_tried: bool = field(default=False, init=False)
    _listening: Any = field(default=None, init=False)

    @override
    def privilegedStartService(self) -> None:
        # Ports below 1024 can be bound only before the process drops its privileges.
        Service.privilegedStartService(self)
        self._listen()

    @override
    def startService(self) -> None:
        Service.startService(self)
        self._listen()
        if self._listening is not None:
            _log.info(
                "{name}: listening on udp {address}",
                name=getattr(self.parent, "name", None) or "echo",
                address=self._address(self._listening.getHost().port),
            )

    @override
    def stopService(self) -> Deferred[None] | None:
        Service.stopService(self)
        self._has_tried = False
        listening, self._listening = self._listening, None
        return None if listening is None else listening.stopListening()

    def _listen(self) -> None:
        if self._has_tried:
            return
        self._has_tried = True
        try:
            self._listening = self._host.reactor.listenUDP(
                self._port, self._protocol, self._interface, _MAX_DATAGRAM
            )
        except (CannotListenError, InvalidAddressError) as error:
            reason = error.message if isinstance(error, InvalidAddressError) else error.socketError
            reason = getattr(reason, "strerror", None) or reason
            self._host.fail(f"cannot listen on udp {self._address(self._port)}: {reason}")

    def _address(self, port: int) -> str:
        host = f"[{self._interface}]" if ":" in self._interface else self._interface
        return f"{host}:{port}"
