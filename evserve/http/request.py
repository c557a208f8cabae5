"""What a caller asks for.

A request's head as bytes, with what every request needs and nothing twice.
"""

from typing import Any, Protocol

from attrs import frozen

from evserve.http.auth import Auth
from evserve.http.decoding import accepted
from evserve.http.errors import BadRequest
from evserve.http.headers import (
    IDEMPOTENT,
    Head,
    Headers,
    check_headers,
    check_method,
    request_bytes,
)
from evserve.http.proxy import Proxy
from evserve.http.settings import Timeouts
from evserve.http.url import URL, Origin


_NO_HEADERS = Headers()


@frozen
class Request:
    """One resource, wanted; what is not said here is as the client's settings say."""

    url: URL
    method: bytes = b"GET"
    headers: Headers = _NO_HEADERS  # Host, User-Agent, Accept... are added unless they are here
    body: Any = None  # bytes or an IBodyProducer
    auth: Auth | None = None
    follow: bool = True  # redirects
    decode: bool = True  # undo Content-Encoding, and ask for what can be undone
    timeouts: Timeouts | None = None

    @property
    def is_resendable(self) -> bool:
        """Whether it can be sent twice: a producer's body is there only once."""
        return self.body is None or isinstance(self.body, bytes)

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice does no more than sending it once (RFC 9110, 9.2.2)."""
        return self.method in IDEMPOTENT and self.is_resendable


class Receiver(Protocol):
    """Who wants the response. `finished` is always called, once, and last."""

    def started(self, head: Head, url: URL) -> None:
        """Take the final response's head, and the URL that it came from."""

    def received(self, data: bytes) -> None:
        """Take a part of the body, decompressed; an exception here ends the call."""

    def finished(self, error: Exception | None) -> None:
        """The body is complete, or there was `error`: nearly always a FetchError."""


_OURS = (b"content-length", b"transfer-encoding", b"connection")  # framing is the engine's
_WITH_BODY = frozenset([b"POST", b"PUT", b"PATCH"])


@frozen
class Extra:
    """What the client adds to this request alone."""

    cookie: bytes | None = None
    authorization: bytes | None = None


def check(request: Request) -> None:
    """Raise BadRequest for what would break apart on the wire."""
    check_method(request.method)
    check_headers(request.headers)
    if request.method == b"CONNECT":
        raise BadRequest("CONNECT is for the engine to use: give it a proxy")


def is_plain(request: Request) -> bool:
    """Whether a Tail may serve this request."""
    return request.body is None and request.method not in _WITH_BODY


@frozen
class Tail:
    """What follows the target in requests to one origin that have the same headers."""

    lines: object
    decode: bool
    data: bytes

    def fits(self, request: Request) -> bool:
        """Whether a plain request ends like this."""
        return self.lines is request.headers.lines and self.decode == request.decode


def tail_of(request: Request, user_agent: bytes) -> Tail:
    """Return the end of a plain request."""
    head = compose(request, user_agent, Extra(), None)
    start = len(request.method) + 1 + len(request.url.target)
    return Tail(request.headers.lines, request.decode, head[start:])


def compose(request: Request, user_agent: bytes, extra: Extra, proxy: Proxy | None) -> bytes:
    """Return the head of any request, and its body if that is bytes."""
    url = request.url
    own = Headers(request.headers.without(*_OURS).lines)
    lines = [
        line
        for line in _defaults(url.origin, user_agent, decode=request.decode)
        if line[0].lower() not in own
    ]
    lines += own
    if extra.authorization is not None and b"authorization" not in own:
        lines.append((b"Authorization", extra.authorization))
    if extra.cookie is not None:
        lines = _with_cookie(lines, extra.cookie)
    lines += _framing(request.method, request.body)
    target = url.target
    if proxy is not None and not url.origin.is_tls:
        target = str(url)
        if proxy.authorization is not None:
            lines.append((b"Proxy-Authorization", proxy.authorization))
    head = request_bytes(request.method, target, lines)
    return head + request.body if isinstance(request.body, bytes) else head


def _defaults(origin: Origin, user_agent: bytes, *, decode: bool) -> list[tuple[bytes, bytes]]:
    lines = [(b"Host", origin.authority.encode("ascii")), (b"User-Agent", user_agent)]
    if decode:
        lines.append((b"Accept-Encoding", accepted()))
    return [*lines, (b"Accept", b"*/*")]


def _with_cookie(lines: list[tuple[bytes, bytes]], cookie: bytes) -> list[tuple[bytes, bytes]]:
    """RFC 6265, section 5.4: one Cookie header; the caller's own cookies come first."""
    own = [value for name, value in lines if name.lower() == b"cookie"]
    rest = [line for line in lines if line[0].lower() != b"cookie"]
    return [*rest, (b"Cookie", b"; ".join([*own, cookie]))]


def _framing(method: bytes, body: Any) -> list[tuple[bytes, bytes]]:
    if body is None:
        return [(b"Content-Length", b"0")] if method in _WITH_BODY else []
    length = len(body) if isinstance(body, bytes) else body.length
    if isinstance(length, int):
        return [(b"Content-Length", b"%d" % length)]
    return [(b"Transfer-Encoding", b"chunked")]  # UNKNOWN_LENGTH
