"""Echo over a stream, at once, in constant memory: the transport is its own producer.

When the client does not read, the write buffer fills, and the transport pauses the producer that
is registered on it, which is itself: it reads no more until the buffer has drained.
"""

import re
import typing
from collections.abc import Callable
from types import MethodType
from typing import Any

from attrs import define, field, frozen
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from evserve.echo.delay import DelayLine, TimedLine
from evserve.interfaces import IDrainable


# r"""What `--transform` and `--suffix` mean, byte for byte and wherever TCP cuts the stream.
#
# TCP keeps no message boundaries: a chunk is an accident of timing, so nothing here looks at one.
# `upper` maps the ASCII letters a-z and leaves every other byte alone (UTF-8 stays UTF-8). The
# suffix goes to the end of each line, before its `\n` or `\r\n`, and to the end of the stream if
# its last line has no end: with `!`, `hello\nbye` gives `hello!\nbye!`. A datagram is a stream of
# its own. The suffix itself is never transformed. One consequence: with a suffix, a `\r` at the
# end of a chunk waits for the byte after it, which says whether a line ends there.

_LINE_END = re.compile(rb"\r?\n")


@frozen
class Change:
    """What is done to the bytes on their way back: `upper` first, then `suffix` on each line."""

    upper: bool = False
    suffix: bytes = b""

    @property
    def is_none(self) -> bool:
        """Whether bytes go back untouched, so that nobody need look at them."""
        return not (self.upper or self.suffix)

    def stream(self) -> "ChangedStream":
        """Return a fresh state for one stream."""
        return ChangedStream(self)

    def whole(self, message: bytes) -> bytes:
        """Change a message that is complete in itself: a datagram."""
        stream = self.stream()
        return stream.feed(message) + stream.end()


@define(eq=False)
class ChangedStream:
    """One stream being changed; the output depends on the bytes fed, not on their chunks."""

    _change: Change
    _carriage_return: bytes = b""
    _line_is_open: bool = False

    def feed(self, data: bytes) -> bytes:
        """Return what can be sent of `data`, changed."""
        if self._change.upper:
            data = data.upper()
        return self._with_suffix(data) if self._change.suffix else data

    def end(self) -> bytes:
        """Return what is still to be sent when the stream ends here."""
        suffix = self._change.suffix if self._carriage_return or self._line_is_open else b""
        last = self._carriage_return + suffix
        self._carriage_return, self._line_is_open = b"", False
        return last

    def _with_suffix(self, data: bytes) -> bytes:
        data = self._carriage_return + data
        self._carriage_return = b"\r" if data.endswith(b"\r") else b""
        data = data.removesuffix(self._carriage_return)
        if data:
            self._line_is_open = not data.endswith(b"\n")
        # A template, unlike a function, keeps the loop over the lines in C.
        template = self._change.suffix.replace(b"\\", rb"\\") + rb"\g<0>"
        return _LINE_END.sub(template, data)


# What the room needs of a stream transport: ITransport, IConsumer and IPushProducer in one.


class PushProducer(typing.Protocol):
    """IPushProducer, for the type checker."""

    def pauseProducing(self) -> None:
        """See IPushProducer."""

    def resumeProducing(self) -> None:
        """See IPushProducer."""

    def stopProducing(self) -> None:
        """See IPushProducer."""


class StreamTransport(PushProducer, typing.Protocol):
    """What every TCP, UNIX and TLS transport is, for the type checker."""

    def write(self, data: bytes) -> None:
        """See ITransport."""

    def writeSequence(self, data: list[bytes]) -> None:
        """See ITransport."""

    def loseConnection(self) -> None:
        """See ITransport."""

    def getPeer(self) -> IAddress:
        """See ITransport."""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """See IConsumer."""

    def unregisterProducer(self) -> None:
        """See IConsumer."""


# What Twisted's TLS transport must be told so that a client gets its last bytes.
#
# A client that writes and closes is common, and its close_notify often comes with its last bytes.
# Twisted answers it at once, which defeats an echo in two ways, each mended here:
#
# - It gathers writes until the reactor's next turn, and what is gathered by then is dropped. So
#   echo writes past the gathering, which a reply per read has no use for anyway.
# - It closes the socket beneath a producer it may have paused; the socket then waits for the
#   producer, for ever. So the producer is taken away when it is asked for more on a closing socket.
#
# What `--delay` still owes is lost: after close_notify Twisted's TLS sends nothing more.


def direct_write(transport: StreamTransport) -> Callable[[bytes], None]:
    """Return the transport's `write`, without the gathering if it is TLS."""
    if isinstance(transport, TLSMemoryBIOProtocol):
        return MethodType(TLSMemoryBIOProtocol.write, transport)
    return transport.write


def steady_producer(producer: PushProducer, transport: StreamTransport) -> PushProducer:
    """Return `producer`, fit to be registered on `transport`."""
    if isinstance(transport, TLSMemoryBIOProtocol):
        return _TLSProducer(producer, transport)
    return producer


@implementer(IPushProducer)
@define(eq=False)
class _TLSProducer:
    _producer: PushProducer
    _transport: Any  # a TLSMemoryBIOProtocol, whose own transport is a socket's

    def pauseProducing(self) -> None:
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        self._producer.resumeProducing()
        if self._transport.transport.disconnecting:
            self._transport.unregisterProducer()

    def stopProducing(self) -> None:
        self._producer.stopProducing()


# What every echoing connection shares: being counted, and closing after the last byte owed.

LINGER = 1.0  # seconds that a client gets to close its half of a connection being drained


@define(eq=False)
class Connections:
    """Which connections are open, since when (the clock's seconds), and how many ever were."""

    clock: IReactorTime
    opened: int = field(default=0, init=False)
    since: dict["EchoConnection", float] = field(factory=dict, init=False)

    def enter(self, connection: "EchoConnection") -> None:
        """Count a connection that was made."""
        self.opened += 1
        self.since[connection] = self.clock.seconds()

    def leave(self, connection: "EchoConnection") -> None:
        """Forget a connection that was lost."""
        del self.since[connection]


@implementer(IHalfCloseableProtocol, IDrainable)
class EchoConnection(Protocol):
    """A connection that ends by sending all that it owes."""

    transport: StreamTransport  # type: ignore[assignment]  # ITransport promises too little

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._is_draining = False
        self._linger: IDelayedCall | None = None

    def start(self, producer: PushProducer) -> None:
        """Be counted, and let the transport pause `producer` while the client does not read."""
        self._connections.enter(self)
        self.transport.registerProducer(steady_producer(producer, self.transport), True)

    def close(self) -> None:
        """Close once everything written has been sent."""
        # A transport that waits for a producer it has paused would never come to closing.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def end_stream(self) -> None:
        """Write what the end of the stream calls for: here, nothing."""

    def drain(self) -> None:
        """See IDrainable: end our half after what is owed, and read on to throw it away.

        Closing a socket with unread bytes sends a reset, which can overtake what is owed.
        """
        self.end_stream()
        end_half = getattr(self.transport, "loseWriteConnection", None)
        if end_half is None or isinstance(self.transport, TLSMemoryBIOProtocol):
            self.close()  # TLS has no halves
            return
        self._is_draining = True
        self.dataReceived = _discard  # type: ignore[method-assign]  # on purpose
        self.transport.unregisterProducer()
        self.transport.resumeProducing()
        end_half()

    def readConnectionLost(self) -> None:
        """Answer the client's FIN with ours, after what it is owed."""
        if self._is_draining:
            self.transport.loseConnection()
        else:
            self.end_stream()
            self.close()

    def writeConnectionLost(self) -> None:
        """Give the client, which has had everything, a moment to close its half."""
        self._linger = self._connections.clock.callLater(LINGER, self.transport.loseConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Be counted no more."""
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        self._connections.leave(self)


def _discard(data: bytes) -> None:
    """Take no notice."""


class Echo(EchoConnection):
    """Sends back what arrives, untouched."""

    def connectionMade(self) -> None:
        """Bind reading to writing: no code of ours stands between them."""
        self.start(self.transport)
        self.dataReceived = direct_write(self.transport)  # type: ignore[assignment,method-assign]  # on purpose


class ChangedEcho(EchoConnection):
    """Sends back what arrives, changed."""

    def __init__(self, connections: Connections, stream: ChangedStream) -> None:
        super().__init__(connections)
        self._stream = stream

    def connectionMade(self) -> None:
        """Register the transport as its own producer."""
        self.start(self.transport)
        self._write = direct_write(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Send `data` back, changed."""
        self._write(self._stream.feed(data))

    def end_stream(self) -> None:
        """End the last line, which may call for the suffix."""
        self._write(self._stream.end())


# Echo with `--delay`: what arrives waits in a bounded line, and blocks nobody.
#
# Here the delay line, not the transport, is the producer. Two things stop the flow: a client that
# does not read holds the line back, and a full line stops reading. So a connection costs at most
# the line's capacity, the transport's buffer and one read, and its throughput cannot exceed
# CAPACITY bytes per delay.

CAPACITY = 256 * 1024  # bytes per connection


@implementer(IPushProducer)
class DelayedEcho(EchoConnection):
    """Sends back what arrives, changed, `delay` seconds later."""

    def __init__(
        self, connections: Connections, stream: ChangedStream, delay: float, clock: IReactorTime
    ) -> None:
        super().__init__(connections)
        self._stream = stream
        self._line = TimedLine(DelayLine[bytes](delay, CAPACITY), clock, self._send)
        self._is_closing = False

    @property
    def held(self) -> int:
        """How many bytes are waiting."""
        return self._line.line.held

    def connectionMade(self) -> None:
        """Register as the transport's producer."""
        self.start(self)

    def dataReceived(self, data: bytes) -> None:
        """Put `data` in line; while draining, read it only to throw it away.

        Closing a socket with unread bytes sends a reset, which can overtake what is owed.
        """
        if not self._is_closing:
            self._put(self._stream.feed(data))
            if self._line.line.full:
                self.transport.pauseProducing()

    def drain(self) -> None:
        """See IDrainable."""
        if not self._is_closing:
            self.transport.resumeProducing()
            self._end_stream()

    def readConnectionLost(self) -> None:
        """Send what is waiting when it is due, then close."""
        if not self._is_closing:
            self._end_stream()

    def pauseProducing(self) -> None:
        """Hold the line: the client does not read."""
        self._line.hold()

    def resumeProducing(self) -> None:
        """Let the line move: the client reads again."""
        self._line.release()

    def stopProducing(self) -> None:
        """Send nothing more: nobody is there."""
        self._line.hold()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave no timer behind."""
        self._line.hold()
        super().connectionLost(reason)

    def _put(self, data: bytes) -> None:
        if data:
            self._line.put(data, len(data))

    def _end_stream(self) -> None:
        self._is_closing = True
        self._put(self._stream.end())
        self._close_if_done()

    def _send(self, chunks: list[bytes]) -> None:
        self.transport.writeSequence(chunks)
        if self._is_closing:
            self._close_if_done()
        elif not self._line.line.full:
            self.transport.resumeProducing()

    def _close_if_done(self) -> None:
        if self._line.line.next_due is None:
            self.close()


# Which kind of connection the options ask for.


@define(eq=False)
class EchoFactory(Factory):
    """Makes connections that do `change`, after `delay` seconds, and counts them."""

    noisy = False  # the host says where it listens

    change: Change
    delay: float
    clock: IReactorTime
    connections: Connections = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.connections = Connections(self.clock)

    @property
    def held(self) -> int:
        """How many bytes are waiting for their delay, over all connections."""
        return sum(each.held for each in self.connections.since if isinstance(each, DelayedEcho))

    def buildProtocol(self, addr: IAddress | None) -> EchoConnection:
        """Return the cheapest protocol that does what is asked."""
        if self.delay:
            return DelayedEcho(self.connections, self.change.stream(), self.delay, self.clock)
        if self.change.is_none:
            return Echo(self.connections)
        return ChangedEcho(self.connections, self.change.stream())
