"""The client as an `IAgent`, and as an `HTTPClient` of treq."""

from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import finalize, ref

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers as WebHeaders
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IClientRequest, IResponse
from zope.interface import implementer

from evserve.http.client import Call, Client
from evserve.http.errors import Cancelled, FetchError
from evserve.http.headers import Head, Headers
from evserve.http.redirects import is_redirect
from evserve.http.request import Request
from evserve.http.url import URL, parse_url


if TYPE_CHECKING:
    from treq.client import HTTPClient


_READ_AHEAD = 64 * 1024  # bytes


def treq_client(reactor: Any, client: Client | None = None) -> "HTTPClient":
    """Return a treq client that sends its requests with `client`, by default a new one.

    The caller closes a client that it passes. The connections of a new one close after
    `Settings.keep_idle` idle seconds.
    """
    from treq.client import HTTPClient  # takes a while, and only this function needs it

    return HTTPClient(Agent(Client(reactor) if client is None else client))


@implementer(IAgent)
@define(eq=False)
class Agent:
    """An IAgent that decodes bodies, and follows redirects if `follow` is True.

    treq follows redirects itself, unless it is told `allow_redirects=False`. Errors are
    FetchErrors, also those that a body ends with.
    """

    _client: Client
    _follow: bool = False

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: WebHeaders | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        result: Deferred[Any] = Deferred(lambda _: body.call.cancel(CancelledError()))
        try:
            url = parse_url(uri.decode("utf-8", "surrogateescape"))
            raw = () if headers is None else headers.getAllRawHeaders()
            lines = [(name, value) for name, values in raw for value in values]
            request = Request(url, method, Headers(lines), bodyProducer, follow=self._follow)
            body = _Body(result, request)
            body.call = self._client.fetch(request, body)
        except FetchError as error:
            return fail(error)
        return result


@implementer(IClientRequest)
@frozen
class ClientRequest:
    """The request of a `Response`."""

    method: bytes
    absoluteURI: bytes
    headers: WebHeaders


@implementer(IResponse)
@define(eq=False, slots=True, weakref_slot=True)
class Response:
    """An IResponse. If the body is decoded, the headers no longer say that it was encoded."""

    version: tuple[bytes, int, int]
    code: int
    phrase: bytes
    headers: WebHeaders
    length: Any  # int or UNKNOWN_LENGTH
    request: ClientRequest
    _body: "_Body | None"  # None for a redirect that was followed
    previousResponse: "Response | None" = None

    def deliverBody(self, protocol: IProtocol) -> None:
        if self._body is None:
            protocol.makeConnection(None)  # type: ignore[arg-type]
            protocol.connectionLost(Failure(ResponseDone()))
        else:
            self._body.deliver(protocol)

    def setPreviousResponse(self, response: Any) -> None:
        self.previousResponse = response


@implementer(IPushProducer)
@define(eq=False)
class _Body:
    """Receives a response; for the body, it is the transport of the program's reader.

    A body that has no reader yet is read ahead, up to `_READ_AHEAD`: most bodies end before
    that, and their connection is free for others while the program looks at the status.
    """

    result: Deferred[Response]
    request: Request
    call: Call = field(init=False)
    disconnecting: bool = field(default=False, init=False)
    _head: Head = field(init=False)
    _reader: IProtocol | None = field(default=None, init=False)
    _ahead: deque[bytes] = field(factory=deque, init=False)
    _size: int = field(default=0, init=False)  # bytes that were ever read ahead
    _is_paused: bool = field(default=True, init=False)
    _end: Failure | None = field(default=None, init=False)  # for the reader's connectionLost
    _response: Any = field(default=None, init=False)  # a weak reference

    def started(self, head: Head, url: URL) -> None:
        self._head = head
        response = oldest = _make_response(head, url, self.request, self)
        for earlier_url, earlier in reversed(self.call.history):
            previous = _make_response(earlier, earlier_url, self.request, None)
            oldest.setPreviousResponse(previous)
            oldest = previous
        self._response = ref(response)
        self.result.callback(response)

    def received(self, data: bytes) -> None:
        if self._reader is not None and not self._is_paused:
            self._reader.dataReceived(data)
            return
        self._ahead.append(data)
        self._size += len(data)
        if self._reader is not None or self._size <= _READ_AHEAD:
            return
        response = self._response()
        if response is None or is_redirect(self._head):
            self.call.cancel(Cancelled("the body has no reader"))
        else:
            self.call.pause()
            finalize(response, self._abandon).atexit = False

    def finished(self, error: Exception | None) -> None:
        if not self.result.called:
            self.result.errback(error or Cancelled("no response"))
            return
        if error is None:
            # Without a length, only the end of the connection says that the body is complete.
            head = self._head
            coding = head.headers.get(b"transfer-encoding") or b""
            is_framed = head.length is not None or b"chunked" in coding.lower()
            error = ResponseDone() if is_framed else PotentialDataLoss()
        self._end = Failure(error)
        if not self._is_paused:
            self._deliver_ahead()

    def deliver(self, reader: IProtocol) -> None:
        """Give the body to `reader`: what was read ahead, and what follows."""
        self._reader = reader
        self._is_paused = False
        reader.makeConnection(self)  # type: ignore[arg-type]  # as much transport as it needs
        self._deliver_ahead()

    def pauseProducing(self) -> None:
        self._is_paused = True
        self.call.pause()

    def resumeProducing(self) -> None:
        self._is_paused = False
        self._deliver_ahead()

    def stopProducing(self) -> None:
        self.disconnecting = True
        self.call.cancel(Cancelled("the reader closed the body"))

    loseConnection = abortConnection = stopProducing

    def _deliver_ahead(self) -> None:
        reader = self._reader
        while self._ahead and reader is not None and not self._is_paused:
            reader.dataReceived(self._ahead.popleft())
        if self._is_paused or reader is None:
            return
        if self._end is None:
            self.call.resume()
        else:
            end, self._reader = self._end, None
            reader.connectionLost(end)

    def _abandon(self) -> None:
        """Cancel the body of a response that the program has thrown away."""
        if self._reader is None:
            self.call.cancel()


def _make_response(head: Head, url: URL, request: Request, body: _Body | None) -> Response:
    is_decoded = request.decode and head.encoding is not None
    headers = WebHeaders()
    for name, value in head.headers:
        if not (is_decoded and name.lower() in (b"content-encoding", b"content-length")):
            headers.addRawHeader(name, value)
    major, _, minor = head.version.partition(".")
    is_unknown = head.length is None or (is_decoded and head.length)
    sent = WebHeaders()
    for name, value in request.headers:
        sent.addRawHeader(name, value)
    return Response(
        (b"HTTP", int(major), int(minor)),
        head.status,
        head.reason,
        headers,
        UNKNOWN_LENGTH if is_unknown else head.length,
        ClientRequest(request.method, str(url).encode("ascii"), sent),
        body,
    )
