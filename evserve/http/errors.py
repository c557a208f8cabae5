"""The errors of the HTTP client. Results and logs show their class names; `str()` says why."""

_MAX_QUOTED = 200  # characters


class FetchError(Exception):
    """A request that failed; `str()` is one line for people."""

    is_at_proxy = False  # True if a proxy failed, so that the error says nothing about the origin


class BadURL(FetchError):
    """The text is not an http or https URL."""


class BadRequest(FetchError):
    """The request has a method or header that HTTP/1 cannot carry."""


class PrivateAddress(FetchError):
    """The host is not on the public Internet, and the settings refuse private addresses."""


class ConnectFailed(FetchError):
    """The host name does not resolve, or the connection was not made."""


class TLSFailed(FetchError):
    """The TLS handshake failed: the certificate is not trusted, or the TLS version is too old."""


class ProxyFailed(FetchError):
    """The proxy cannot be used, or refuses the request."""

    is_at_proxy = True


class ProxyUnreachable(ProxyFailed):
    """The connection to the proxy was not made, or ended without a response."""


class TunnelFailed(ProxyFailed):
    """The proxy could not connect to the origin this time (502, 503, 504)."""


class TimedOut(FetchError):
    """Base class of the timeouts."""


class ConnectTimeout(TimedOut):
    """Connecting, with the TLS handshake, took too long."""


class IdleTimeout(TimedOut):
    """The peer neither sent nor took a byte for too long."""


class TotalTimeout(TimedOut):
    """The whole request, with waiting, retries and redirects, took too long."""


class ConnectionLost(FetchError):
    """The connection ended before the end of the response header."""


class BadResponse(FetchError):
    """The response is not valid HTTP/1, or contradicts itself."""


class HeadersTooLarge(BadResponse):
    """The response has more header bytes or header lines than the settings allow."""


class TruncatedBody(BadResponse):
    """The connection ended before the end of the body."""


class BodyTooLarge(FetchError):
    """The body is longer than the settings allow."""


class CorruptBody(FetchError):
    """The compressed body is invalid or incomplete."""


class DecompressionBomb(FetchError):
    """The body grows further on decompression than the settings allow."""


class UnsupportedEncoding(FetchError):
    """The body has a Content-Encoding that this installation cannot decode."""


class TooManyRedirects(FetchError):
    """The server redirects more often than the settings allow, or in a loop."""


class BadRedirect(FetchError):
    """The Location of a redirect is not an http or https URL."""


class RequestBodyFailed(FetchError):
    """The request body could not be read, or cannot be sent a second time."""


class Cancelled(FetchError):
    """The caller cancelled the request."""


class UnwantedBody(Cancelled):
    """The caller needs no more than the head of the response, so this is no failure."""


def shorten(text: str) -> str:
    """Return `text`, cut to a length that fits into a message."""
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}..."
