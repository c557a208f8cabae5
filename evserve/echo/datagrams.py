"""Echo over UDP (RFC 862, `--udp`), which must not become somebody's weapon.

UDP sources are forged easily, and two services that answer everything answer each other for ever.
So, as inetd does, nothing is sent to a source port below 1024, where echo and chargen live; nor to
our own port number, which is ourselves or another server like us. Datagrams owed at the end of the
process are not sent: UDP promises none.
"""

from typing import Any

from attrs import define, field
from prometheus_client import CollectorRegistry, Counter
from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import DatagramProtocol

from evserve.echo.change import Change
from evserve.echo.delay import DelayLine
from evserve.echo.timer import TimedLine


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
