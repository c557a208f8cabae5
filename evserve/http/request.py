"""A request, the receiver of its response, and the request's bytes."""

from typing import Any, Protocol

from attrs import define

from evserve.http.auth import Auth
from evserve.http.decoding import accepted_codings
from evserve.http.errors import BadRequest
from evserve.http.headers import (
    NO_HEADERS,
    Head,
    Headers,
    check_headers,
    check_method,
    request_bytes,
)
from evserve.http.proxy import Proxy
from evserve.http.settings import Timeouts
from evserve.http.url import URL


IDEMPOTENT = frozenset([b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"])
_FRAMING_HEADERS = (b"content-length", b"transfer-encoding", b"connection")  # ours to decide
_WITH_BODY = frozenset([b"POST", b"PUT", b"PATCH"])


class Tap(Protocol):
    """Takes a copy of what passes the connection. What it raises fails the request."""

    def began(self, peer: str | None) -> None:
        """A request is about to be sent to this address: the first, or one that repeats it.

        It is repeated if its connection had expired, with a password if the server asks for one,
        and for the target of a redirect that the client follows.
        """

    def sent(self, data: bytes) -> None:
        """Take a part of the request."""

    def received(self, data: bytes) -> None:
        """Take bytes that arrive: interim responses, the response, and what may follow it."""

    def ended(self) -> None:
        """The response is complete."""


@define(unsafe_hash=True)  # not frozen, as URL
class Request:
    """A request for one resource. None means the client's setting."""

    url: URL
    method: bytes = b"GET"
    headers: Headers = NO_HEADERS  # Host, User-Agent, Accept... are added unless they are here
    body: Any = None  # bytes or an IBodyProducer
    auth: Auth | None = None
    follow: bool = True  # redirects
    decode: bool = True  # undo Content-Encoding, and accept the codings that can be undone
    timeouts: Timeouts | None = None
    tap: Tap | None = None

    @property
    def is_resendable(self) -> bool:
        """Whether it can be sent twice: a producer gives its body once."""
        return self.body is None or isinstance(self.body, bytes)

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice has the effect of sending it once (RFC 9110, 9.2.2)."""
        return self.method in IDEMPOTENT and self.is_resendable


class Receiver(Protocol):
    """Takes a response. The client calls `finished` once, always, and last."""

    def started(self, head: Head, url: URL) -> None:
        """Take the head of the final response, and its URL after redirects.

        An exception ends the call with that error. After UnwantedBody, the client may read a
        short body in order to keep the connection, but delivers nothing.
        """

    def received(self, data: bytes) -> None:
        """Take a part of the body, decompressed. An exception ends the call with that error."""

    def finished(self, error: Exception | None) -> None:
        """The body is complete, or the call failed: `error` is nearly always a FetchError."""


def check_request(request: Request) -> None:
    """Raise BadRequest for a method or header that cannot be sent."""
    check_method(request.method)
    check_headers(request.headers)
    if request.method == b"CONNECT":
        raise BadRequest("CONNECT cannot be requested (set a proxy instead)")


def serialize(
    request: Request,
    user_agent: bytes,
    cookie: bytes | None = None,
    authorization: bytes | None = None,
    proxy: Proxy | None = None,
) -> bytes:
    """Return the head of a request, and its body if that is bytes.

    cookie, authorization: values of headers to add.  proxy: the one that the request passes.
    """
    url = request.url
    own = Headers(request.headers.without(*_FRAMING_HEADERS).lines)
    lines = [(b"Host", url.origin.authority.encode("ascii")), (b"User-Agent", user_agent)]
    if request.decode:
        lines.append((b"Accept-Encoding", accepted_codings()))
    lines.append((b"Accept", b"*/*"))
    lines = [line for line in lines if line[0].lower() not in own]
    lines += own
    if authorization is not None and b"authorization" not in own:
        lines.append((b"Authorization", authorization))
    if cookie is not None:  # RFC 6265, section 5.4: one header, with the caller's cookies first
        cookies = b"; ".join([*own.all(b"cookie"), cookie])
        lines = [line for line in lines if line[0].lower() != b"cookie"]
        lines.append((b"Cookie", cookies))
    body = request.body
    if body is not None:
        length = len(body) if isinstance(body, bytes) else body.length
        if isinstance(length, int):
            lines.append((b"Content-Length", b"%d" % length))
        else:  # UNKNOWN_LENGTH
            lines.append((b"Transfer-Encoding", b"chunked"))
    elif request.method in _WITH_BODY:
        lines.append((b"Content-Length", b"0"))
    target = url.target
    if proxy is not None and not url.origin.is_tls:
        target = str(url)
        if proxy.authorization is not None:
            lines.append((b"Proxy-Authorization", proxy.authorization))
    head = request_bytes(request.method, target, lines)
    return head + body if isinstance(body, bytes) else head


@define(eq=False)
class PlainSerializer:
    """Serializes requests to one origin without a body, cookie, password or proxy.

    What follows the target is the same for all with the same method and headers, and is kept.
    This saves most of the work of `serialize`.
    """

    _user_agent: bytes
    _method: bytes = b""
    _header_lines: object = None
    _decode: bool = True
    _tail: bytes = b""

    def serialize(self, request: Request) -> bytes:
        """Return what `serialize` returns."""
        method, target = request.method, request.url.target
        lines, decode = request.headers.lines, request.decode
        if self._header_lines is not lines or self._decode != decode or self._method != method:
            self._method, self._header_lines, self._decode = method, lines, decode
            self._tail = serialize(request, self._user_agent)[len(method) + 1 + len(target) :]
        return b"%b %b%b" % (method, target.encode("ascii"), self._tail)
