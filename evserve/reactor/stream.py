"""A connection: to uvloop its protocol, to the Twisted protocol its transport.

The two ends of the path of bytes are bound methods that it only holds: `data_received`, which
uvloop calls, and `write`, which is uvloop's. Everything else is off that path.
"""

import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol, cast

from twisted.internet import _newtls, error
from twisted.internet.abstract import _dataMustBeBytes
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    ILoggingContext,
    IPushProducer,
    ISystemHandle,
)
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.log import callWithContext
from zope.interface import implementer


# Back-pressure: uvloop's pause_writing and resume_writing, as Twisted's producers know them.
#
# uvloop writes at once and buffers what the kernel does not take. It calls `pause_writing` when more
# than the limit is buffered and `resume_writing` when that is gone, which is what a push producer
# wants. A pull producer wants to be asked again after each write as well, so while there is one
# `write` is not uvloop's own.

FULL = 65536  # bytes: Twisted's FileDescriptor.bufferSize, and uvloop's own limit
_EMPTY = 16  # bytes: uvloop's own lower limit


class Flow:
    """The IConsumer part of a stream."""

    connected = False
    disconnecting = False
    disconnected = False
    producer: Any = None
    streamingProducer = False
    producerPaused = False
    reactor: Any
    write: Callable[[bytes], None]
    uv: Any = None  # uvloop's transport
    _full = FULL
    choked = False  # between pause_writing and resume_writing
    _pull_is_due = False
    _writing_ends = False  # loseWriteConnection was called

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See IConsumer."""
        if self.producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer}, because producer {self.producer} was never "
                "unregistered."
            )
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer, self.streamingProducer, self.producerPaused = producer, streaming, False
        if not streaming:
            self._start_pulling()
        elif self.choked:
            # uvloop has said so before there was somebody to tell.
            self.reactor.loop.call_soon(self._pause_if_choked)

    def unregisterProducer(self) -> None:
        """See IConsumer."""
        if self.write == self._write_and_pull:
            self.write = self.uv.write
            self.set_limit(self._full)
        self.producer = None
        self.go_on_closing()

    def stopConsuming(self) -> None:
        """See IConsumer's implementers: the producer has lost its own connection."""
        self.unregisterProducer()
        self.loseConnection()

    def loseConnection(self) -> None:
        """See ITransport."""
        raise NotImplementedError

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """See ITransport."""
        chunks = list(data)
        for chunk in chunks:
            _dataMustBeBytes(chunk)
        joined = b"".join(chunks)
        self.write(joined)
        if len(joined) > self._full and self.streamingProducer and not self.choked:
            # The kernel took it all; but that much is to be announced, or nobody ever pauses.
            self.pause_writing()
            self.reactor.loop.call_soon(self.relieve)

    def pause_writing(self) -> None:
        """Hear from uvloop that more than the limit is buffered."""
        self.choked = True
        self._pause_if_choked()

    def resume_writing(self) -> None:
        """Hear from uvloop that what was buffered has been sent."""
        self.choked = False
        if self.producer is not None and (not self.streamingProducer or self.producerPaused):
            self.producerPaused = False
            self._resume_producer()
        self.go_on_closing()

    def relieve(self) -> None:
        """Take back a `pause_writing` of our own, unless uvloop would have called it by now."""
        if self.connected and self.uv.get_write_buffer_size() <= self._full:
            self.resume_writing()

    def _pause_if_choked(self) -> None:
        if self.choked and self.streamingProducer and self.producer is not None:
            self.producerPaused = True
            self.producer.pauseProducing()

    def _resume_producer(self) -> None:
        try:
            self.producer.resumeProducing()
        except Exception:
            self.fail(Failure())

    def _start_pulling(self) -> None:
        if self.connected:
            self.set_limit(0)
            self.write = self._write_and_pull
            # Something may have been written in this turn, and be sent already.
            self._pull_soon()
        self.producer.resumeProducing()

    def _write_and_pull(self, data: bytes) -> None:
        self.uv.write(data)
        if data:
            self._pull_soon()

    def _pull_soon(self) -> None:
        if not (self.choked or self._pull_is_due):
            self._pull_is_due = True
            self.reactor.loop.call_soon(self._pull)

    def _pull(self) -> None:
        self._pull_is_due = False
        if self.producer is not None and not self.choked:
            self._resume_producer()

    @property
    def bufferSize(self) -> int:
        """How many bytes may be buffered before a producer is paused."""
        return self._full

    @bufferSize.setter
    def bufferSize(self, size: int) -> None:
        self._full = size
        self.set_limit(size)

    def set_limit(self, high: int) -> None:
        """Have uvloop call `pause_writing` above `high` bytes."""
        self.uv.set_write_buffer_limits(high, min(high, _EMPTY))

    @property
    def is_busy(self) -> bool:
        """Whether a producer is to be heard before the stream closes."""
        return self.producer is not None and (not self.streamingProducer or self.producerPaused)

    def go_on_closing(self) -> None:
        """Close what is to be closed, unless something is still to be sent."""
        raise NotImplementedError

    def fail(self, why: Failure) -> None:
        """Log what the protocol raised, and end the connection with it."""
        raise NotImplementedError


# Reading: what uvloop calls with bytes, and when it may.
#
# `data_received` is the Twisted protocol's own bound `dataReceived` where that can't change. uvloop
# looks it up when a protocol is set, so it is set anew when `protocol` is assigned, and after
# `connectionMade`. But Twisted promises to look `dataReceived` up for each read, and some protocols
# put another in its place at any time: for an object with a `__dict__` one line of Python does that,
# for 15 ns.

_UNNAMED = TwistedProtocol.logPrefix


class Reading(Flow):
    """The IPushProducer part of a stream."""

    data_received: Callable[[bytes], Any]
    logstr: str
    _protocol: Any = None
    _early: list[Any] | None = None  # what came while the protocol wanted nothing
    _begun = False  # uvloop reads, or would if it were not paused
    _paused = False
    _read_ended = False
    reads_next_turn = False  # what connectionMade puts off until the next turn is to come first

    @property
    def protocol(self) -> Any:
        """The Twisted protocol; assigning another switches to it from the next byte on."""
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self.data_received = self._reader()
        if self._begun:
            self.read_natively()

    @property
    def reading(self) -> bool:
        """Whether bytes are wanted."""
        return self.connected and not (self._paused or self._read_ended or self.disconnecting)

    def begin(self) -> None:
        """Read, after connectionMade; uvloop does so whatever was said there."""
        self._begun = True
        if self.connected:
            if self.reads_next_turn:
                self.reactor.loop.call_soon(self._release)
            if self.reads_next_turn or not self.reading:
                self._early = []
            self.data_received = self._reader()
            self.read_natively()

    def read_natively(self) -> None:
        """Let uvloop look `data_received` up again."""
        self.uv.set_protocol(self)

    def _reader(self) -> Callable[[bytes], Any]:
        if self._early is not None:
            return self.hold
        protocol = self._protocol
        if getattr(type(protocol), "logPrefix", _UNNAMED) is not _UNNAMED:
            # It has a name for the log, so what it logs shall bear it, at Twisted's price.
            return partial(callWithContext, {"system": self.logstr}, self._read)
        if type(protocol).__dictoffset__:  # its own: wrappers may answer for what they wrap
            return self._read
        return cast("Callable[[bytes], Any]", protocol.dataReceived)

    def _read(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def hold(self, data: bytes) -> None:
        """Keep bytes that came too early, and read no more."""
        self._early = [*(self._early or ()), data]
        self.uv.pause_reading()

    def pauseProducing(self) -> None:
        """See IPushProducer."""
        self._paused = True
        if self.connected:
            self.uv.pause_reading()

    def resumeProducing(self) -> None:
        """See IPushProducer."""
        if not self.connected or self.disconnecting:
            return
        self._paused = False
        if self._early is not None:
            self.reactor.loop.call_soon(self._release)
        elif not self._read_ended:
            self.uv.resume_reading()

    def stopProducing(self) -> None:
        """See IPushProducer."""
        self.loseConnection()

    stopReading = pauseProducing
    startReading = resumeProducing

    def _release(self) -> None:
        """Deliver what came too early, and read on."""
        if self._early is None or not self.reading:
            return
        early, self._early = self._early, None
        if not self._begun:
            return
        self.data_received = self._reader()
        self.read_natively()
        for each in early:
            self.deliver(each)
        if self.reading:
            self.uv.resume_reading()

    def deliver(self, data: bytes | None) -> None:
        """Give the protocol bytes, or the end (None), that uvloop has not delivered itself."""
        if not self.connected:
            return
        try:
            if data is None:
                self.eof_received()
            else:
                self.data_received(data)
        except Exception:
            self.fail(Failure())

    def eof_received(self) -> bool:
        """Hear from uvloop that the peer says no more."""
        raise NotImplementedError


# The ways in which this side ends a connection, or half of it.

# Not twisted.internet.main's, whose text nobody hears on Twisted's reactors.
DONE, LOST = Failure(error.ConnectionDone()), Failure(error.ConnectionLost())
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Closing(Reading):
    """`loseConnection`, `loseWriteConnection` and `abortConnection`."""

    _write_ended = False
    _aborting = False
    _reason: Failure | None = None  # for connectionLost, if uvloop can't know it

    def loseConnection(self) -> None:
        """See ITransport."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self.uv.pause_reading()
            # In the next turn, as Twisted's: what is written until then is still sent.
            self.go_on_closing()

    def loseWriteConnection(self) -> None:
        """See ITCPTransport."""
        if self.connected and not self._writing_ends:
            self._writing_ends = True
            self.set_limit(0)
            self.go_on_closing()

    def go_on_closing(self) -> None:
        """Close what is to be closed, unless something is still to be sent."""
        if self.disconnecting:
            self.reactor.loop.call_soon(self._close)
        elif self._writing_ends and not self._write_ended:
            self.reactor.loop.call_soon(self._end_writing)

    def _close(self) -> None:
        if self.connected and not self.is_busy:
            self.uv.close()

    def _end_writing(self) -> None:
        if not self.connected or self._write_ended or self.choked or self.is_busy:
            return
        self._write_ended = True
        self.__dict__.pop("write", None)
        self.uv.write_eof()
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is not None:
            try:
                half.writeConnectionLost()
            except Exception:
                self.fail(Failure())

    def abortConnection(self) -> None:
        """See ITCPTransport."""
        if self.disconnected or self._aborting or self.uv is None:
            return
        self._aborting = True
        with contextlib.suppress(OSError):
            handle: Any = self.uv.get_extra_info("socket")
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.drop(Failure(error.ConnectionAborted()))

    def drop(self, reason: Failure) -> None:
        """Close now; what is not sent is lost."""
        if self._reason is None:
            self._reason = reason
        self.uv.abort()


# The socket of a native transport, for those who ask for options, addresses or the number.
#
# It shares the descriptor with uvloop, which closes it.


class Handle(socket.socket):
    """What `getHandle()` returns; closing it ends the stream without a word to its protocol."""

    _stream: Any

    @classmethod
    def of(cls, stream: Any, family: int, number: int) -> "Handle":
        """Return a handle on the descriptor `number` of `stream`."""
        handle = cls(family, socket.SOCK_STREAM, 0, number)
        handle._stream = stream
        return handle

    def close(self) -> None:
        """Abandon the connection: whoever took a copy of the descriptor goes on with it."""
        if self.fileno() != -1:
            self.detach()
            self._stream.abandon()


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


# TLS that begins in the middle of a connection (`startTLS`), by Twisted's own TLS protocol.
#
# Connections that are TLS from the start need nothing here: there Twisted's protocol is the one
# that the stream carries.


class Stream(RawStream):
    """A stream whose methods go through TLS once that has been started."""

    TLS = False
    _tlsClientDefault = False

    # For logs and representations, in the words of Twisted's transports.
    place: Any  # the number or the path of the port that it came in at
    peer_name: Any
    getHost: Any
    getPeer: Any
    addr: Any  # of a client: where it was told to go
    went_to: Any  # and where that was, names resolved

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """See ITLSTransport."""
        _newtls.startTLS(self, contextFactory, normal, RawStream)
        self.write = self.protocol.write  # type: ignore[method-assign]  # on purpose

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """See ITransport."""
        if not self.TLS:
            super().writeSequence(data)
        elif self.connected:
            self.protocol.writeSequence(data)

    def loseConnection(self) -> None:
        """See ITransport."""
        if not self.TLS:
            super().loseConnection()
        elif self.connected and not self.disconnecting:
            self.protocol.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See IConsumer."""
        if self.TLS and self.connected:
            self.protocol.registerProducer(producer, streaming)
        else:
            super().registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """See IConsumer."""
        if self.TLS and self.connected:
            self.protocol.unregisterProducer()
        else:
            super().unregisterProducer()

    def getTcpKeepAlive(self) -> bool:
        """See ITCPTransport."""
        return bool(self.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """See ITCPTransport."""
        self.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, bool(enabled))
