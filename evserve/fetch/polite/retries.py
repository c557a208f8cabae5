"""What is tried again, and after how long."""

from collections.abc import Callable

from attrs import frozen

from evserve.http.errors import (
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    IdleTimeout,
    ProxyUnreachable,
    TruncatedBody,
    TunnelFailed,
)
from evserve.http.request import IDEMPOTENT


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
