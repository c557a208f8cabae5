"""How a fetcher behaves towards the servers it asks; every number somebody may want to change."""

from attrs import field, frozen

from evserve.fetch.polite.retries import RetryPolicy


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
