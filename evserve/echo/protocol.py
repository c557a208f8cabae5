r"""Echo over a stream: the factory, the protocols that it builds, and what they do to the bytes.

**Transforms.** TCP keeps no message boundaries, so the result never depends on where the stream
was cut. `upper` maps the ASCII letters a-z and leaves every other byte alone (UTF-8 stays UTF-8).
The suffix goes to the end of each line, before its `\n` or `\r\n`, and to the end of the stream if
the last line is open: with `!`, `hello\nbye` becomes `hello!\nbye!`. It is never transformed
itself. With a suffix, a `\r` at the end of a chunk waits for the byte after it, which says whether
the line ends there.

**Constant memory.** Without a delay the transport is its own producer: when the client does not
read, the write buffer fills, and the transport pauses reading until the buffer has drained. With a
delay the protocol is the producer: a client that does not read pauses the delay queue, and a full
queue pauses reading. A connection then costs at most the queue's capacity, the transport's buffer
and one read, and its throughput is at most DELAY_CAPACITY bytes per delay.

**TLS.** A client that writes and closes is common, and its close_notify often comes with its last
bytes. Twisted answers it at once, which would lose them in two ways:

- It gathers writes until the reactor's next turn, and drops what is gathered by then. So echo
  writes past the gathering, which a reply per read does not need anyway.
- It closes the socket beneath a producer that may be paused, and the socket then waits for that
  producer forever. So the producer is unregistered when a closing socket asks it for more.

What `--delay` still holds is lost: after close_notify Twisted's TLS sends nothing more.
"""

import re
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
from typing_extensions import override
from zope.interface import implementer

from evserve.echo.delay import DelayQueue
from evserve.interfaces import IBusy, IDrainable


LINGER = 1.0  # seconds that a client gets to close its half of a connection being drained
DELAY_CAPACITY = 256 * 1024  # bytes that wait for their delay, per connection

_LINE_END = re.compile(rb"\r?\n")


@frozen
class Transform:
    """What is done to the bytes: `upper` first, then `suffix` on each line."""

    upper: bool = False
    suffix: bytes = b""

    @property
    def is_identity(self) -> bool:
        """Whether the bytes go back as they came."""
        return not (self.upper or self.suffix)

    def stream(self) -> "TransformedStream":
        """Return the state for one stream."""
        return TransformedStream(self)

    def datagram(self, data: bytes) -> bytes:
        """Transform a datagram, which is a stream of its own."""
        stream = self.stream()
        return stream.feed(data) + stream.end()


@define(eq=False)
class TransformedStream:
    """One stream being transformed."""

    _transform: Transform
    _carriage_return: bytes = b""  # at the end of the last chunk
    _line_is_open: bool = False

    def feed(self, data: bytes) -> bytes:
        """Return what can be sent of `data`, transformed."""
        if self._transform.upper:
            data = data.upper()
        if not self._transform.suffix:
            return data
        data = self._carriage_return + data
        self._carriage_return = b"\r" if data.endswith(b"\r") else b""
        data = data.removesuffix(self._carriage_return)
        if data:
            self._line_is_open = not data.endswith(b"\n")
        # A template, unlike a function, keeps the loop over the lines in C.
        template = self._transform.suffix.replace(b"\\", rb"\\") + rb"\g<0>"
        return _LINE_END.sub(template, data)

    def end(self) -> bytes:
        """Return what is still to be sent when the stream ends here."""
        suffix = self._transform.suffix if self._carriage_return or self._line_is_open else b""
        last = self._carriage_return + suffix
        self._carriage_return, self._line_is_open = b"", False
        return last


@define(eq=False)
class EchoFactory(Factory):
    """Builds protocols that apply `transform` and answer after `delay` seconds; counts them."""

    noisy = False  # the host logs where it listens

    transform: Transform
    delay: float
    clock: IReactorTime
    opened: int = field(default=0, init=False)  # connections since the start
    connections: dict["EchoConnection", float] = field(factory=dict, init=False)  # open since

    @property
    def delayed_bytes(self) -> int:
        """How many bytes wait for their delay, over all connections."""
        return sum(
            each.delayed_bytes for each in self.connections if isinstance(each, DelayedEcho)
        )

    @override
    def buildProtocol(self, addr: IAddress | None) -> "EchoConnection":
        # The cheapest protocol that does what was asked for.
        if self.delay:
            return DelayedEcho(self)
        return Echo(self) if self.transform.is_identity else TransformedEcho(self)


@implementer(IHalfCloseableProtocol, IDrainable)
class EchoConnection(Protocol):
    """What all echo protocols share: they are counted, and close once everything is sent."""

    transport: Any  # ITransport, IConsumer and IPushProducer in one

    def __init__(self, factory: EchoFactory) -> None:
        self._factory = factory
        self._is_draining = False
        self._linger: IDelayedCall | None = None

    def start(self, producer: Any) -> None:
        """Count the connection; the transport pauses `producer` while the client does not read."""
        self._factory.opened += 1
        self._factory.connections[self] = self._factory.clock.seconds()
        if isinstance(self.transport, TLSMemoryBIOProtocol):
            producer = _TLSProducer(producer, self.transport)
        self.transport.registerProducer(producer, True)

    def close(self) -> None:
        """Close once everything written has been sent."""
        # A transport that waits for a producer it has paused would never close.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def end_stream(self) -> None:
        """Write what is due at the end of the stream: here, nothing."""

    def drain(self) -> None:
        # Close our half once everything is sent, and discard what still arrives: closing a socket
        # with unread bytes sends a reset, which can overtake the last answers.
        self.end_stream()
        close_half = getattr(self.transport, "loseWriteConnection", None)
        if close_half is None or isinstance(self.transport, TLSMemoryBIOProtocol):
            self.close()  # TLS has no halves
            return
        self._is_draining = True
        self.dataReceived = _discard  # type: ignore[method-assign]  # on purpose
        self.transport.unregisterProducer()
        self.transport.resumeProducing()
        close_half()

    def readConnectionLost(self) -> None:
        if self._is_draining:
            self.transport.loseConnection()
        else:
            self.end_stream()
            self.close()

    def writeConnectionLost(self) -> None:
        # The client has received everything; it gets a moment to close its half.
        self._linger = self._factory.clock.callLater(LINGER, self.transport.loseConnection)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        del self._factory.connections[self]


class Echo(EchoConnection):
    """Sends back what arrives."""

    @override
    def connectionMade(self) -> None:
        self.start(self.transport)
        # No code of ours stands between reading and writing.
        self.dataReceived = _unbuffered_write(self.transport)  # type: ignore[assignment,method-assign]  # on purpose


class TransformedEcho(EchoConnection):
    """Sends back what arrives, transformed."""

    def __init__(self, factory: EchoFactory) -> None:
        super().__init__(factory)
        self._stream = factory.transform.stream()

    @override
    def connectionMade(self) -> None:
        self.start(self.transport)
        self._write = _unbuffered_write(self.transport)

    @override
    def dataReceived(self, data: bytes) -> None:
        self._write(self._stream.feed(data))

    @override
    def end_stream(self) -> None:
        self._write(self._stream.end())


@implementer(IPushProducer, IBusy)
class DelayedEcho(EchoConnection):
    """Sends back what arrives, transformed, `delay` seconds later."""

    def __init__(self, factory: EchoFactory) -> None:
        super().__init__(factory)
        self._stream = factory.transform.stream()
        self._queue = DelayQueue(factory.delay, DELAY_CAPACITY, factory.clock, self._send)
        self._is_closing = False

    @property
    def delayed_bytes(self) -> int:
        """How many bytes wait for their delay."""
        return self._queue.size

    def busy(self) -> bool:
        return not self._queue.empty

    @override
    def connectionMade(self) -> None:
        self.start(self)

    @override
    def dataReceived(self, data: bytes) -> None:
        if self._is_closing:
            return  # read only so that closing does not send a reset
        self._put(self._stream.feed(data))
        if self._queue.full:
            self.transport.pauseProducing()

    @override
    def drain(self) -> None:
        if not self._is_closing:
            self.transport.resumeProducing()
            self._close_when_sent()

    @override
    def readConnectionLost(self) -> None:
        if not self._is_closing:
            self._close_when_sent()

    def pauseProducing(self) -> None:
        self._queue.pause()

    def resumeProducing(self) -> None:
        self._queue.resume()

    def stopProducing(self) -> None:
        self._queue.pause()

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._queue.pause()
        super().connectionLost(reason)

    def _put(self, data: bytes) -> None:
        if data:
            self._queue.put(data, len(data))

    def _close_when_sent(self) -> None:
        self._is_closing = True
        self._put(self._stream.end())
        if self._queue.empty:
            self.close()

    def _send(self, chunks: list[bytes]) -> None:
        self.transport.writeSequence(chunks)
        if self._is_closing:
            if self._queue.empty:
                self.close()
        elif not self._queue.full:
            self.transport.resumeProducing()


@implementer(IPushProducer)
@define(eq=False)
class _TLSProducer:
    """A producer that unregisters itself when the socket beneath TLS is closing."""

    _producer: Any
    _transport: Any  # a TLSMemoryBIOProtocol, whose own transport is a socket's

    def pauseProducing(self) -> None:
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        self._producer.resumeProducing()
        if self._transport.transport.disconnecting:
            self._transport.unregisterProducer()

    def stopProducing(self) -> None:
        self._producer.stopProducing()


def _unbuffered_write(transport: Any) -> Callable[[bytes], None]:
    """Return the transport's `write`, past the gathering if it is TLS."""
    if isinstance(transport, TLSMemoryBIOProtocol):
        return MethodType(TLSMemoryBIOProtocol.write, transport)
    write: Callable[[bytes], None] = transport.write
    return write


def _discard(data: bytes) -> None:
    """Take the place of `dataReceived` during a drain."""
