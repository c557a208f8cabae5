"""What a response, or the lack of one, means for the URL: done, elsewhere, or once more."""

from collections.abc import Callable

from attrs import define, frozen

from evserve.fetch.manners import Manners
from evserve.fetch.polite.retries import BUSY, PASSING, PASSING_STATUSES
from evserve.fetch.polite.retry_after import retry_after
from evserve.fetch.refusals import bad_status
from evserve.http.errors import FetchError
from evserve.http.headers import Head
from evserve.http.redirects import is_redirect, next_request
from evserve.http.request import Request


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
        if is_redirect(head):
            return self._elsewhere(request, head, hops)
        if status < _FAILING:
            return _FETCHED
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
            follower = next_request(request, head, hops)
        except FetchError as error:
            return Finished(error)
        return _FETCHED if follower is None else Elsewhere(follower)

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
