"""Policy: how polite the fetcher is, and what follows a response: done, redirect or retry.

Pure: nothing here knows Twisted or reads a clock.
"""

import re
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from attrs import define, field, frozen

from evserve.fetch.errors import status_error
from evserve.http.errors import (
    BadRequest,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    FetchError,
    IdleTimeout,
    ProxyUnreachable,
    TruncatedBody,
    TunnelFailed,
)
from evserve.http.headers import Head, Headers, check_headers
from evserve.http.redirects import next_request
from evserve.http.request import IDEMPOTENT, Request


# Retried. A bad certificate, a corrupt body or a bad URL would be the same next time.
TRANSIENT_ERRORS = (
    ConnectFailed,
    ProxyUnreachable,
    TunnelFailed,
    ConnectTimeout,
    IdleTimeout,
    ConnectionLost,
    TruncatedBody,
)
# RFC 9110, 6585 and 8470 allow a retry after the first four.
TRANSIENT_STATUSES = frozenset([408, 425, 429, 503, 500, 502, 504])
# Headers of a page's request that are not sent with those for its origin's robots.txt and for
# sitemaps: they choose a part, a version or a form of the page.
PAGE_HEADERS = (
    b"accept",
    b"accept-encoding",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"range",
)
# Headers that say how a request is sent, which only its sender knows.
_SENDER_HEADERS = (
    b"connection",
    b"content-length",
    b"expect",
    b"keep-alive",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
)
_SINGLE_HEADERS = (b"host", b"range", b"user-agent", b"authorization")
_OVERLOADED = frozenset([429, 503])  # these concern the whole origin, not only one URL
_FIRST_ERROR_STATUS = 400

_DELAY_SECONDS = re.compile(rb"\s*(\d{1,9})\s*")


@frozen
class RetryPolicy:
    """Exponential back-off with jitter, so that many clients do not come back at once.

    retries: per URL.  first, longest: seconds; the wait is a random part of `first`, then of
    twice that, and so on, up to `longest`.
    """

    retries: int = 2
    first: float = 1.0
    longest: float = 30.0

    def allows(self, method: bytes, tries: int) -> bool:
        """Whether a request that was sent `tries` times may be sent again."""
        return tries <= self.retries and method in IDEMPOTENT

    def wait(self, tries: int, random: Callable[[], float]) -> float:
        """Return the seconds to wait after the try numbered `tries`; random: 0 to 1."""
        ceiling = min(self.longest, self.first * 2.0 ** min(tries - 1, 30))
        # At least a tenth: a retry within the same millisecond would fail the same way.
        return ceiling * (0.1 + 0.9 * random())


@frozen
class Policy:
    """How the fetcher treats servers. Times are in seconds.

    concurrency, per_origin: requests at once.  delay: between the starts of two requests to one
    origin.  max_retry_after: a URL whose server asks for a longer pause fails.  max_size: bytes of
    a body; a longer one fails with BodyTooLarge.  max_body: bytes of a body that a result keeps; a
    longer one fails, too, unless a sink stores it. None keeps no bodies, of any length.
    """

    concurrency: int = 100
    per_origin: int = 4
    delay: float = 0.0
    user_agent: str = "evserve"
    obey_robots: bool = True
    retry: RetryPolicy = field(factory=RetryPolicy)
    max_redirects: int = 20
    max_retry_after: float = 300.0
    max_size: int | None = None
    max_body: int | None = 10 * 1024 * 1024


@frozen
class Finish:
    """The URL is done, with or without an error."""

    error: Exception | None = None


@frozen
class Redirect:
    """Send this request next."""

    request: Request


@frozen
class Retry:
    """Send the same request again after `wait` seconds; fail with `error` if there is no time.

    pause: seconds during which the whole origin gets no requests.
    """

    wait: float
    error: Exception
    pause: float = 0.0


Decision = Finish | Redirect | Retry
_FETCHED = Finish()


@define(eq=False)
class Decider:
    """Decides what follows a request. random: 0 to 1.  wall: seconds since the epoch."""

    policy: Policy
    random: Callable[[], float]
    wall: Callable[[], float]

    def after_response(
        self, request: Request, head: Head, tries: int, redirects_left: int
    ) -> Decision:
        """Decide after a complete response."""
        status = head.status
        try:
            redirect = next_request(request, head, redirects_left)
        except FetchError as error:
            return Finish(error)
        if redirect is not None:
            return Redirect(redirect)
        if status < _FIRST_ERROR_STATUS:
            return _FETCHED
        if status in TRANSIENT_STATUSES:
            return self._retry(request, head, tries)
        return Finish(status_error(status))

    def after_error(self, request: Request, error: Exception, tries: int) -> Decision:
        """Decide after a request without a complete response."""
        retry = self.policy.retry
        if isinstance(error, TRANSIENT_ERRORS) and retry.allows(request.method, tries):
            return Retry(retry.wait(tries, self.random), error)
        return Finish(error)

    def _retry(self, request: Request, head: Head, tries: int) -> Decision:
        policy, error = self.policy, status_error(head.status)
        asked = parse_retry_after(head.headers.get(b"retry-after"), self.wall())
        wait = policy.retry.wait(tries, self.random) if asked is None else asked
        pause = wait if asked is not None or head.status in _OVERLOADED else 0.0
        if wait <= policy.max_retry_after and policy.retry.allows(request.method, tries):
            return Retry(wait, error, pause)
        # The URL fails, and still the origin gets the pause.
        return Retry(float("inf"), error, min(pause, policy.max_retry_after))


def check_page_headers(headers: Headers) -> None:
    """Raise BadRequest for headers that a user may not set, or may not set twice."""
    check_headers(headers)
    for name, _ in headers:
        shown = name.decode("ascii")
        if name.lower() == b"proxy-authorization":
            raise BadRequest(f"header {shown}: the origin would get it (use the proxy's URL)")
        if name.lower() in _SENDER_HEADERS:
            raise BadRequest(f"header {shown}: the fetcher sets it itself (leave it out)")
        if name.lower() in _SINGLE_HEADERS and len(headers.all(name)) > 1:
            raise BadRequest(f"header {shown}: given twice")


def parse_retry_after(value: bytes | None, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110, section 10.2.3).

    now: seconds since the epoch, for the form that is a date; a past date is 0. None if there is
    no header, or none that can be understood.
    """
    if value is None:
        return None
    seconds = _DELAY_SECONDS.fullmatch(value)
    if seconds:
        return float(seconds[1])
    try:
        date = parsedate_to_datetime(value.decode("latin-1"))
    except ValueError:
        return None
    if date.tzinfo is None:  # "-0000"; every HTTP date is in GMT
        date = date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - now)
