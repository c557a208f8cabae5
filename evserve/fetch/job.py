"""One URL on its way to its Result, over as many requests as redirects and retries take."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from evserve.fetch.hashing import hash_thread
from evserve.fetch.refusals import BadStatus
from evserve.fetch.result import Result
from evserve.fetch.seam import Copy, Engine, Exchange, Store
from evserve.http.errors import Cancelled, TotalTimeout
from evserve.http.headers import Head
from evserve.http.parser import LARGE
from evserve.http.redirects import check_discarded, is_redirect
from evserve.http.request import Request
from evserve.http.settings import Timeouts
from evserve.http.url import URL


Done = Callable[[Result], object]


class Job:
    """Receives one response after the other, and remembers what the Result needs.

    A plain class with slots: there is one for each URL that waits.
    """

    __slots__ = (
        "_ended",
        "again",
        "begun_at",
        "copies",
        "count",
        "deadline",
        "done",
        "elapsed",
        "exchange",
        "failure",
        "hasher",
        "head",
        "heeds_robots",
        "hops",
        "is_cancelled",
        "max_hops",
        "path",
        "request",
        "sent",
        "skips_body",
        "stores",
        "text",
        "tries",
    )

    def __init__(
        self,
        text: str,
        request: Request,
        done: Done,
        stores: Sequence[Store] = (),
        *,
        heeds_robots: bool = True,
    ) -> None:
        self.text = text
        self.request = self.sent = request
        self.done = done
        self.stores = stores
        self.heeds_robots = heeds_robots
        self.tries = self.hops = self.count = 0
        self.elapsed = self.begun_at = 0.0
        self.deadline: float | None = None
        self.is_cancelled = self.again = False
        self.skips_body = False  # it is a redirect's, and nobody keeps it
        self.max_hops: int | None = None  # None: as the manners say
        self.failure: Exception | None = None  # once it is done
        self.head: Head | None = None
        self.path: str | None = None
        self.exchange: Exchange | None = None
        self.hasher: Any = None
        self.copies: list[Copy] = []
        self._ended: Callable[[Job, Exception | None], None] | None = None

    def begin(
        self, engine: Engine, request: Request, ended: Callable[["Job", Exception | None], None]
    ) -> None:
        """Send `request`; call `ended` with this job when that is over, maybe at once."""
        self.tries += 1
        self.count = 0
        self.head = self.path = None
        self.again = self.skips_body = False
        self.hasher = sha256()
        self._ended = ended
        for store in self.stores:
            request = store.prepare(request, self.text)
        self.exchange = None
        self.sent = request
        try:
            exchange = engine.fetch(request, self)
        except BaseException:
            self._ended = None  # whoever called is told by this
            raise
        if self._ended is not None:
            self.exchange = exchange

    def cancel(self) -> None:
        """Give it up; `done` is told soon."""
        self.is_cancelled = True
        if self.exchange is not None:
            self.exchange.cancel(Cancelled("given up"))

    # What the engine calls: see request.Receiver.

    def started(self, head: Head, url: URL) -> None:
        """Take the head of the response."""
        self.head = head
        if head.length is not None and head.length > LARGE:
            self.hasher = hash_thread.hasher()
        for store in self.stores:
            copy = store.open(self, head)
            if copy is not None:
                self.copies.append(copy)
        if not self.copies and is_redirect(head):
            self.skips_body = True

    def received(self, data: bytes) -> None:
        """Take a part of the body."""
        self.count += len(data)
        if self.skips_body:
            check_discarded(self.count)
        self.hasher.update(data)
        for copy in self.copies:
            copy.write(data)

    def finished(self, error: Exception | None) -> None:
        """The request is over."""
        ended, self._ended, self.exchange = self._ended, None, None
        if ended is not None:
            ended(self, error)

    # What the dispatcher asks.

    def timed(self, now: float, timeouts: Timeouts) -> Request:
        """Return the request with what is left of its time; raises FetchError.

        timeouts: for a request that has none of its own.
        """
        if self.is_cancelled:
            raise Cancelled("given up")
        timeouts = self.request.timeouts or timeouts
        if self.deadline is None:
            self.deadline = now + timeouts.total
            return self.request
        left = self.deadline - now
        if left <= 0:
            raise TotalTimeout(f"not complete after {timeouts.total:g} s")
        return evolve(self.request, timeouts=evolve(timeouts, total=left))

    def close_copies(self, error: Exception | None) -> "list[Deferred[None]]":
        """End all copies; return what must be waited for. Raises what a copy raises."""
        copies, self.copies = self.copies, []
        waits = []
        for number, copy in enumerate(copies):
            try:
                wait = copy.close(error)
            except Exception as trouble:
                for other in copies[number + 1 :]:
                    other.close(trouble)
                raise
            if wait is not None:
                waits.append(wait)
        return waits

    def result(self, error: Exception | None) -> Result:
        """Return what became of the URL; `error` if it is not fetched."""
        head = self.head
        is_complete = error is None or isinstance(error, BadStatus)
        return Result(
            self.text,
            None if head is None else head.status,
            self.count,
            str(self.request.url),
            self.elapsed,
            self.tries - self.hops,
            self.hasher.hexdigest() if is_complete else None,
            None if error is None else _say(error),
            self.path if error is None else None,
        )


def _say(error: Exception) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text}" if text else name
