"""A connection: a protocol to uvloop, a transport to the Twisted protocol.

**Reading.** uvloop looks `data_received` up when a protocol is set, so the stream sets itself
anew after `connectionMade` and whenever `protocol` is assigned. Where the Twisted protocol can't
change, `data_received` is its own bound `dataReceived`. But Twisted promises to look
`dataReceived` up for each read, and some protocols replace it at any time: for an object with a
`__dict__` one line of Python does the look-up, for 15 ns.

**Writing.** uvloop writes at once, and a system call is most of what a small write costs. So the
reactor gathers what all streams write in a turn, as Twisted's streams do, and sends it at the end
of the turn. A large write is not kept until then, when it would have left the processor's caches.
uvloop buffers what the kernel does not take. It calls `pause_writing` then, and `resume_writing`
when everything is sent; in between a stream holds what is written. Once everything is sent a
producer is asked for more, or a stream that is to be closed is closed.
"""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

from twisted.internet import _newtls, error
from twisted.internet.abstract import _dataMustBeBytes
from twisted.internet.endpoints import _WrappingProtocol
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    ILoggingContext,
    IPushProducer,
    ISystemHandle,
)
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.log import callWithContext
from typing_extensions import override
from zope.interface import implementer


# Not twisted.internet.main's instances: their text differs from what Twisted's transports report.
CONNECTION_DONE = Failure(error.ConnectionDone())
CONNECTION_LOST = Failure(error.ConnectionLost())

_BUFFER_SIZE = 65536  # bytes: Twisted's FileDescriptor.bufferSize, and uvloop's own limit
_BYTES = {bytes}
_MUCH = 16384  # bytes: a larger write does not wait for the end of the turn
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for 0 seconds
_DEFAULT_LOG_PREFIX = Protocol.logPrefix

_log = Logger()


class Owner:
    """Where a stream comes from: a port, a client's attempt to connect, an adopted socket.

    The defaults are those of a server.
    """

    def build_protocol(self, stream: Any) -> Any:
        """Return the Twisted protocol for a stream that has just opened; None closes it."""
        raise NotImplementedError

    def transport_replaced(self, transport: Any) -> None:
        """Note that `transport` has taken the place of the stream."""

    def stream_lost(self, reason: Failure) -> None:
        """Note that the stream has ended and its protocol has been notified."""

    def log_prefix(self, stream: Any, name: str) -> str:
        """Return the log prefix of a stream whose protocol calls itself `name`."""
        return f"{name},{stream.sessionno},{stream.peer_name}"

    def describe(self, stream: Any, name: str) -> str:
        """Return the representation of a stream whose protocol's class is `name`."""
        return f"<{name} #{stream.sessionno} on {stream.port_name}>"


@implementer(IPushProducer, IConsumer, ISystemHandle, ILoggingContext)
class Stream:
    """A connection of either side; subclasses add what is particular to TCP and UNIX sockets."""

    uv: Any = None  # uvloop's transport

    # Twisted's names.
    connected = False
    disconnecting = False
    disconnected = False
    producer: Any = None
    streamingProducer = False
    producerPaused = False
    TLS = False
    _writeDisconnecting = False
    _writeDisconnected = False
    sessionno = 0
    _tlsClientDefault = False

    # Set by subclasses, and by the owner of a client's stream.
    getHost: Any
    getPeer: Any
    port_name: Any  # the number or the path of the port that accepted it
    peer_name: Any
    addr: Any  # of a client: the address that was asked for
    connected_addr: Any  # of a client: that address, with its name resolved
    reads_next_turn = False  # deliver nothing before the turn after connectionMade

    data_received: Callable[[bytes], Any]
    _protocol: Any = None
    _early: list[Any] | None = None  # what arrived while the protocol was not to be called
    _reads = False  # uvloop reads, unless it is paused
    _read_paused = False
    _read_closed = False

    # Bytes that may be written until more is to be done with a write than to gather it; -1 if
    # more is to be done with each.
    _credit = -1
    busy = False  # between pause_writing and resume_writing
    held: list[bytes]  # what was written while busy
    _may_write = False
    _written = 0  # bytes, in `_turn` or not sent yet, for a push producer
    _turn = 0
    _buffer_size = _BUFFER_SIZE

    _aborting = False
    _reason: Failure | None = None  # for connectionLost, where uvloop can't know it
    _handle: "Handle | None" = None

    def __init__(self, reactor: Any, owner: Owner) -> None:
        self.reactor = reactor
        self.owner = owner

    @property
    def peer_is_gone(self) -> bool:
        """Whether the peer had closed before the stream learnt its address (TCP only)."""
        return False

    # Opening

    def attach(self, connected: socket.socket) -> None:
        """Let uvloop drive a connected socket; it calls `connection_made` in the next turn.

        uvloop offers this as a coroutine. A task would run it, but costs another turn and
        outlives a loop that stops in between.
        """
        attaching = self.reactor.loop.connect_accepted_socket(lambda: self, connected)
        waiter = attaching.send(None)
        waiter.add_done_callback(partial(_finish_attaching, attaching))

    def connection_made(self, uv: Any) -> None:
        """Connect the protocol that the owner builds (called by uvloop)."""
        self.uv = uv
        try:
            protocol = self.owner.build_protocol(self)
        except BaseException:
            _log.failure("Unhandled exception in buildProtocol")
            protocol = None
        if protocol is None:
            self.discard()
        else:
            self.connect_protocol(protocol)

    def connect_protocol(self, protocol: Any) -> None:
        """Become the transport of `protocol`."""
        self.uv.set_write_buffer_limits(0, 0)  # pause_writing: the kernel did not take everything
        self.connected = self._may_write = True
        self._update_credit()
        self.reactor.streams.add(self)
        self.protocol = protocol
        self._call(protocol.makeConnection, self)
        self._reads = True
        if self.connected:
            # uvloop reads from now on, whether or not connectionMade has paused the stream.
            if self.reads_next_turn:
                self.reactor.loop.call_soon(self._deliver_early)
            if self.reads_next_turn or not self.reading:
                self._early = []
            self.data_received = self._reader()
            self.set_uv_protocol()

    # Reading

    @property
    def protocol(self) -> Any:
        """The Twisted protocol; another that is assigned gets the bytes from then on."""
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self.data_received = self._reader()
        if self._reads:
            self.set_uv_protocol()

    @property
    def reading(self) -> bool:
        """Whether the protocol takes bytes now."""
        return self.connected and not (
            self._read_paused or self._read_closed or self.disconnecting
        )

    def set_uv_protocol(self) -> None:
        """Make uvloop look `data_received` up again."""
        self.uv.set_protocol(self)

    def _reader(self) -> Callable[[bytes], Any]:
        if self._early is not None:
            return self.hold
        protocol = self._protocol
        while type(protocol) is _WrappingProtocol:  # an endpoint's: it only passes bytes on
            protocol = protocol._wrappedProtocol  # noqa: SLF001  # no public name leads there
        look_up = partial(_receive, protocol)
        if getattr(type(protocol), "logPrefix", _DEFAULT_LOG_PREFIX) is not _DEFAULT_LOG_PREFIX:
            # It names itself in the log, so its log lines must bear the name, at Twisted's price.
            return partial(callWithContext, {"system": self.logstr}, look_up)
        if type(protocol).__dictoffset__:  # not hasattr: a wrapper may answer for what it wraps
            return look_up
        return cast("Callable[[bytes], Any]", protocol.dataReceived)

    def hold(self, data: bytes) -> None:
        """Keep bytes that came too early, and read no more."""
        self._early = [*(self._early or ()), data]
        self.uv.pause_reading()

    def deliver(self, data: bytes | None) -> None:
        """Give the protocol bytes that uvloop has not delivered itself, or the end (None)."""
        if not self.connected:
            return
        if data is None:
            self.eof_received()
        else:
            self._call(self.data_received, data)

    def _deliver_early(self) -> None:
        if self._early is None or not self.reading:
            return
        early, self._early = self._early, None
        if not self._reads:
            return
        self.data_received = self._reader()
        self.set_uv_protocol()
        for each in early:
            self.deliver(each)
        if self.reading:
            self.uv.resume_reading()

    def pauseProducing(self) -> None:
        self._read_paused = True
        if self.connected:
            self.uv.pause_reading()

    def resumeProducing(self) -> None:
        if not self.connected or self.disconnecting:
            return
        self._read_paused = False
        if self._early is not None:
            self.reactor.loop.call_soon(self._deliver_early)
        elif not self._read_closed:
            self.uv.resume_reading()

    def stopProducing(self) -> None:
        self.loseConnection()

    # The names that reactors and Twisted's own transports use.
    stopReading = pauseProducing
    startReading = resumeProducing

    def eof_received(self) -> bool:
        """Return whether to stay open after the peer has closed its half (called by uvloop)."""
        if self._early is not None:
            self._early.append(None)
            return True
        self._read_closed = True
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is None:
            self.reactor.send_gathered()  # the peer may have closed its half only
            self.connectionLost(CONNECTION_DONE)
            return False
        self._call(half.readConnectionLost)
        return True

    # Writing

    def write(self, data: bytes) -> None:
        if type(data) is not bytes:
            _dataMustBeBytes(data)
        credit = self._credit - len(data)
        if credit >= 0:
            self._credit = credit
            self.reactor.gather((self, data))
        elif not self.TLS:
            self._write(data)
        elif self.connected:
            self.protocol.write(data)

    def flush(self) -> None:
        """Send what was written now, not at the end of the turn.

        For a peer that waits for nothing more. If many streams write in a turn, it is cheaper to
        send everything at its end.
        """
        self.reactor.send_gathered()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        if self.TLS:
            if self.connected:
                self.protocol.writeSequence(data)
            return
        chunks = list(data)
        if not _BYTES.issuperset(map(type, chunks)):
            for chunk in chunks:
                _dataMustBeBytes(chunk)
        self._write(b"".join(chunks))

    def _write(self, data: bytes) -> None:
        if not (data and self._may_write):
            return
        reactor = self.reactor
        if self.producer is not None:
            self._count(len(data))
        written = self._written
        self._update_credit()
        if self.busy:
            self.held.append(data)
        elif len(data) > _MUCH:
            reactor.send_gathered()
            self.uv.write(data)
            reactor.continue_later(self)  # a producer may be registered in this turn
        else:
            reactor.gather((self, data))
        if self.producer is None:
            return
        if not self.streamingProducer:
            reactor.continue_later(self)
        elif written > self._buffer_size:
            self.pause_producer()

    @property
    def bufferSize(self) -> int:
        """How many bytes may be unsent, or written in a turn, before a producer is paused."""
        return self._buffer_size

    @bufferSize.setter
    def bufferSize(self, size: int) -> None:
        self._count(0)
        self._buffer_size = size
        self._update_credit()

    def _update_credit(self) -> None:
        pulled = self.producer is not None and not self.streamingProducer
        plain = self._may_write and not (self.busy or self.TLS or pulled)
        self._credit = min(_MUCH, self._buffer_size) if plain else -1

    def _count(self, size: int) -> None:
        """Count what is written in a turn, and what is unsent, for the producer."""
        if not self.busy and self._turn != self.reactor.turns:
            self._turn, self._written = self.reactor.turns, 0
        elif self._credit >= 0:
            self._written += min(_MUCH, self._buffer_size) - self._credit
        self._written += size

    def pause_writing(self) -> None:
        """Hold what is written from now on: the kernel takes no more (called by uvloop)."""
        self.busy = True
        self.held = []
        self._written = self.uv.get_write_buffer_size()
        self._update_credit()

    def resume_writing(self) -> None:
        """Send what was held (called by uvloop when it has sent everything)."""
        if not self.busy:
            return  # the connection has just been lost
        self.busy = False
        self._update_credit()
        self.uv.write(b"".join(self.held))
        self.continue_writing()

    def continue_writing(self) -> None:
        """Ask the producer for more, or close, once everything is sent."""
        if self.busy or not self.connected:
            return
        producer = self.producer
        if producer is not None and (not self.streamingProducer or self.producerPaused):
            self.producerPaused = False
            self._turn, self._written = self.reactor.turns, 0
            self._update_credit()
            self._call(producer.resumeProducing)
        elif self.disconnecting:
            self.reactor.send_gathered()
            self.uv.close()
        elif self._writeDisconnecting and not self._writeDisconnected:
            self.reactor.send_gathered()
            self._close_write()

    # Twisted's own names for what is unsent, which programs read for their metrics: the length of
    # the first and the second together.

    dataBuffer = b""

    @property
    def _tempDataLen(self) -> int:
        buffered = self.uv.get_write_buffer_size() if self.connected else 0
        return sum(map(len, self._tempDataBuffer)) + int(buffered)

    @property
    def _tempDataBuffer(self) -> list[bytes]:
        return self.held if self.busy else self.reactor.gathered_from(self)

    # Producers

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.TLS and self.connected:
            self.protocol.registerProducer(producer, streaming)
        else:
            self._register_producer(producer, streaming)

    def unregisterProducer(self) -> None:
        if self.TLS and self.connected:
            self.protocol.unregisterProducer()
        else:
            self._unregister_producer()

    def stopConsuming(self) -> None:
        """Close: the producer has lost its own connection."""
        self.unregisterProducer()
        self.loseConnection()

    def _register_producer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer}, because producer {self.producer} was never "
                "unregistered."
            )
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer, self.streamingProducer, self.producerPaused = producer, streaming, False
        self._turn, self._written = self.reactor.turns, self._tempDataLen
        self._update_credit()
        if self._written and not streaming:
            self.reactor.continue_later(self)
        if not streaming:
            producer.resumeProducing()

    def _unregister_producer(self) -> None:
        self.producer = None
        self._update_credit()
        if self.disconnecting or self._writeDisconnecting:
            self.reactor.continue_later(self)

    def pause_producer(self) -> None:
        """Pause a push producer until everything is sent."""
        if self.producer is not None and self.streamingProducer:
            self.producerPaused = True
            self.reactor.continue_later(self)
            self.producer.pauseProducing()

    # Closing

    def loseConnection(self) -> None:
        if not self.TLS:
            self._lose_connection()
        elif self.connected and not self.disconnecting:
            self.protocol.loseConnection()

    def _lose_connection(self) -> None:
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self.uv.pause_reading()
            self.reactor.continue_later(self)

    def loseWriteConnection(self) -> None:
        if self.connected and not self._writeDisconnecting:
            self._writeDisconnecting = True
            self.reactor.continue_later(self)

    def abortConnection(self) -> None:
        if self.disconnected or self._aborting or self.uv is None:
            return
        self._aborting = True
        with contextlib.suppress(OSError):
            handle: Any = self.uv.get_extra_info("socket")
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.abort_with(Failure(error.ConnectionAborted()))

    def abort_with(self, reason: Failure) -> None:
        """Drop what is not sent and close; connectionLost gets the reason in the next turn."""
        if self._reason is None:
            self._reason = reason
        self._may_write, self._credit = False, -1
        self.uv.abort()

    def _call(self, method: Callable[..., object], *arguments: object) -> None:
        """Call the protocol or producer; log what it raises and end the connection with it."""
        try:
            method(*arguments)
        except BaseException:
            failure = Failure()
            _log.failure("Unhandled exception in a protocol", failure)
            if self.connected:
                self.connectionLost(failure)

    def _close_write(self) -> None:
        self._writeDisconnected = True
        self._may_write, self._credit = False, -1
        self.uv.write_eof()
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is not None:
            self._call(half.writeConnectionLost)

    # The end

    def connection_lost(self, problem: BaseException | None) -> None:
        """Tell the protocol that the connection is closed (called by uvloop)."""
        self.reactor.send_gathered()  # uvloop ignores a write now; later it would raise
        if isinstance(problem, OSError) and problem.__traceback__ is not None:
            # The protocol raised it; uvloop takes it for a socket error and does not log it.
            _log.failure("Unhandled exception in a protocol", Failure(problem))
        self._lost(self._reason or _reason_for(problem))

    def connectionLost(self, reason: Failure) -> None:
        """End the connection now and drop what is not sent."""
        self.uv.abort()
        self._lost(reason)

    def discard(self) -> None:
        """Close without telling the protocol, whose connection continues elsewhere."""
        self._release()
        self.uv.abort()

    def _lost(self, reason: Failure) -> None:
        if self.disconnected:
            return
        protocol, producer = self.protocol, self.producer
        self._release()
        try:
            if producer is not None:
                producer.stopProducing()
            protocol.connectionLost(reason)
        except BaseException:
            _log.failure("Unhandled exception in connectionLost")
        self.owner.stream_lost(reason)

    def _release(self) -> None:
        """Mark the stream as disconnected and drop all references that make a cycle."""
        self.disconnected = True
        self.connected = self.busy = self._may_write = False
        self._credit = -1
        self.reactor.streams.discard(self)
        if self._handle is not None:
            self._handle.release()
        for name in ("data_received", "producer", "held", "_protocol", "_handle", "_early"):
            self.__dict__.pop(name, None)

    # TLS. Connections that are TLS from the start need nothing here: Twisted's TLS protocol is
    # then the protocol of the stream.

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        self._credit = -1
        _newtls.startTLS(self, contextFactory, normal, _BelowTLS)

    # The socket, and what logs say

    def fileno(self) -> int:
        """Return the descriptor's number, -1 once the connection is lost."""
        return int(self.uv.get_extra_info("socket").fileno()) if self.connected else -1

    def getHandle(self) -> "Handle":
        return self.socket

    @property
    def socket(self) -> "Handle":
        """The handle, by the name of Twisted's own transports; over TLS, `getHandle` is TLS's."""
        if not self.connected:
            raise OSError(errno.EBADF, "the connection is lost")
        if self._handle is None:
            self._handle = Handle(self)
        return self._handle

    def getTcpKeepAlive(self) -> bool:
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, bool(enabled))

    def logPrefix(self) -> str:
        return self.logstr

    @property
    def logstr(self) -> str:
        """The log prefix, by the name that Twisted's own transports give it."""
        return self.owner.log_prefix(self, self.protocol_name)

    @property
    def protocol_name(self) -> str:
        """The name of the protocol in logs."""
        protocol = self.protocol
        named = ILoggingContext.providedBy(protocol)
        return str(protocol.logPrefix() if named else protocol.__class__.__name__)

    def __repr__(self) -> str:
        name = self.protocol.__class__.__name__ if self.connected else "lost connection"
        return self.owner.describe(self, name)


class _BelowTLS:
    """The methods that Twisted's TLS calls on a stream whose own methods go through TLS."""

    write = Stream._write  # noqa: SLF001  # as in Stream
    loseConnection = Stream._lose_connection  # noqa: SLF001  # as in Stream
    registerProducer = Stream._register_producer  # noqa: SLF001  # as in Stream
    unregisterProducer = Stream._unregister_producer  # noqa: SLF001  # as in Stream


class Handle(socket.socket):
    """What `getHandle()` returns: a socket object on the descriptor that uvloop owns and closes.

    Closing the handle ends the stream without a call to its protocol.
    """

    def __init__(self, stream: Stream) -> None:
        super().__init__(fileno=stream.fileno())
        self.setblocking(False)
        self._stream = stream

    @override
    def close(self) -> None:
        # A program that closes the handle has copied the descriptor and uses the copy.
        if self.fileno() != -1:
            self.release()
            self._stream.discard()

    @override
    def detach(self) -> int:
        copy = os.dup(self.fileno())
        self.close()
        return copy

    @override
    def dup(self) -> socket.socket:  # type: ignore[override]  # not ours: to be closed
        copy = socket.socket(fileno=os.dup(self.fileno()))
        copy.setblocking(False)
        return copy

    def release(self) -> None:
        """Let go of the descriptor, which uvloop closes."""
        super().detach()


def _receive(protocol: Any, data: bytes) -> None:
    protocol.dataReceived(data)


def _finish_attaching(attaching: Any, _waiter: object) -> None:
    # uvloop raises RuntimeError for a connection that was closed before it was made.
    with contextlib.suppress(StopIteration, RuntimeError):
        attaching.send(None)


def _reason_for(problem: BaseException | None) -> Failure:
    """Return what Twisted calls the end that uvloop reports with `problem`."""
    if problem is None:
        return CONNECTION_DONE
    if isinstance(problem, OSError) and problem.__traceback__ is None:
        return CONNECTION_LOST
    return Failure(problem, type(problem), problem.__traceback__)
