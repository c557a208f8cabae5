"""The engine as an `IAgent`: what `treq.client.HTTPClient` and others are built on.

A response as Twisted's web clients, treq among them, know it.

A body that nobody has asked for yet is read ahead, as far as `_AHEAD`: most bodies end before
that, and their connection is free for others while the program still looks at the status.
"""

from collections import deque
from typing import Any
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
from evserve.http.redirects import REDIRECTS
from evserve.http.request import Request
from evserve.http.url import URL, parse_url


@implementer(IAgent)
@define(eq=False)
class Agent:
    """One request, one response, as `IAgent` has it; with `follow`, redirects are followed here.

    treq follows redirects itself unless it is told `allow_redirects=False`. Content-Encoding is
    always undone here, and a response says nothing of it any more.
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
        """See IAgent; fails with a FetchError."""
        try:
            request = Request(
                parse_url(uri.decode("utf-8", "surrogateescape")),
                method,
                _lines(headers),
                bodyProducer,
                follow=self._follow,
            )
            return self._begin(request)
        except FetchError as error:
            return fail(error)

    def _begin(self, request: Request) -> Deferred[IResponse]:
        result: Deferred[Any] = Deferred(lambda _: body.call.cancel(CancelledError()))
        body = Body(result, request)
        body.call = self._client.fetch(request, body)
        return result


def _lines(headers: WebHeaders | None) -> Headers:
    if headers is None:
        return Headers()
    return Headers([(name, value) for name, all_ in headers.getAllRawHeaders() for value in all_])


_AHEAD = 64 * 1024


@implementer(IClientRequest)
@frozen
class ClientRequest:
    """What was asked for."""

    method: bytes
    absoluteURI: bytes
    headers: WebHeaders


@implementer(IPushProducer)
@define(eq=False)
class Body:
    """The part of a response that may come later: the call's receiver, the reader's transport."""

    result: Deferred["Response"]
    request: Request
    call: Call = field(init=False)
    disconnecting: bool = field(default=False, init=False)
    _head: Head = field(init=False)
    _reader: IProtocol | None = field(default=None, init=False)
    _ahead: deque[bytes] = field(factory=deque, init=False)
    _size: int = field(default=0, init=False)  # of all that was ever read ahead
    _resting: bool = field(default=True, init=False)
    _over: Failure | None = field(default=None, init=False)
    _response: Any = field(default=None, init=False)

    def started(self, head: Head, url: URL) -> None:
        """See request.Receiver."""
        self._head = head
        response = make_response(head, url, self.request, self)
        for earlier_url, earlier in reversed(self.call.history):
            oldest = response.oldest()
            oldest.setPreviousResponse(make_response(earlier, earlier_url, self.request, None))
        self._response = ref(response)
        self.result.callback(response)

    def received(self, data: bytes) -> None:
        """See request.Receiver."""
        if self._reader is not None and not self._resting:
            self._reader.dataReceived(data)
            return
        self._ahead.append(data)
        self._size += len(data)
        if self._reader is None and self._size > _AHEAD:
            self._hold_back()

    def finished(self, error: Exception | None) -> None:
        """See request.Receiver."""
        if not self.result.called:
            self.result.errback(error or Cancelled("no response"))
            return
        self._over = Failure(self._reason() if error is None else error)
        if not self._resting:
            self._pump()

    def deliver(self, reader: IProtocol) -> None:
        """Give what has come to `reader`, and what will come."""
        self._reader = reader
        self._resting = False
        reader.makeConnection(self)  # type: ignore[arg-type]  # a producer is all it is
        self._pump()

    # What the reader does with its transport.

    def pauseProducing(self) -> None:
        """Let the server wait."""
        self._resting = True
        self.call.pause()

    def resumeProducing(self) -> None:
        """Go on."""
        self._resting = False
        self._pump()

    def stopProducing(self) -> None:
        """Want no more."""
        self.disconnecting = True
        self.call.cancel(Cancelled("the reader of the body wants no more"))

    loseConnection = abortConnection = stopProducing

    def _pump(self) -> None:
        reader = self._reader
        while self._ahead and reader is not None and not self._resting:
            reader.dataReceived(self._ahead.popleft())
        if self._resting or reader is None:
            return
        if self._over is None:
            self.call.resume()
        else:
            over, self._reader = self._over, None
            reader.connectionLost(over)

    def _hold_back(self) -> None:
        response = self._response()
        if response is None or self._head.status in REDIRECTS:
            self.call.cancel(Cancelled("nobody reads this body"))
        else:
            self.call.pause()
            finalize(response, self._abandon).atexit = False

    def _abandon(self) -> None:
        """The program threw the response away; its body is of no use to anybody."""
        if self._reader is None:
            self.call.cancel()

    def _reason(self) -> Exception:
        """Without a length, only the end of the connection says that this was all."""
        head = self._head
        framed = head.length is not None or b"transfer-encoding" in head.headers
        return ResponseDone() if framed else PotentialDataLoss()


@implementer(IResponse)
@define(eq=False, slots=True, weakref_slot=True)
class Response:
    """See IResponse. A body that breaks ends with a FetchError, in its `connectionLost`."""

    version: tuple[bytes, int, int]
    code: int
    phrase: bytes
    headers: WebHeaders
    length: Any  # int or UNKNOWN_LENGTH
    request: ClientRequest
    previousResponse: "Response | None" = None
    _body: Body | None = None

    def deliverBody(self, protocol: IProtocol) -> None:
        """See IResponse; a redirect that was followed has no body left."""
        if self._body is None:
            protocol.makeConnection(None)  # type: ignore[arg-type]
            protocol.connectionLost(Failure(ResponseDone()))
        else:
            self._body.deliver(protocol)

    def setPreviousResponse(self, response: Any) -> None:
        """See IResponse."""
        self.previousResponse = response

    def oldest(self) -> "Response":
        """Return the first response of the chain that led here."""
        return self if self.previousResponse is None else self.previousResponse.oldest()


def make_response(head: Head, url: URL, request: Request, body: Body | None) -> Response:
    """Return the response that `head` begins; what is decoded already no longer says so."""
    headers = WebHeaders()
    decoded = request.decode and head.encoding is not None
    for name, value in head.headers:
        if not (decoded and name.lower() in (b"content-encoding", b"content-length")):
            headers.addRawHeader(name, value)
    major, _, minor = head.version.partition(".")
    length = UNKNOWN_LENGTH if head.length is None or (decoded and head.length) else head.length
    asked = WebHeaders()
    for name, value in request.headers:
        asked.addRawHeader(name, value)
    return Response(
        (b"HTTP", int(major), int(minor)),
        head.status,
        head.reason,
        headers,
        length,
        ClientRequest(request.method, str(url).encode("ascii"), asked),
        None,
        body,
    )
