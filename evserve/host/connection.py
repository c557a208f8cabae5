"""A connection as the host sees it, around the protocol of a service.

No write comes past it. A read costs one Python frame, which counts its bytes only where the
transport does not know how many it has received.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any, Protocol

from attrs import define, field
from twisted.internet import protocol
from twisted.internet.interfaces import (
    IFileDescriptorReceiver,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocol,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import Interface, alsoProvides, implementer

from evserve.interfaces import IDrainable


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
