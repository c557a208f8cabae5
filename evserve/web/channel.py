"""`FastChannel`: one HTTP/1.1 connection of a `twisted.web.server.Site`."""

import re
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import (
    HTTPChannel,
    _ChunkedTransferDecoder,
    _IdentityTransferDecoder,
    _MalformedChunkedDataError,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import INonQueuedRequestFactory
from typing_extensions import override

from evserve.web.head import (
    BadHead,
    Fields,
    HeadParser,
    split_request_line,
    status_line,
    write_head,
)
from evserve.web.request import FastRequest


_HEAD_END = b"\r\n\r\n"
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00\r\n]*")
_CHUNK_OVERHEAD = 16  # bytes beside a body for each of its bytes, over the allowance
_CHUNK_ALLOWANCE = 128 * 1024  # bytes, the trailer included

_parse = HeadParser().parse


class FastChannel(HTTPChannel):
    """Parses requests and writes answers; what `HTTPChannel` promises to requests holds.

    One request at a time is parsed, and served as soon as it is complete. What arrives while it is
    answered waits; more than a bound of it stops reading.
    """

    __slots__ = (
        "_after_body",  # what came with the end of the last body
        "_chunk_credit",  # bytes that a body in chunks may still take
        "_data",  # what is being read
        "_decoder",  # of the body that arrives
        "_heard",  # the time from which idleness counts
        "_is_paused",  # whether this channel has stopped reading
        "_is_serving",  # whether `_serve` is at work
        "_line",  # method, target, version of the request whose body arrives
        "_seconds",  # the reactor's clock
        "_start",  # the bytes of `_data` that are done
        "_timer",
        "_waiting",  # bytes in `_dataBuffer`, which came after `_data`
        "addresses",  # the client's and the server's, at the first request
    )

    factory: Any = None
    site: Any
    transport: Any
    requestFactory: Any
    requests: list[Any]
    timeOut: float | None  # type: ignore[assignment]  # as a site takes it
    persistent: bool
    _dataBuffer: list[bytes]
    _networkProducer: Any
    _savedTimeOut: float | None

    def __init__(self) -> None:
        super().__init__()
        self._data = self._after_body = b""
        self._start = self._waiting = self._chunk_credit = 0
        self._is_serving = self._is_paused = False
        self._heard = 0.0
        self._line = (b"", b"", b"")
        self._timer: IDelayedCall | None = None
        self._decoder: Any = None
        self.addresses: tuple[IAddress, IAddress] | None = None
        self._seconds: Callable[[], float]

    @override
    def connectionMade(self) -> None:
        if self.factory is None:  # made by hand
            from twisted.internet import reactor
        else:
            reactor = self.factory.reactor
        self._seconds = reactor.seconds
        super().connectionMade()
        if hasattr(self.transport, "negotiatedProtocol"):
            self.dataReceived = self._negotiated  # type: ignore[method-assign]

    def _negotiated(self, data: bytes) -> None:
        """Take the first bytes over TLS: the protocol is known now."""
        del self.dataReceived
        if self.transport.negotiatedProtocol == b"h2":
            self._switch_to_http2()
        self.dataReceived(data)

    def _switch_to_http2(self) -> None:
        from twisted.web._http2 import H2Connection

        self._networkProducer.unregisterProducer()
        period = self.setTimeout(None)
        # The name is the one by which wrappers in Twisted tell what they wrap.
        channel: Any = H2Connection()
        self.wrappedProtocol = channel
        channel.requestFactory = (
            server.Request if self.requestFactory is FastRequest else self.requestFactory
        )
        channel.site, channel.factory = self.site, self.factory
        channel.timeOut, channel.callLater = period, self.callLater
        channel.makeConnection(self.transport)
        self._networkProducer.registerProducer(channel, True)
        self.dataReceived = channel.dataReceived  # type: ignore[method-assign]
        self.connectionLost = channel.connectionLost  # type: ignore[method-assign]

    @override
    def getPeer(self) -> IAddress:
        return self.addresses[0] if self.addresses else self.transport.getPeer()

    @override
    def getHost(self) -> IAddress:
        return self.addresses[1] if self.addresses else self.transport.getHost()

    @property
    def has_partial_head(self) -> bool:
        """Whether a request has begun to arrive that is not in `requests` yet."""
        return self.persistent and bool(self._data)

    # Time-outs: one delayed call for a connection, made again only when it came too early.

    @override
    def setTimeout(self, period: float | None) -> float | None:
        previous, self.timeOut = self.timeOut, period
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if period is not None:
            self._heard = self._seconds()
            self._timer = self.callLater(period, self._check_time)
        return previous

    @override
    def resetTimeout(self) -> None:
        self._heard = self._seconds()

    def _check_time(self) -> None:
        self._timer = None
        if self.timeOut is None:
            return  # `requestDone` starts it again
        left = self._heard + self.timeOut - self._seconds()
        if left > 0:
            self._timer = self.callLater(left, self._check_time)
        else:
            self.timeoutConnection()

    # Reading

    @override
    def dataReceived(self, data: bytes) -> None:
        if self._handlingRequest or self._is_serving:
            self._dataBuffer.append(data)
            self._waiting += len(data)
            self._limit_waiting()
            return
        if self._data:
            data = self._data[self._start :] + data
        self._serve(data, 0)
        if self._dataBuffer and not self._handlingRequest:  # it came meanwhile
            self._serve_waiting()

    def _limit_waiting(self) -> None:
        waiting = len(self._data) - self._start + self._waiting
        if waiting > self._optimisticEagerReadSize and not self._is_paused:
            self._is_paused = True
            self._networkProducer.pauseProducing()

    def _serve(self, data: bytes, start: int) -> None:
        """Serve the requests in data, each when the one before is answered."""
        self._is_serving = True
        size = len(data)
        try:
            while start < size and not (self._handlingRequest or self._waitingForTransport):
                if self._decoder is not None:
                    start = self._take_body(data, start)
                elif not self.persistent:
                    start = size
                else:
                    end = data.find(_HEAD_END, start)
                    if end < 0:
                        break
                    begin, start = start, end + len(_HEAD_END)
                    self._take_head(data[begin:start])
            if start < size:
                self._keep(data, start)
            else:
                self._data, self._start = b"", 0
        finally:
            self._is_serving = False

    def _keep(self, data: bytes, start: int) -> None:
        """Keep the rest of data: a part of a head, or what must wait."""
        if self._handlingRequest or self._waitingForTransport:
            self._data, self._start = data, start
            self._limit_waiting()
            return
        if start or not self._data:  # more of the same head does not prolong the time for it
            self._heard = self._seconds()
        self._data, self._start = data[start:], 0
        try:
            line, end, _ = self._data.removeprefix(b"\r\n").partition(b"\r\n")
            if end:
                split_request_line(line)
        except BadHead:
            self._respondToBadRequestAndDisconnect()
        if self._is_too_large(self._data.removesuffix(b"\r")):
            self._respondToBadRequestAndDisconnect()

    def _is_too_large(self, head: bytes) -> bool:
        """Return whether a limit is exceeded; `HTTPChannel` counts the bytes without line ends."""
        head = head.removeprefix(b"\r\n")
        ends = head.count(b"\r\n")
        return ends - 2 > self.maxHeaders or len(head) - 2 * ends > self.totalHeadersSize

    def _serve_waiting(self) -> None:
        """Go on after a request is done, or when the transport takes more."""
        while not (self._handlingRequest or self._waitingForTransport):
            data, start = self._data, self._start
            if self._dataBuffer:
                data, start = b"".join([data[start:], *self._dataBuffer]), 0
                self._dataBuffer, self._waiting = [], 0
            self._serve(data, start)
            if not self._dataBuffer:
                break
        if self._is_paused and not (self._handlingRequest or self._waitingForTransport):
            self._is_paused = False
            self._networkProducer.resumeProducing()

    def _take_head(self, head: bytes) -> None:
        size = len(head)
        if (size > self.maxHeaders or size > self.totalHeadersSize) and self._is_too_large(head):
            self._respondToBadRequestAndDisconnect()
            return
        try:
            method, target, version, fields, length = _parse(head)
        except BadHead:
            self._respondToBadRequestAndDisconnect()
            return
        if self.addresses is None:
            # Asked for once, since one is a system call, and not earlier: a proxy may tell them.
            self.addresses = self.transport.getPeer(), self.transport.getHost()
        is_fast = self.requestFactory is FastRequest
        request = FastRequest.from_head(self, fields) if is_fast else self._make_request(fields)
        self.requests.append(request)
        if b"Connection" in fields or version != b"HTTP/1.1":
            self.persistent = self.checkPersistence(request, version)
        if length != 0 or not is_fast or hasattr(self.site, "getContentFile"):
            request.gotLength(length)
        expect = fields.get(b"Expect")
        if expect and expect[0].lower() == b"100-continue" and version == b"HTTP/1.1":
            self._send100Continue()
        if length == 0:
            self._handlingRequest = True
            # It may take as long as it likes.
            self._savedTimeOut, self.timeOut = self.timeOut, None
            request.requestReceived(method, target, version)
        else:
            self._line = method, target, version
            self._expect_body(request, length)

    def _make_request(self, fields: Fields) -> Any:
        factory = self.requestFactory
        is_single = INonQueuedRequestFactory.providedBy(factory)
        request = factory(self) if is_single else factory(self, len(self.requests))
        if type(request.requestHeaders) is Headers:
            request.requestHeaders._rawHeaders = fields  # noqa: SLF001 - see headers_of
        else:
            for name, values in fields.items():
                for value in values:
                    request.requestHeaders.addRawHeader(name, value)
        request.parseCookies()
        return request

    def _expect_body(self, request: Any, length: int | None) -> None:
        self._heard = self._seconds()
        if length is None:
            self._chunk_credit = _CHUNK_ALLOWANCE
            self._decoder = _ChunkedTransferDecoder(self._take_chunk, self._end_body)
        else:
            self._decoder = _IdentityTransferDecoder(
                length, request.handleContentChunk, self._end_body
            )

    def _take_chunk(self, data: bytes) -> None:
        self._chunk_credit += (1 + _CHUNK_OVERHEAD) * len(data)
        self.requests[-1].handleContentChunk(data)

    def _end_body(self, rest: bytes) -> None:
        self._decoder = None
        self._after_body = rest

    def _take_body(self, data: bytes, start: int) -> int:
        """Pass a part of a body on; return where in data it ends."""
        self._heard = self._seconds()
        decoder = self._decoder
        self._after_body = b""
        try:
            decoder.dataReceived(data[start:] if start else data)
        except _MalformedChunkedDataError:
            self._respondToBadRequestAndDisconnect()
            return len(data)
        end = len(data) - len(self._after_body)
        if isinstance(decoder, _ChunkedTransferDecoder):
            self._chunk_credit -= end - start
            is_invalid = self._decoder is None and not _are_trailers(decoder)
            if is_invalid or self._chunk_credit < 0:
                self._respondToBadRequestAndDisconnect()
                return len(data)
        if self._decoder is None:
            self._handlingRequest = True
            self._savedTimeOut, self.timeOut = self.timeOut, None
            self.requests[-1].requestReceived(*self._line)
        return end

    @override
    def checkPersistence(self, request: Any, version: bytes) -> bool:
        if version != b"HTTP/1.1":
            return False
        lines = request.requestHeaders.getRawHeaders(b"Connection", ())
        if b"close" in [token.strip(b" \t").lower() for token in b",".join(lines).split(b",")]:
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
            return False
        return True

    @override
    def requestDone(self, request: Any) -> None:
        first = self.requests[0]
        if request is not first and request != first:  # it may be a proxy
            raise TypeError
        del self.requests[0]
        if not self.persistent:
            self.setTimeout(None)
            if self._is_paused:  # TLS ends with what the client answers
                self._networkProducer.resumeProducing()
            self.loseConnection()
            return
        self._handlingRequest = False
        if getattr(self.transport, "disconnecting", False):
            self.persistent = False  # the program has closed the connection
        if self._savedTimeOut:
            self.timeOut = self._savedTimeOut
            self._heard = self._seconds()
            if self._timer is None:
                self._timer = self.callLater(self.timeOut, self._check_time)
        if not self._is_serving:
            self._serve_waiting()

    @override
    def resumeProducing(self) -> None:
        super().resumeProducing()
        if not self._handlingRequest:
            self._is_paused = False
        if not self._is_serving:
            self._serve_waiting()

    @override
    def _protocolUpgradeForWebsockets(self, protocol: IProtocol) -> None:
        self.setTimeout(None)  # nothing calls `connectionLost` of this channel any more
        super()._protocolUpgradeForWebsockets(protocol)

    @override
    def _respondToBadRequestAndDisconnect(self) -> None:
        super()._respondToBadRequestAndDisconnect()
        self.persistent = False
        self._decoder = None
        self._data, self._start = b"", 0
        self.dataReceived = _ignore  # type: ignore[method-assign]

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.persistent = False  # what is left is not served
        self._data, self._start = b"", 0
        self._dataBuffer = []

    # Writing

    @override
    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        if not isinstance(headers, Headers):
            pairs, headers = headers, Headers()
            for name, value in pairs:
                headers.addRawHeader(name, value)
        parts = [status_line(version, int(code), reason)]
        write_head(parts, headers._rawHeaders)  # noqa: SLF001 - see headers_of
        self.transport.write(b"".join(parts))


def _ignore(data: bytes) -> None:
    """Take what arrives on a connection that is closing."""


def _are_trailers(decoder: Any) -> bool:
    lines = decoder._trailerHeaders  # noqa: SLF001 - which it only collects
    return all(_TRAILER.fullmatch(line) for line in lines)
