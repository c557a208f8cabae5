"""What a response, or the lack of one, means for the URL: done, elsewhere, or once more."""

import re
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from attrs import define, field, frozen

from evserve.fetch.errors import bad_status
from evserve.http.errors import (
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    FetchError,
    IdleTimeout,
    ProxyUnreachable,
    TooManyRedirects,
    TruncatedBody,
    TunnelFailed,
)
from evserve.http.messages import IDEMPOTENT, Head
from evserve.http.redirects import REDIRECTS, redirected
from evserve.http.request import Request


_SECONDS = re.compile(rb"\s*(\d{1,9})\s*")


def retry_after(value: bytes | None, now: float) -> float | None:
    """Return for how many seconds a server asks to be left alone; None if it does not say.

    now: seconds since the epoch, to compare a date with; a date gone by is 0.
    """
    if value is None:
        return None
    seconds = _SECONDS.fullmatch(value)
    if seconds:
        return float(seconds[1])
    try:
        date = parsedate_to_datetime(value.decode("latin-1"))
    except ValueError:
        return None
    if date.tzinfo is None:  # "-0000"; every HTTP date is in GMT
        date = date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - now)


# The network's moods. A bad certificate, a corrupt body or a bad URL would be the same next time.
PASSING = (
    ConnectFailed,
    ProxyUnreachable,
    TunnelFailed,
    ConnectTimeout,
    IdleTimeout,
    ConnectionLost,
    TruncatedBody,
)
# Those that ask for another try: RFC 9110, 6585 and 8470 for the first four.
PASSING_STATUSES = frozenset([408, 425, 429, 503, 500, 502, 504])
# Of these, the ones that speak for the whole origin.
BUSY = frozenset([429, 503])


@frozen
class RetryPolicy:
    """Exponential back-off with full jitter: so that a thousand clients do not come back as one.

    retries: how often a request is repeated at most.  first, longest: seconds; the wait is a
    random part of `first`, then of twice that, and so on, never of more than `longest`.
    """

    retries: int = 2
    first: float = 1.0
    longest: float = 30.0

    def may_repeat(self, method: bytes, tries: int) -> bool:
        """Whether a request that was sent `tries` times may be sent once more."""
        return tries <= self.retries and method in IDEMPOTENT

    def wait(self, tries: int, random: Callable[[], float]) -> float:
        """Return the seconds to wait after the try numbered `tries`; random: 0 to 1."""
        ceiling = min(self.longest, self.first * 2.0 ** min(tries - 1, 30))
        # Not less than a tenth: a retry within the same millisecond meets the same trouble.
        return ceiling * (0.1 + 0.9 * random())


@frozen
class Manners:
    """Times are in seconds.

    total, per_origin: requests at once.  delay: between the starts of two requests to one
    origin.  robots: whether robots.txt is heeded.  patience: the longest Retry-After that is
    waited for.
    """

    total: int = 100
    per_origin: int = 4
    delay: float = 0.0
    user_agent: str = "evserve"
    robots: bool = True
    retry: RetryPolicy = field(factory=RetryPolicy)
    max_redirects: int = 20
    patience: float = 300.0


_FAILING = 400


@frozen
class Finished:
    """That was it, with or without an error."""

    error: Exception | None = None


@frozen
class Elsewhere:
    """The response says to ask this instead."""

    request: Request


@frozen
class Again:
    """The same request once more, `wait` seconds from now; `error` if there is no time for it.

    pause: for how long the whole origin is left alone.
    """

    wait: float
    error: Exception
    pause: float = 0.0


Verdict = Finished | Elsewhere | Again
_FETCHED = Finished()


@define(eq=False)
class Judge:
    """Decides by `manners`; random: 0 to 1.  wall: seconds since the epoch."""

    manners: Manners
    random: Callable[[], float]
    wall: Callable[[], float]

    def after_response(self, request: Request, head: Head, tries: int, hops: int) -> Verdict:
        """Return what follows from a complete response; hops: redirects that may still be."""
        status = head.status
        if status < _FAILING and status not in REDIRECTS:
            return _FETCHED
        if status in REDIRECTS:
            return self._elsewhere(request, head, hops)
        if status not in PASSING_STATUSES:
            return Finished(bad_status(status))
        return self._after_trouble(request, head, tries)

    def after_error(self, request: Request, error: Exception, tries: int) -> Verdict:
        """Return what follows from a request that brought no complete response."""
        if isinstance(error, PASSING) and self.manners.retry.may_repeat(request.method, tries):
            return Again(self.manners.retry.wait(tries, self.random), error)
        return Finished(error)

    def _elsewhere(self, request: Request, head: Head, hops: int) -> Verdict:
        try:
            follower = redirected(request, head)
        except FetchError as error:
            return Finished(error)
        if follower is None:  # a 300-something that names no place is a page like any other
            return _FETCHED
        if hops <= 0:
            return Finished(TooManyRedirects(f"one redirect too many, to {follower.url}"))
        return Elsewhere(follower)

    def _after_trouble(self, request: Request, head: Head, tries: int) -> Verdict:
        error = bad_status(head.status)
        asked = retry_after(head.headers.get(b"retry-after"), self.wall())
        wait = self.manners.retry.wait(tries, self.random) if asked is None else asked
        pause = wait if asked is not None or head.status in BUSY else 0.0
        if wait > self.manners.patience or not self.manners.retry.may_repeat(
            request.method, tries
        ):
            return Again(float("inf"), error, min(pause, self.manners.patience))
        return Again(wait, error, pause)
