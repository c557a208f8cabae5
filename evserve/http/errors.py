"""Every way a fetch can fail, by name: the name goes into the row, the text says why."""

_MOST = 200  # characters


class FetchError(Exception):
    """A fetch that failed; `str()` is one line for people."""

    is_at_proxy = False  # whether it says nothing about the origin, behind a proxy


class BadURL(FetchError):
    """The text is not an http or https URL."""


class BadRequest(FetchError):
    """The request has a method or header that would break it apart on the wire."""


class PrivateAddress(FetchError):
    """The URL leads to an address that only this network can reach, and that is not allowed."""


class ConnectFailed(FetchError):
    """The name does not resolve, or nobody answers there."""


class TLSFailed(FetchError):
    """The server's certificate or protocol version is not one to trust."""


class ProxyFailed(FetchError):
    """The proxy cannot be used or refuses to connect us."""

    is_at_proxy = True


class ProxyUnreachable(ProxyFailed):
    """There is no connection to the proxy, or it ended without an answer."""


class TunnelFailed(ProxyFailed):
    """The proxy is there, but could not connect us to the origin this time."""


class TimedOut(FetchError):
    """Base of the three below."""


class ConnectTimeout(TimedOut):
    """Connecting, TLS included, took too long."""


class IdleTimeout(TimedOut):
    """The peer neither sent nor took anything for too long."""


class TotalTimeout(TimedOut):
    """The whole fetch, redirects and retries included, took too long."""


class ConnectionLost(FetchError):
    """The connection ended before a complete response header."""


class BadResponse(FetchError):
    """What the server sent is not HTTP/1, or contradicts itself."""


class HeadersTooLarge(BadResponse):
    """More header bytes or header lines than allowed."""


class TruncatedBody(BadResponse):
    """The connection ended before the body did."""


class BodyTooLarge(FetchError):
    """The body is longer than allowed."""


class CorruptBody(FetchError):
    """The body does not decompress, or its compressed form is not complete."""


class DecompressionBomb(FetchError):
    """The body decompresses to more than a sane server would send."""


class UnsupportedEncoding(FetchError):
    """The body has a Content-Encoding that nothing installed here can undo."""


class TooManyRedirects(FetchError):
    """More redirects than allowed, or a loop of them."""


class BadRedirect(FetchError):
    """A redirect that leads nowhere we can go."""


class RequestBodyFailed(FetchError):
    """The request's own body could not be produced, or not be sent a second time."""


class Cancelled(FetchError):
    """The caller gave the fetch up."""


def brief(text: str) -> str:
    """Return as much of `text` as a message can bear."""
    return text if len(text) <= _MOST else f"{text[:_MOST]}..."
