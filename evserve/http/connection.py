"""One connection: it carries a request and its response, and then the next pair."""

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IConsumer, IHandshakeListener, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection as TcpConnection
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH
from typing_extensions import override
from zope.interface import implementer

from evserve.http.connect import explain_loss
from evserve.http.errors import FetchError, RequestBodyFailed, TruncatedBody, UnwantedBody
from evserve.http.parser import LARGE, HeaderLimits, ResponseParser


if TYPE_CHECKING:
    from evserve.http.client import Call
    from evserve.http.pool import OriginPool


_LARGE_READ = 256 * 1024  # bytes at a time of a large body, instead of Twisted's 64 KiB


@implementer(IHandshakeListener)
class Connection(Protocol):
    """Carries one call at a time."""

    transport: Any

    def __init__(self, pool: "OriginPool", limits: HeaderLimits, *, is_tls: bool) -> None:
        self._pool = pool
        self._parser = ResponseParser(limits)
        self._is_tls = is_tls  # it begins with a handshake, the origin's or the proxy's
        self._call: Call | None = None
        self._upload: Upload | None = None
        self._served = 0
        self._is_paused = False
        self.idle_since = 0.0

    def start(self, call: "Call", method: bytes, data: bytes, body: Any = None) -> None:
        """Send a request: `data`, then `body`, an IBodyProducer, if `data` does not hold it."""
        self._call = call
        self._parser.expect(method, call)
        self.transport.write(data)
        if body is not None:
            self._upload = Upload(body, self)
            self._upload.start()

    def pause(self) -> None:
        """Read no more until `resume`."""
        if not self._is_paused:
            self._is_paused = True
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        if self._is_paused:
            self._is_paused = False
            self.transport.resumeProducing()

    def expect_length(self, length: int) -> None:
        """Read more at a time for a large body, which saves a third of its CPU time."""
        if length > LARGE and isinstance(self.transport, TcpConnection):
            self.transport.bufferSize = _LARGE_READ

    def close(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abortConnection()

    def drop(self) -> None:
        """Forget the call and close."""
        self._call = None
        self._stop_upload()
        self._parser.keep_alive = False
        self.close()

    @override
    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            # Nagle would hold the first request back until the handshake's end is acknowledged.
            self.transport.setTcpNoDelay(True)
        if not self._is_tls:
            self._pool.ready(self)

    def handshakeCompleted(self) -> None:
        if self._is_tls:
            self._pool.ready(self)

    @override
    def dataReceived(self, data: bytes) -> None:
        call = self._call
        if call is None:
            self._parser.keep_alive = False
            self.close()
            return
        call.active = True
        try:
            self._parser.feed(data)
        except Exception as error:
            self.fail(error)
        else:
            if self._parser.done:
                self._finish(call)
            elif call.needs_no_more:
                self.fail(UnwantedBody("the rest of the body is not needed"))

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._parser.keep_alive = False
        loss = explain_loss(reason, self.transport)
        self._pool.lost(self, loss)
        call = self._call
        if call is None:
            return
        # An old connection that ends before the response may have expired in the meantime.
        is_stale = self._served > 0 and not self._parser.started
        try:
            self._parser.finish()
            if reason.type is not type(connectionDone.value):
                raise TruncatedBody(f"{loss}, and the body has no other end")
        except FetchError as error:
            self._call = None
            self._stop_upload()
            call.on_lost(error, is_stale=is_stale)
        else:
            self._finish(call)

    def _finish(self, call: "Call") -> None:
        self._call = None
        self._served += 1
        upload, self._upload = self._upload, None
        if upload is not None and upload.active:
            upload.stop()
            self._parser.keep_alive = False
        self.resume()
        if isinstance(self.transport, TcpConnection):
            self.transport.bufferSize = TcpConnection.bufferSize
        # The connection is released first, so that the caller's next request finds it.
        if self._parser.keep_alive:
            self._pool.released(self)
        else:
            self.close()
        call.on_end()

    def fail(self, error: Exception) -> None:
        """Close, because the response is invalid or the request body failed."""
        call = self._call
        self.drop()
        if call is not None:
            call.on_lost(error, is_stale=False)

    def note_progress(self) -> None:
        """Note that the peer sends or takes something."""
        if self._call is not None:
            self._call.active = True

    def _stop_upload(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.stop()


@implementer(IConsumer)
class Upload:
    """Sends a request body from an IBodyProducer, with a known length or in chunks."""

    def __init__(self, producer: Any, connection: Connection) -> None:
        self._producer = producer
        self._connection = connection
        self._transport = connection.transport
        self._is_chunked = producer.length is UNKNOWN_LENGTH
        self._left = 0 if self._is_chunked else producer.length  # bytes
        self.active = True

    def start(self) -> None:
        """Start the producer."""
        try:
            started = self._producer.startProducing(self)
        except Exception as error:
            self._fail(f"cannot be read: {error!r}")
        else:
            started.addCallbacks(self._complete, self._failed)

    def stop(self) -> None:
        """Stop the producer: the connection is lost, or the response came early."""
        if self.active:
            self.active = False
            self._producer.stopProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        # The transport pauses the producer while the server does not read.
        self._transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._transport.unregisterProducer()

    def write(self, data: bytes) -> None:
        if not self.active or not data:
            return
        self._connection.note_progress()
        if self._is_chunked:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
            return
        self._left -= len(data)
        if self._left < 0:
            self._producer.stopProducing()
            self._fail("is longer than its length")
        else:
            self._transport.write(data)

    def _complete(self, _: object) -> None:
        if self._left:
            self._fail("is shorter than its length")
        elif self.active:
            self.active = False
            if self._is_chunked:
                self._transport.write(b"0\r\n\r\n")

    def _failed(self, failure: Failure) -> None:
        self._fail(f"cannot be read: {failure.getErrorMessage()}")

    def _fail(self, problem: str) -> None:
        if self.active:
            self.active = False
            self._connection.fail(RequestBodyFailed(f"the request body {problem}"))
