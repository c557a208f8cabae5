"""Any `IAgent` as a client: the fetcher's politeness on another HTTP client."""

import zlib
from collections.abc import Callable, Iterator
from typing import Any, cast

from attrs import define, field
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet import error as twisted_errors
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web._newclient import BadHeaders, ParseError
from twisted.web.client import PartialDownloadError, ResponseDone
from twisted.web.error import InfiniteRedirection
from twisted.web.http import PotentialDataLoss, _DataLoss, _MalformedChunkedDataError
from twisted.web.http_headers import Headers as WebHeaders
from twisted.web.iweb import IResponse
from typing_extensions import override

from evserve.http.connect import explain_connecting, explain_loss
from evserve.http.errors import (
    BadResponse,
    Cancelled,
    ConnectionLost,
    CorruptBody,
    FetchError,
    IdleTimeout,
    TLSFailed,
    TooManyRedirects,
    TotalTimeout,
    TruncatedBody,
)
from evserve.http.headers import Head, Headers
from evserve.http.proxy import Proxy
from evserve.http.request import Receiver, Request
from evserve.http.settings import Timeouts
from evserve.http.url import Origin


@define(eq=False)
class AgentClient:
    """A client on an IAgent. Of the time-outs it applies only the total one."""

    _agent: Any
    _clock: IReactorTime
    _user_agent: bytes
    _exchanges: "set[AgentExchange]" = field(factory=set, init=False)

    def fetch(self, request: Request, receiver: Receiver) -> "AgentExchange":
        headers = WebHeaders()
        if b"user-agent" not in request.headers:
            headers.addRawHeader(b"User-Agent", self._user_agent)
        for name, value in request.headers:
            headers.addRawHeader(name, value)
        exchange = AgentExchange(request, receiver, self._exchanges.discard)
        self._exchanges.add(exchange)
        total = (request.timeouts or Timeouts()).total
        exchange.timer = self._clock.callLater(
            total, exchange.cancel, TotalTimeout(f"not complete after {total:g} s")
        )
        exchange.response = maybeDeferred(
            self._agent.request,
            request.method,
            str(request.url).encode("ascii"),
            headers,
            request.body,
        )
        exchange.response.addCallback(exchange.started).addErrback(exchange.failed)
        return exchange

    def proxy_for(self, origin: Origin) -> Proxy | None:
        return None  # if there is one, only the agent knows it

    def close(self) -> None:
        # The agent's idle connections are its owner's to close.
        for exchange in tuple(self._exchanges):
            exchange.cancel()


class AgentExchange(Protocol):
    """One request to an agent, and the protocol that its response's body is delivered to."""

    transport: Any

    def __init__(
        self, request: Request, receiver: Receiver, on_end: "Callable[[AgentExchange], None]"
    ) -> None:
        self._request = request
        self._receiver = receiver
        self._on_end = on_end
        self._has_ended = False
        self._length: int | None = None
        self._received = 0
        self._is_paused = False  # before there is a transport
        self._undelivered: IResponse | None = None
        self.timer: IDelayedCall | None = None
        self.response: Deferred[Any] | None = None

    def pause(self) -> None:
        self._is_paused = True
        if self.transport is not None:
            self.transport.pauseProducing()

    def resume(self) -> None:
        self._is_paused = False
        if self.transport is not None:
            self.transport.resumeProducing()
        elif self._undelivered is not None:
            self._deliver(self._undelivered)

    def cancel(self, error: Exception | None = None) -> None:
        self._end(error or Cancelled("cancelled"))
        if self.transport is not None:
            self.transport.loseConnection()
        elif self._undelivered is not None:
            self._deliver(self._undelivered)  # which closes it
        elif self.response is not None:
            self.response.cancel()

    def started(self, response: IResponse) -> None:
        """Take the agent's response."""
        lines = [
            (name, value)
            for name, values in response.headers.getAllRawHeaders()
            for value in values
        ]
        self._length = response.length if isinstance(response.length, int) else None
        head = Head(
            response.code, response.phrase or b"", "1.1", Headers(lines), self._length, None
        )
        if not self._has_ended:
            try:
                self._receiver.started(head, self._request.url)
            except Exception as error:
                self._end(error)
        if self._is_paused and not self._has_ended:
            self._undelivered = response  # agents do not heed a pause before they deliver
        else:
            self._deliver(response)

    def _deliver(self, response: IResponse) -> None:
        self._undelivered = None
        response.deliverBody(self)

    def failed(self, failure: Failure) -> None:
        """Take the agent's error."""
        self._end(_explain(failure, self._request.url.origin, ConnectionLost))

    @override
    def connectionMade(self) -> None:
        # The request was cancelled, or the body is not wanted.
        if self._has_ended and self.transport is not None:
            self.transport.loseConnection()

    @override
    def dataReceived(self, data: bytes) -> None:
        if self._has_ended:
            return
        self._received += len(data)
        try:
            self._receiver.received(data)
        except Exception as error:
            self.cancel(error)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # Without a length, the end of the connection is that of the body (RFC 9112, 6.3, 8.).
        is_whole = self._received >= (self._length or 0)
        end = reason.check(ResponseDone, PotentialDataLoss, twisted_errors.ConnectionDone)
        if end is ResponseDone or (end is not None and is_whole):
            self._end(None)
        else:
            self._end(_explain(reason, self._request.url.origin, TruncatedBody))

    def _end(self, error: Exception | None) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self._on_end(self)
        self._receiver.finished(error)


_LOSSES = (twisted_errors.ConnectionClosed, _DataLoss, PotentialDataLoss, ConnectionError)
# What agents fail with, and its name here. Twisted's parsers do not export their errors.
_NAMES: tuple[tuple[type[Exception], type[FetchError]], ...] = (
    (CancelledError, Cancelled),
    (twisted_errors.ConnectingCancelledError, Cancelled),
    (DeferredTimeout, TotalTimeout),
    (TimeoutError, TotalTimeout),
    (VerificationError, TLSFailed),
    (CertificateError, TLSFailed),
    (BadHeaders, BadResponse),
    (ParseError, BadResponse),
    (_MalformedChunkedDataError, BadResponse),
    (zlib.error, CorruptBody),
    (PartialDownloadError, TruncatedBody),
    (InfiniteRedirection, TooManyRedirects),
)


def _explain(failure: Failure, origin: Origin, loss: type[FetchError]) -> Exception:
    """Return what an agent failed with as an error of ours; one that is unknown stays as it is.

    loss: what the end of the connection means.
    """
    causes = list(_causes(failure))
    # Most errors end the connection, too, so its end is the reason only if there is no other.
    cause = next((each for each in causes if not each.check(*_LOSSES)), causes[0])
    cause = next((each for each in causes if each.check(FetchError)), cause)
    error: Any = cause.value
    text = str(error).rstrip(".") or type(error).__name__
    if isinstance(error, FetchError):
        return error
    if isinstance(error, SSL.Error):
        return explain_loss(cause, None)
    for theirs, ours in _NAMES:
        if isinstance(error, theirs):
            return ours(text)
    has_begun = cause is not failure or loss is TruncatedBody
    if isinstance(error, _LOSSES) or (has_begun and isinstance(error, OSError)):
        return loss(text)
    if has_begun and isinstance(error, twisted_errors.TimeoutError):
        return IdleTimeout(text)
    if cause is not failure and isinstance(error, ValueError):  # of a parser
        return BadResponse(text)
    if isinstance(error, twisted_errors.ConnectError | OSError):
        return explain_connecting(cause, origin)
    return cast("Exception", error)


def _causes(failure: Failure) -> Iterator[Failure]:
    """Yield the failures that are wrapped in a ResponseFailed or the like; else the failure."""
    reasons = getattr(failure.value, "reasons", None)
    if not reasons:
        yield failure
        return
    for reason in reasons:
        yield from _causes(reason if isinstance(reason, Failure) else Failure(reason))
