"""One URL on its way to its Result, over as many requests as redirects and retries take."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred

from evserve.fetch.errors import BadStatus, forget_frames
from evserve.fetch.interfaces import Exchange, HTTPClient, ResponseWriter, Sink
from evserve.fetch.result import Result
from evserve.http.errors import BodyTooLarge, Cancelled, TotalTimeout, UnwantedBody
from evserve.http.headers import Head, Headers
from evserve.http.parser import LARGE
from evserve.http.redirects import is_redirect
from evserve.http.request import Request
from evserve.http.settings import Timeouts
from evserve.http.url import URL


Callback = Callable[[Result], object]


@define(eq=False, weakref_slot=False)  # there is one for each URL that waits
class Job:
    """The state of one URL, and the receiver of its responses, one after the other.

    The downloader sends it, the HTTP client calls `started`, `received` and `finished` (see
    `evserve.http.request.Receiver`), and sinks read `url`, `sent`, `count`, `hasher` and
    `exchange`, and set `path` and `resends`.
    """

    url: str  # as it was given
    request: Request  # the next one, or the one in flight
    callback: Callback
    sinks: Sequence[Sink] = ()
    obeys_robots: bool = True
    max_size: int | None = None  # see Policy, as for the next
    max_body: int | None = None
    sent: Request = field(init=False)  # `request` after all `Sink.prepare`
    tries: int = field(default=0, init=False)
    redirects: int = field(default=0, init=False)
    max_redirects: int | None = field(default=None, init=False)  # None: the policy's
    elapsed: float = field(default=0.0, init=False)
    sent_at: float = field(default=0.0, init=False)
    deadline: float | None = field(default=None, init=False)
    is_cancelled: bool = field(default=False, init=False)
    resends: bool = field(default=False, init=False)  # set by a sink that raises: without Range
    error: Exception | None = field(default=None, init=False)  # the last try's, then the URL's
    head: Head | None = field(default=None, init=False)
    count: int = field(default=0, init=False)  # bytes of the body so far
    hasher: Any = field(default=None, init=False)  # as those of hashlib
    body: list[bytes] | None = field(default=None, init=False)  # in pieces; None if not kept
    path: str | None = field(default=None, init=False)  # set by a sink
    exchange: Exchange | None = field(default=None, init=False)
    writers: list[ResponseWriter] = field(factory=list, init=False)
    _on_end: "Callable[[Job, Exception | None], None] | None" = field(default=None, init=False)

    def send(
        self,
        client: HTTPClient,
        request: Request,
        on_end: Callable[["Job", Exception | None], None],
    ) -> None:
        """Send `request`; `on_end` is called once when it ends, perhaps before this returns."""
        self.tries += 1
        self.count = 0
        self.head = self.path = None
        self.resends = False
        self.hasher = sha256()
        self.body = None if self.max_body is None else []
        self._on_end = on_end
        for sink in self.sinks:
            request = sink.prepare(request, self.url)
        self.exchange = None
        self.sent = request
        try:
            exchange = client.fetch(request, self)
        except BaseException:
            self._on_end = None  # the caller learns it from the exception
            raise
        if self._on_end is not None:
            self.exchange = exchange

    def cancel(self) -> None:
        """Cancel the job; `callback` gets a result with Cancelled soon."""
        self.is_cancelled = True
        if self.exchange is not None:
            self.exchange.cancel(Cancelled("cancelled"))

    def started(self, head: Head, url: URL) -> None:
        self.head = head
        if head.length is not None and head.length > LARGE:
            self.hasher = hash_thread.hasher()
        leads_on = is_redirect(head)
        if head.length is not None and not leads_on:
            self._check_length(head.length, is_stored=bool(self.sinks))
        for sink in self.sinks:
            writer = sink.open(self, head)
            if writer is not None:
                self.writers.append(writer)
        if leads_on and not self.writers:
            raise UnwantedBody("the body of a redirect")

    def received(self, data: bytes) -> None:
        self.include(data)
        if self.max_size is not None or self.max_body is not None:
            self._check_length(self.count, is_stored=bool(self.writers))
        for writer in self.writers:
            writer.write(data)

    def include(self, data: bytes) -> None:
        """Count, hash and keep a part of the body: received now or, by a sink, before."""
        self.count += len(data)
        self.hasher.update(data)
        if self.body is not None and self.max_body is not None:
            self.body.append(data)
            if self.count > self.max_body:
                self.body = None

    def _check_length(self, length: int, *, is_stored: bool) -> None:
        """Raise BodyTooLarge if a body of that length is refused."""
        if self.max_size is not None and length > self.max_size:
            raise BodyTooLarge(f"the body is longer than {self.max_size} bytes")
        if self.max_body is not None and length > self.max_body and not is_stored:
            raise BodyTooLarge(f"the body is longer than {self.max_body} bytes (Policy.max_body)")

    def finished(self, error: Exception | None) -> None:
        on_end, self._on_end, self.exchange = self._on_end, None, None
        if on_end is not None:
            on_end(self, error)

    def timed_request(self, now: float, timeouts: Timeouts) -> Request:
        """Return the request with the time that is left to it.

        timeouts: for a request that has none of its own.  Raises Cancelled and TotalTimeout.
        """
        if self.is_cancelled:
            raise Cancelled("cancelled")
        timeouts = self.request.timeouts or timeouts
        if self.deadline is None:
            self.deadline = now + timeouts.total
            return self.request
        left = self.deadline - now
        if left <= 0:
            raise TotalTimeout(f"not complete after {timeouts.total:g} s")
        return evolve(self.request, timeouts=evolve(timeouts, total=left))

    def close_writers(self, error: Exception | None) -> "list[Deferred[None]]":
        """Close all writers, even if one raises; return what the job must wait for."""
        writers, self.writers = self.writers, []
        waits = []
        for number, writer in enumerate(writers):
            try:
                wait = writer.close(error)
            except Exception as failure:
                for other in writers[number + 1 :]:
                    other.close(failure)
                raise
            if wait is not None:
                waits.append(wait)
        return waits

    def result(self, error: Exception | None) -> Result:
        """Return the result; `error` is None if the URL was fetched."""
        head, pieces, self.body = self.head, self.body, None
        is_complete = error is None or isinstance(error, BadStatus)
        if error is not None:
            forget_frames(error)
        return Result(
            self.url,
            None if head is None else head.status,
            self.count,
            str(self.request.url),
            self.elapsed,
            self.tries - self.redirects,
            self.hasher.hexdigest() if is_complete else None,
            error,
            self.path if error is None else None,
            Headers() if head is None else head.headers,
            b"".join(pieces) if is_complete and pieces else b"",
        )


_BATCH = 1024 * 1024  # bytes that are worth waking the thread for
_RETAINED = 2 * _BATCH

_Pieces = list[tuple[Any, bytes]]  # each with the hash that it feeds


@define(eq=False)
class HashThread:
    """Hashes large bodies in a thread while the reactor reads on.

    SHA-256 of a body takes as long as receiving and saving it. `hashlib` releases the GIL while
    it works, so a second core can do it. A mebibyte, of all bodies together, is hashed while the
    next is collected; then `take` blocks. The thread starts with the first hasher and ends with
    the process.
    """

    _work: "SimpleQueue[_Pieces]" = field(factory=SimpleQueue, init=False)
    _busy: Lock = field(factory=Lock, init=False)
    _pieces: _Pieces = field(factory=list, init=False)
    _size: int = field(default=0, init=False)
    _thread: Thread | None = field(default=None, init=False)

    def hasher(self, hash_: Any = None) -> "Hasher":
        """Return a hasher that feeds `hash_`, by default a new SHA-256."""
        if self._thread is None:
            # glibc retains freed blocks up to twice the size of the largest one so far. If it
            # returned the pieces' memory, every page of the next ones would be a page fault.
            bytes(_RETAINED)
            self._thread = Thread(target=self._run, name="evserve-fetch-hash", daemon=True)
            self._thread.start()
        return Hasher(self, sha256() if hash_ is None else hash_)

    def take(self, hash_: Any, data: bytes) -> None:
        """Feed `data` to `hash_` later."""
        self._pieces.append((hash_, data))
        self._size += len(data)
        if self._size >= _BATCH:
            self._hand_over()

    def finish(self) -> None:
        """Wait until everything that was taken is hashed."""
        self._hand_over()
        with self._busy:
            pass

    def _hand_over(self) -> None:
        pieces, self._pieces, self._size = self._pieces, [], 0
        self._busy.acquire()
        self._work.put(pieces)

    def _run(self) -> None:
        while True:
            _hash_all(self._work.get())  # a function, so that no local keeps the pieces alive
            self._busy.release()


@frozen
class Hasher:
    """As hashlib's objects, but `update` returns before its piece is hashed."""

    _thread: HashThread
    _hash: Any

    def update(self, data: bytes) -> None:
        """Feed a piece."""
        self._thread.take(self._hash, data)

    def hexdigest(self) -> str:
        """Return the checksum of all pieces."""
        self._thread.finish()
        digest: str = self._hash.hexdigest()
        return digest


def _hash_all(pieces: _Pieces) -> None:
    for hash_, data in pieces:
        hash_.update(data)


hash_thread = HashThread()
