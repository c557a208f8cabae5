"""A request's head as bytes, with what every request needs and nothing twice."""

from typing import Any

from attrs import frozen

from evserve.http.decoding import accepted
from evserve.http.errors import BadRequest
from evserve.http.messages import Headers, check_headers, check_method, request_bytes
from evserve.http.proxies import Proxy
from evserve.http.request import Request
from evserve.http.url import Origin


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
