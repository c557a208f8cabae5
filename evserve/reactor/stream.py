"""A connection: to uvloop its protocol, to the Twisted protocol its transport.

The two ends of the path of bytes are bound methods that it only holds: `data_received`, which
uvloop calls, and `write`, which is uvloop's. Everything else is off that path.
"""

import errno
import socket
from typing import Any, Protocol

from twisted.internet.abstract import _dataMustBeBytes
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    ILoggingContext,
    IPushProducer,
    ISystemHandle,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from evserve.reactor.closing import DONE, LOST, Closing
from evserve.reactor.handle import Handle


_log = Logger()


class Owner(Protocol):
    """Who a stream belongs to: a listening port, a client's attempt to connect, an adopter."""

    def welcome(self, stream: Any) -> Any:
        """Return the Twisted protocol for a stream that is open now; None to close it."""

    def replace(self, transport: Any) -> None:
        """Hear that the stream has made way for another transport."""

    def farewell(self, reason: Failure) -> None:
        """Hear that the stream is gone, after its protocol has."""

    def describe(self, stream: Any, name: str) -> str:
        """Return the log prefix of a stream whose protocol calls itself `name`."""

    def represent(self, stream: Any, name: str) -> str:
        """Return the representation of a stream whose protocol's class is `name`."""


@implementer(IPushProducer, IConsumer, ISystemHandle, ILoggingContext)
class RawStream(Closing):
    """A stream without the TLS that `startTLS` may put on top."""

    family = socket.AF_INET
    _handle: Handle | None = None

    def __init__(self, reactor: Any, owner: Owner) -> None:
        self.reactor = reactor
        self.owner = owner

    @property
    def is_gone(self) -> bool:
        """Whether it was reset before anybody asked who its peer is: TCP can tell."""
        return False

    # What uvloop calls, besides data_received, pause_writing and resume_writing.

    def connection_made(self, uv: Any) -> None:
        """Ask the owner for a protocol."""
        self.uv = uv
        try:
            protocol = self.owner.welcome(self)
        except Exception:
            _log.failure("Nobody to talk to a new connection")
            protocol = None
        if protocol is None:
            self.abandon()
        else:
            self.take_up(protocol)

    def take_up(self, protocol: Any) -> None:
        """Become the transport of `protocol`."""
        self.write = self.uv.write  # type: ignore[method-assign]  # on purpose
        self.connected = True
        self.reactor.streams.add(self)
        self.protocol = protocol
        try:
            protocol.makeConnection(self)
        except Exception:
            self.fail(Failure())
        self.begin()

    def eof_received(self) -> bool:
        """Return whether to stay open when the peer says no more."""
        if self._early is not None:
            self._early.append(None)
            return True
        self._read_ended = True
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is None:
            self.drop(DONE)
            return False
        try:
            half.readConnectionLost()
        except Exception:
            self.fail(Failure())
        return True

    def connection_lost(self, problem: BaseException | None) -> None:
        """Hear that uvloop has let go of the connection."""
        if isinstance(problem, OSError) and problem.__traceback__ is not None:
            # Raised by the protocol: uvloop takes it for the connection's and keeps quiet.
            _log.failure("Unhandled exception in a protocol", Failure(problem))
        self._lost(self._reason or reason_of(problem))

    # How it ends.

    def _lost(self, reason: Failure) -> None:
        if self.disconnected:
            return
        protocol, producer = self.protocol, self.producer
        self._forget()
        try:
            if producer is not None:
                producer.stopProducing()
            protocol.connectionLost(reason)
        except Exception:
            _log.failure("Unhandled exception in connectionLost")
        self.owner.farewell(reason)

    def _forget(self) -> None:
        """Be disconnected, and let go of everything that would make a circle."""
        self.disconnected, self.connected = True, False
        self.reactor.streams.discard(self)
        if self._handle is not None:
            self._handle.detach()
        for name in ("write", "data_received", "producer", "_protocol", "_handle", "_early"):
            self.__dict__.pop(name, None)

    def abandon(self) -> None:
        """End it without a word to the protocol, whose connection goes on elsewhere."""
        self._forget()
        self.uv.abort()

    def connectionLost(self, reason: Failure) -> None:
        """End it now, for the reactor that stops."""
        self._lost(reason)
        self.uv.abort()

    def fail(self, why: Failure) -> None:
        """Log what the protocol raised, and end the connection with it."""
        _log.failure("Unhandled exception in a protocol", why)
        if self.connected:
            self.drop(why)

    # What the Twisted protocol calls.

    def write(self, data: bytes) -> None:
        """See ITransport; an instance that is connected holds uvloop's in its place."""
        _dataMustBeBytes(data)
        if self.connected and not self._write_ended:
            self.uv.write(data)

    def fileno(self) -> int:
        """Return the descriptor's number, -1 once the connection is lost."""
        return int(self.uv.get_extra_info("socket").fileno()) if self.connected else -1

    def getHandle(self) -> Handle:
        """See ISystemHandle."""
        if not self.connected:
            raise OSError(errno.EBADF, "the connection is lost")
        if self._handle is None:
            self._handle = Handle.of(self, self.family, self.fileno())
        return self._handle

    @property
    def sessionno(self) -> int:
        """What tells it from others in logs; Twisted's transports keep a count for that."""
        return self.fileno()

    @property
    def socket(self) -> Handle:
        """What Twisted's own transports call their handle."""
        return self.getHandle()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return self.logstr

    @property
    def logstr(self) -> str:  # type: ignore[override]  # derived here
        """What Twisted's own transports call their log prefix."""
        return self.owner.describe(self, self.protocol_name)

    @property
    def protocol_name(self) -> str:
        """What the protocol calls itself in logs."""
        protocol = self.protocol
        named = ILoggingContext.providedBy(protocol)
        return str(protocol.logPrefix() if named else protocol.__class__.__name__)

    def __repr__(self) -> str:
        name = self.protocol.__class__.__name__ if self.connected else "lost connection"
        return self.owner.represent(self, name)


def reason_of(problem: BaseException | None) -> Failure:
    """Return what Twisted calls the end that uvloop reports with `problem`."""
    if problem is None:
        return DONE
    if isinstance(problem, OSError) and problem.__traceback__ is None:
        return LOST
    return Failure(problem, type(problem), problem.__traceback__)
