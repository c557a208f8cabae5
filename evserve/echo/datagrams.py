"""Echo over UDP (RFC 862, `--udp`), which must not become somebody's weapon.

UDP sources are forged easily, and two services that answer everything answer each other for ever.
So, as inetd does, nothing is sent to a source port below 1024, where echo and chargen live; nor to
our own port number, which is ourselves or another server like us. Datagrams owed at the end of the
process are not sent: UDP promises none.
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

from evserve.echo.delay import DelayLine, TimedLine
from evserve.echo.protocol import Change
from evserve.interfaces import IHost


CAPACITY = 4 * 1024 * 1024  # bytes that wait for their delay, over all clients
FIRST_UNPRIVILEGED_PORT = 1024

Address = tuple[str, int]
Reply = tuple[bytes, Address]


@define(eq=False)
class Tally:
    """The UDP counters; `reason` is one of reserved_port, own_port, full, unsendable."""

    received: Counter
    dropped: Counter

    @classmethod
    def of(cls, registry: CollectorRegistry) -> "Tally":
        """Register the counters."""
        return cls(
            Counter("evserve_datagrams", "Datagrams received over UDP.", registry=registry),
            Counter(
                "evserve_datagrams_dropped",
                "Datagrams not answered.",
                ["reason"],
                registry=registry,
            ),
        )

    def drop(self, reason: str) -> None:
        """Count a datagram that gets no answer."""
        self.dropped.labels(reason).inc()


@define(eq=False)
class EchoDatagrams(DatagramProtocol):
    """Sends each datagram back to where it came from, changed, `delay` seconds later."""

    noisy = False  # the service says where it listens

    _change: Change
    _delay: float
    _clock: IReactorTime
    _tally: Tally
    _line: TimedLine[Reply] = field(init=False)
    transport: Any = field(default=None, init=False)  # an IUDPTransport once there is one

    def __attrs_post_init__(self) -> None:
        line = DelayLine[Reply](self._delay, CAPACITY)
        self._line = TimedLine(line, self._clock, self._send_all)

    def logPrefix(self) -> str:
        """Mark the line that Twisted writes about the port: the service says where it listens."""
        return "evserve datagrams"

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        """Answer, unless the answer could start a loop."""
        self._tally.received.inc()
        reason = self._refuse(addr[1])
        if reason is not None:
            self._tally.drop(reason)
            return
        reply = self._change.whole(datagram), addr
        if self._delay:
            self._line.put(reply, len(reply[0]))
        else:
            self._send(*reply)

    def stopProtocol(self) -> None:
        """Leave no timer behind."""
        self._line.hold()

    def _refuse(self, source_port: int) -> str | None:
        if source_port < FIRST_UNPRIVILEGED_PORT:
            return "reserved_port"
        if source_port == self.transport.getHost().port:
            return "own_port"
        return "full" if self._line.line.full else None

    def _send_all(self, replies: list[Reply]) -> None:
        for reply in replies:
            self._send(*reply)

    def _send(self, data: bytes, addr: Address) -> None:
        # A full socket buffer, a route that is gone, a suffix that makes it too long: each is one
        # datagram lost, which UDP allows, and nothing that a log should repeat per datagram.
        try:
            self.transport.write(data, addr)
        except (OSError, MessageLengthError):
            self._tally.drop("unsendable")


# The UDP port as a service that starts and stops with the rest.

# Twisted's default of 8192 would cut longer datagrams without a word.
LARGEST_DATAGRAM = 65535

_log = Logger(namespace="evserve.echo")


@define(eq=False)
class DatagramService(Service):
    """Listens on a UDP port; if it cannot, the process ends with one line."""

    _host: IHost
    _port: int
    _interface: str
    _protocol: DatagramProtocol
    _has_tried: bool = field(default=False, init=False)
    _listening: Any = field(default=None, init=False)

    def privilegedStartService(self) -> None:
        """Bind while the process may still bind port 7."""
        Service.privilegedStartService(self)
        self._listen_once()

    def startService(self) -> None:
        """Bind, if the start was not privileged, and say where."""
        Service.startService(self)
        self._listen_once()
        if self._listening is not None:
            _log.info(
                "{name}: listening on udp {address}",
                name=getattr(self.parent, "name", None) or "echo",
                address=self._where(self._listening.getHost().port),
            )

    def stopService(self) -> Deferred[None] | None:
        """Stop listening; what is still waiting is not sent."""
        Service.stopService(self)
        self._has_tried = False
        listening, self._listening = self._listening, None
        return None if listening is None else listening.stopListening()

    def _listen_once(self) -> None:
        if not self._has_tried:
            self._has_tried = True
            self._listen()

    def _listen(self) -> None:
        try:
            self._listening = self._host.reactor.listenUDP(
                self._port, self._protocol, self._interface, LARGEST_DATAGRAM
            )
        except CannotListenError as error:
            self._fail(error.socketError)
        except InvalidAddressError as error:
            self._fail(error.message)

    def _fail(self, reason: object) -> None:
        why = getattr(reason, "strerror", None) or reason
        self._host.fail(f"cannot listen on udp {self._where(self._port)}: {why}")

    def _where(self, port: int) -> str:
        host = f"[{self._interface}]" if ":" in self._interface else self._interface
        return f"{host}:{port}"
