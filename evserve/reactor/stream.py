"""A connection: a protocol to uvloop, a transport to the Twisted protocol.

A stream holds the two ends of the path of bytes as bound methods: `data_received`, which uvloop
calls, and `write`, which is uvloop's own. Everything else is off that path.

**Reading.** uvloop looks `data_received` up when a protocol is set, so the stream sets itself
anew after `connectionMade` and whenever `protocol` is assigned. Where the Twisted protocol can't
change, `data_received` is its own bound `dataReceived`. But Twisted promises to look
`dataReceived` up for each read, and some protocols replace it at any time: for an object with a
`__dict__` one line of Python does the look-up, for 15 ns.

**Writing.** uvloop writes at once and buffers what the kernel does not take. It calls
`pause_writing` when more than the limit is buffered and `resume_writing` when that is gone, which
is what a push producer wants. A pull producer must also be asked again after each write, so while
there is one `write` is not uvloop's own.
"""

import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

from twisted.internet import _newtls, error
from twisted.internet.abstract import _dataMustBeBytes
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
_LOW_WATER = 16  # bytes: uvloop's own lower limit
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

    family = socket.AF_INET
    uv: Any = None  # uvloop's transport

    # Twisted's names.
    connected = False
    disconnecting = False
    disconnected = False
    producer: Any = None
    streamingProducer = False
    producerPaused = False
    TLS = False
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

    _buffer_size = _BUFFER_SIZE
    write_paused = False  # between pause_writing and resume_writing
    _pull_scheduled = False
    _write_closing = False  # loseWriteConnection was called
    _write_closed = False

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
        except Exception:
            _log.failure("Unhandled exception in buildProtocol")
            protocol = None
        if protocol is None:
            self.discard()
        else:
            self.connect_protocol(protocol)

    def connect_protocol(self, protocol: Any) -> None:
        """Become the transport of `protocol`."""
        self.write = self.uv.write  # type: ignore[method-assign]  # on purpose
        self.connected = True
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
        if getattr(type(protocol), "logPrefix", _DEFAULT_LOG_PREFIX) is not _DEFAULT_LOG_PREFIX:
            # It names itself in the log, so its log lines must bear the name, at Twisted's price.
            return partial(callWithContext, {"system": self.logstr}, self._read)
        if type(protocol).__dictoffset__:  # not hasattr: a wrapper may answer for what it wraps
            return self._read
        return cast("Callable[[bytes], Any]", protocol.dataReceived)

    def _read(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

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
            self.abort_with(CONNECTION_DONE)
            return False
        self._call(half.readConnectionLost)
        return True

    # Writing

    def write(self, data: bytes) -> None:
        """Write `data`; while connected, uvloop's own `write` takes the place of this method."""
        _dataMustBeBytes(data)
        if self.connected and not self._write_closed:
            self.uv.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        if self.TLS:
            if self.connected:
                self.protocol.writeSequence(data)
            return
        chunks = list(data)
        for chunk in chunks:
            _dataMustBeBytes(chunk)
        joined = b"".join(chunks)
        self.write(joined)
        if len(joined) > self._buffer_size and self.streamingProducer and not self.write_paused:
            # The kernel took it all. But a producer that writes that much expects to be paused.
            self.pause_writing()
            self.reactor.loop.call_soon(self.resume_if_drained)

    def pause_writing(self) -> None:
        """Pause a push producer: more than the limit is buffered (called by uvloop)."""
        self.write_paused = True
        self._pause_producer()

    def resume_writing(self) -> None:
        """Resume the producer: what was buffered has been sent (called by uvloop)."""
        self.write_paused = False
        if self.producer is not None and (not self.streamingProducer or self.producerPaused):
            self.producerPaused = False
            self._call(self.producer.resumeProducing)
        self.continue_closing()

    def resume_if_drained(self) -> None:
        """Undo a `pause_writing` that did not come from uvloop, unless uvloop's buffer is full."""
        if self.connected and self.uv.get_write_buffer_size() <= self._buffer_size:
            self.resume_writing()

    @property
    def bufferSize(self) -> int:
        """How many bytes may be buffered before a producer is paused."""
        return self._buffer_size

    @bufferSize.setter
    def bufferSize(self, size: int) -> None:
        self._buffer_size = size
        self._set_write_limit(size)

    def _set_write_limit(self, size: int) -> None:
        self.uv.set_write_buffer_limits(size, min(size, _LOW_WATER))

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
        if streaming:
            if self.write_paused:  # uvloop has called pause_writing before there was a producer
                self.reactor.loop.call_soon(self._pause_producer)
            return
        if self.connected:
            self._set_write_limit(0)
            self.write = self._write_and_pull  # type: ignore[method-assign]  # on purpose
            # What was written earlier in this turn may be sent already.
            self._schedule_pull()
        producer.resumeProducing()

    def _unregister_producer(self) -> None:
        if self.write == self._write_and_pull:
            self.write = self.uv.write  # type: ignore[method-assign]  # on purpose
            self._set_write_limit(self._buffer_size)
        self.producer = None
        self.continue_closing()

    def _pause_producer(self) -> None:
        if self.write_paused and self.streamingProducer and self.producer is not None:
            self.producerPaused = True
            self.producer.pauseProducing()

    def _write_and_pull(self, data: bytes) -> None:
        self.uv.write(data)
        if data:
            self._schedule_pull()

    def _schedule_pull(self) -> None:
        if not (self.write_paused or self._pull_scheduled):
            self._pull_scheduled = True
            self.reactor.loop.call_soon(self._pull)

    def _pull(self) -> None:
        self._pull_scheduled = False
        if self.producer is not None and not self.write_paused:
            self._call(self.producer.resumeProducing)

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
            # In the next turn, as Twisted does: what is written until then is still sent.
            self.continue_closing()

    def loseWriteConnection(self) -> None:
        if self.connected and not self._write_closing:
            self._write_closing = True
            self._set_write_limit(0)
            self.continue_closing()

    def abortConnection(self) -> None:
        if self.disconnected or self._aborting or self.uv is None:
            return
        self._aborting = True
        with contextlib.suppress(OSError):
            handle: Any = self.uv.get_extra_info("socket")
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.abort_with(Failure(error.ConnectionAborted()))

    def abort_with(self, reason: Failure) -> None:
        """Close now and drop what is not sent; `reason` goes to connectionLost."""
        if self._reason is None:
            self._reason = reason
        self.uv.abort()

    def _call(self, method: Callable[..., object], *arguments: object) -> None:
        """Call the protocol or producer; log what it raises and end the connection with it."""
        try:
            method(*arguments)
        except Exception:
            failure = Failure()
            _log.failure("Unhandled exception in a protocol", failure)
            if self.connected:
                self.abort_with(failure)

    @property
    def has_pending_output(self) -> bool:
        """Whether something is still to be written before the stream may close."""
        return self.producer is not None and (not self.streamingProducer or self.producerPaused)

    def continue_closing(self) -> None:
        """Close what was asked to be closed, in the next turn, once there is nothing to send."""
        if self.disconnecting:
            self.reactor.loop.call_soon(self._close)
        elif self._write_closing and not self._write_closed:
            self.reactor.loop.call_soon(self._close_write)

    def _close(self) -> None:
        if self.connected and not self.has_pending_output:
            self.uv.close()

    def _close_write(self) -> None:
        if not self.connected or self._write_closed:
            return
        if self.write_paused or self.has_pending_output:
            return  # resume_writing and unregisterProducer come back here
        self._write_closed = True
        self.__dict__.pop("write", None)
        self.uv.write_eof()
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is not None:
            self._call(half.writeConnectionLost)

    # The end

    def connection_lost(self, problem: BaseException | None) -> None:
        """Tell the protocol that the connection is closed (called by uvloop)."""
        if isinstance(problem, OSError) and problem.__traceback__ is not None:
            # The protocol raised it; uvloop takes it for a socket error and does not log it.
            _log.failure("Unhandled exception in a protocol", Failure(problem))
        self._lost(self._reason or _reason_for(problem))

    def connectionLost(self, reason: Failure) -> None:
        """End the connection now (called by the reactor when it stops)."""
        self._lost(reason)
        self.uv.abort()

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
        except Exception:
            _log.failure("Unhandled exception in connectionLost")
        self.owner.stream_lost(reason)

    def _release(self) -> None:
        """Mark the stream as disconnected and drop all references that make a cycle."""
        self.disconnected, self.connected = True, False
        self.reactor.streams.discard(self)
        if self._handle is not None:
            self._handle.detach()
        for name in ("write", "data_received", "producer", "_protocol", "_handle", "_early"):
            self.__dict__.pop(name, None)

    # TLS. Connections that are TLS from the start need nothing here: Twisted's TLS protocol is
    # then the protocol of the stream.

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        _newtls.startTLS(self, contextFactory, normal, _BelowTLS)
        self.write = self.protocol.write  # type: ignore[method-assign]  # on purpose

    # The socket, and what logs say

    def fileno(self) -> int:
        """Return the descriptor's number, -1 once the connection is lost."""
        return int(self.uv.get_extra_info("socket").fileno()) if self.connected else -1

    def getHandle(self) -> "Handle":
        if not self.connected:
            raise OSError(errno.EBADF, "the connection is lost")
        if self._handle is None:
            self._handle = Handle(self.family, socket.SOCK_STREAM, 0, self.fileno())
            self._handle.stream = self
        return self._handle

    def getTcpKeepAlive(self) -> bool:
        return bool(self.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, bool(enabled))

    @property
    def sessionno(self) -> int:
        """The number in log prefixes: the descriptor's, where Twisted counts connections."""
        return self.fileno()

    @property
    def socket(self) -> "Handle":
        """The handle, by the name that Twisted's own transports give it."""
        return self.getHandle()

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

    write = Stream.write
    loseConnection = Stream._lose_connection  # noqa: SLF001  # as in Stream
    registerProducer = Stream._register_producer  # noqa: SLF001  # as in Stream
    unregisterProducer = Stream._unregister_producer  # noqa: SLF001  # as in Stream


class Handle(socket.socket):
    """What `getHandle()` returns: a socket object on the descriptor that uvloop owns and closes.

    Closing the handle ends the stream without a call to its protocol.
    """

    stream: Stream

    @override
    def close(self) -> None:
        # A program that closes the handle has copied the descriptor and uses the copy.
        if self.fileno() != -1:
            self.detach()
            self.stream.discard()


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
