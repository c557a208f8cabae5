"""A request body from an `IBodyProducer`, framed: by its length, or in chunks if it has none."""

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH
from zope.interface import implementer

from evserve.http.errors import RequestBodyFailed


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
