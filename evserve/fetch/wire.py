"""A request's head as bytes, with what every request needs and nothing twice."""

from typing import Any

from attrs import frozen

from evserve.fetch.decoding import accepted
from evserve.fetch.errors import BadRequest
from evserve.fetch.messages import Headers, check_headers, check_method, request_bytes
from evserve.fetch.proxies import Proxy
from evserve.fetch.request import Request
from evserve.fetch.url import Origin


_OURS = (b"content-length", b"transfer-encoding", b"connection")  # framing is the engine's
_WITH_BODY = frozenset([b"POST", b"PUT", b"PATCH"])
_END = b"\r\n"


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
    """Whether `plain_tail` serves this request."""
    needs_framing = request.body is not None or request.method in _WITH_BODY
    return request.decode and not request.headers.lines and not needs_framing


def plain_tail(origin: Origin, user_agent: bytes) -> bytes:
    """Return what follows the target in a request without anything particular."""
    lines = _defaults(origin, user_agent, decode=True)
    return b" HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % line for line in lines) + _END


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
