"""Redirects: the next request (Fetch standard, section 4.4).

`Client` follows redirects by these rules. So do callers that send each hop as a request of its own
(`Request.follow` is False), such as the fetcher.
"""

from attrs import evolve

from evserve.http.errors import (
    BadRedirect,
    BadURL,
    RequestBodyFailed,
    TooManyRedirects,
)
from evserve.http.headers import Head, Headers
from evserve.http.request import Request
from evserve.http.url import parse_location


REDIRECT_STATUSES = frozenset([301, 302, 303, 307, 308])
_SEE_OTHER = 303
_BODY_HEADERS = (
    b"content-encoding",
    b"content-language",
    b"content-location",
    b"content-type",
    b"content-length",
    b"transfer-encoding",
)
_PRIVATE_HEADERS = (b"authorization", b"cookie", b"proxy-authorization", b"host")


def is_redirect(head: Head) -> bool:
    """Whether a response asks for another request, so that its body is not needed.

    Without a Location, or with an empty one, it is an answer like any other.
    """
    return head.status in REDIRECT_STATUSES and _location(head) is not None


def next_request(request: Request, head: Head, hops_left: int) -> Request | None:
    """Return the request that a response redirects to, or None if it does not redirect.

    hops_left: redirects that may still be followed, this one included. Raises BadRedirect,
    TooManyRedirects, or RequestBodyFailed for a body that can be sent only once.
    """
    location = _location(head) if head.status in REDIRECT_STATUSES else None
    if location is None:
        return None
    try:
        url = parse_location(request.url, location)
    except BadURL as error:
        raise BadRedirect(f"invalid redirect target: {error}") from None
    if _becomes_get(request.method, head.status):
        headers = request.headers.without(*_BODY_HEADERS)
        request = evolve(request, method=b"GET", body=None, headers=headers)
    if not request.is_resendable:
        raise RequestBodyFailed(f"redirect to {url}: the request body cannot be sent twice")
    if hops_left <= 0:
        raise TooManyRedirects(f"redirect limit reached; the next would lead to {url}")
    if url.origin == request.url.origin:
        credentials = url.credentials or request.url.credentials
        return evolve(request, url=evolve(url, credentials=credentials))
    headers = Headers(request.headers.without(*_PRIVATE_HEADERS).lines)
    return evolve(request, url=url, headers=headers, auth=None)


def _location(head: Head) -> bytes | None:
    """Return the first Location that is not blank."""
    values = head.headers.all(b"location")
    return next((value for value in values if value.strip()), None)


def _becomes_get(method: bytes, status: int) -> bool:
    if status == _SEE_OTHER:
        return method not in (b"GET", b"HEAD")
    return status in (301, 302) and method == b"POST"
