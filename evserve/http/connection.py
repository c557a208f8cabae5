"""One connection: a request goes out, its response comes in, and the next one follows.

A request body from an `IBodyProducer`, framed: by its length, or in chunks if it has none.
"""

from collections.abc import Callable
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IHandshakeListener, ITCPTransport
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection as TcpConnection
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH
from zope.interface import implementer

from evserve.http.connect import explain_loss
from evserve.http.errors import FetchError, RequestBodyFailed, TruncatedBody
from evserve.http.parser import LARGE, Events, HeaderLimits, ResponseParser


_WIDE = 256 * 1024  # bytes read at a time from large bodies, instead of Twisted's 64 KiB


class Exchange(Events, Protocol):
    """The request that a connection carries, and who takes the response."""

    active: bool  # set whenever the peer shows life

    def on_end(self) -> None:
        """The response is complete."""

    def on_broken(self, error: Exception, *, stale: bool) -> None:
        """There is no response; `stale` if the connection was old and may just have expired."""


class Owner(Protocol):
    """Where connections come from and go back to."""

    def ready(self, connection: "Connection") -> None:
        """It can carry its first request."""

    def free(self, connection: "Connection") -> None:
        """It can carry another request."""

    def gone(self, connection: "Connection", error: FetchError) -> None:
        """It will carry nothing any more; `error` matters only if it never was ready."""


@implementer(IHandshakeListener)
class Connection(TwistedProtocol):
    """Carries one exchange at a time."""

    transport: Any

    def __init__(self, owner: Owner, limits: HeaderLimits, *, secure: bool) -> None:
        self._owner = owner
        self._parser = ResponseParser(limits)
        self._secure = secure
        self._exchange: Exchange | None = None
        self._upload: Upload | None = None
        self._served = 0
        self._paused = False
        self.idle_since = 0.0

    def start(self, exchange: Exchange, method: bytes, wire: bytes, body: Any = None) -> None:
        """Send a request: its head, and `body` (an IBodyProducer) if `wire` does not hold it."""
        self._exchange = exchange
        self._parser.expect(method, exchange)
        self.transport.write(wire)
        if body is not None:
            self._upload = Upload(body, self.transport, self._progressed, self._uploaded)
            self._upload.start()

    def pause(self) -> None:
        """Read nothing more until `resume`."""
        if not self._paused:
            self._paused = True
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()

    def close(self) -> None:
        """Close at once: nothing is owed to the peer."""
        if self.transport is not None:
            self.transport.abortConnection()

    def widen(self, length: int) -> None:
        """Read more at a time if a body is that long: a third less CPU for the largest ones."""
        if length > LARGE and isinstance(self.transport, TcpConnection):
            self.transport.bufferSize = _WIDE

    def drop(self) -> None:
        """Forget the exchange, which is over or not wanted any more, and close."""
        self._exchange = None
        self._stop_upload()
        self._parser.keep_alive = False
        self.close()

    # What the transport calls.

    def connectionMade(self) -> None:
        """Without TLS there is nothing more to wait for."""
        if ITCPTransport.providedBy(self.transport):
            # Nagle would hold the first request back until the handshake's end is acknowledged.
            self.transport.setTcpNoDelay(True)
        if not self._secure:
            self._owner.ready(self)

    def handshakeCompleted(self) -> None:
        """See IHandshakeListener."""
        if self._secure:
            self._owner.ready(self)

    def dataReceived(self, data: bytes) -> None:
        """Take a part of a response."""
        exchange = self._exchange
        if exchange is None:
            self._parser.keep_alive = False
            self.close()
            return
        exchange.active = True
        try:
            self._parser.feed(data)
        except Exception as error:
            self._break(error)
        else:
            if self._parser.done:
                self._finish(exchange)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell whoever waits, unless the end of the connection is the end of the response."""
        self._parser.keep_alive = False
        loss = explain_loss(reason, self.transport)
        self._owner.gone(self, loss)
        exchange = self._exchange
        if exchange is None:
            return
        stale = self._served > 0 and not self._parser.started
        try:
            self._end_with_connection(reason, loss)
        except FetchError as error:
            self._exchange = None
            self._stop_upload()
            exchange.on_broken(error, stale=stale)
        else:
            self._finish(exchange)

    def _end_with_connection(self, reason: Failure, loss: FetchError) -> None:
        self._parser.finish()
        if reason.type is not type(connectionDone.value):
            raise TruncatedBody(f"{loss}, and nothing else says where the body ends")

    def _finish(self, exchange: Exchange) -> None:
        self._exchange = None
        self._served += 1
        unsent, self._upload = self._upload, None
        if unsent is not None and unsent.active:
            unsent.stop()
            self._parser.keep_alive = False
        self.resume()
        if isinstance(self.transport, TcpConnection):
            self.transport.bufferSize = TcpConnection.bufferSize
        if self._parser.keep_alive:
            self._owner.free(self)
        else:
            self.close()
        exchange.on_end()

    def _break(self, error: Exception) -> None:
        exchange = self._exchange
        self.drop()
        if exchange is not None:
            exchange.on_broken(error, stale=False)

    def _stop_upload(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.stop()

    def _progressed(self) -> None:
        if self._exchange is not None:
            self._exchange.active = True

    def _uploaded(self, error: RequestBodyFailed | None) -> None:
        if error is not None:
            self._break(error)


@implementer(IConsumer)
@define(eq=False)
class Upload:
    """What the producer writes to; `progressed` is called whenever the peer took something."""

    _producer: Any
    _transport: Any
    _progressed: Callable[[], None]
    _ended: Callable[[RequestBodyFailed | None], None]
    _left: int = field(init=False)
    _chunked: bool = field(init=False)
    active: bool = field(default=True, init=False)
    _started: Deferred[None] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._chunked = self._producer.length is UNKNOWN_LENGTH
        self._left = 0 if self._chunked else self._producer.length

    def start(self) -> None:
        """Let the producer begin."""
        try:
            self._started = self._producer.startProducing(self)
        except Exception as error:
            self._end(RequestBodyFailed(f"the request's body could not be read: {error!r}"))
        else:
            self._started.addCallbacks(self._complete, self._failed)

    def stop(self) -> None:
        """The connection is gone, or the answer came without waiting for all of this."""
        if self.active:
            self.active = False
            self._producer.stopProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See IConsumer: the transport pauses the producer while the server does not read."""
        self._transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """See IConsumer."""
        self._transport.unregisterProducer()

    def write(self, data: bytes) -> None:
        """See IConsumer."""
        if not self.active or not data:
            return
        self._progressed()
        if self._chunked:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
            return
        self._left -= len(data)
        if self._left < 0:
            self._producer.stopProducing()
            self._end(RequestBodyFailed("the request's body is longer than it said"))
        else:
            self._transport.write(data)

    def _complete(self, _: object) -> None:
        if self.active and self._left:
            self._end(RequestBodyFailed("the request's body is shorter than it said"))
        elif self.active:
            if self._chunked:
                self._transport.write(b"0\r\n\r\n")
            self._end(None)

    def _failed(self, failure: Failure) -> None:
        reason = failure.getErrorMessage()
        self._end(RequestBodyFailed(f"the request's body could not be read: {reason}"))

    def _end(self, error: RequestBodyFailed | None) -> None:
        if self.active:
            self.active = False
            self._ended(error)
