"""Where a response sends us next, by the Fetch standard (4.4, HTTP-redirect fetch)."""

from attrs import evolve

from evserve.http.errors import BadRedirect, BadURL, RequestBodyFailed
from evserve.http.headers import Head, Headers
from evserve.http.request import Request
from evserve.http.url import parse_location


REDIRECTS = frozenset([301, 302, 303, 307, 308])
WORTH_READING = 64 * 1024  # bytes of a redirect's body, to keep its connection
_OF_BODY = (
    b"content-encoding",
    b"content-language",
    b"content-location",
    b"content-type",
    b"content-length",
    b"transfer-encoding",
)
_SECRETS = (b"authorization", b"cookie", b"proxy-authorization", b"host")


def redirected(request: Request, head: Head) -> Request | None:
    """Return the request that `head` asks for instead, None if it asks for nothing.

    Raises BadRedirect for a place we cannot go to, RequestBodyFailed for a body we had only once.
    """
    location = head.headers.all(b"location") if head.status in REDIRECTS else []
    if not location:
        return None
    try:
        url = parse_location(request.url, location[0])
    except BadURL as error:
        raise BadRedirect(f"redirected to a place that is none: {error}") from None
    follower = _without_body(request) if _becomes_get(request.method, head.status) else request
    if not follower.is_resendable:
        raise RequestBodyFailed(f"redirected to {url}, and the body cannot be sent twice")
    if url.origin == request.url.origin:
        credentials = url.credentials or request.url.credentials
        return evolve(follower, url=evolve(url, credentials=credentials))
    headers = Headers(follower.headers.without(*_SECRETS).lines)
    return evolve(follower, url=url, headers=headers, auth=None)


def _becomes_get(method: bytes, status: int) -> bool:
    if status == 303:  # noqa: PLR2004 # See Other
        return method not in (b"GET", b"HEAD")
    return status in (301, 302) and method == b"POST"


def _without_body(request: Request) -> Request:
    headers = request.headers.without(*_OF_BODY)
    return evolve(request, method=b"GET", body=None, headers=headers)
