"""One URL on its way to its Result, over as many requests as redirects and retries take."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from json.encoder import encode_basestring_ascii as _text
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred

from evserve.fetch.errors import BadStatus, ProxyDown
from evserve.fetch.interfaces import Copy, Engine, Exchange, Store
from evserve.fetch.policy import PASSING_STATUSES
from evserve.http.errors import Cancelled, TotalTimeout
from evserve.http.messages import Head
from evserve.http.parser import LARGE
from evserve.http.redirects import REDIRECTS, WORTH_READING
from evserve.http.request import Request
from evserve.http.settings import Timeouts
from evserve.http.url import URL


_ENOUGH = 1024 * 1024  # bytes to wake a thread for
_KEPT = 2 * _ENOUGH

_Pieces = list[tuple[Any, bytes]]  # each with the hash that wants it


@define(eq=False)
class HashThread:
    """Hashes one mebibyte while the next is gathered, of all bodies together.

    Whoever is faster than that waits. The thread begins with the first hasher and ends with the
    process.
    """

    _work: "SimpleQueue[_Pieces]" = field(factory=SimpleQueue, init=False)
    _busy: Lock = field(factory=Lock, init=False)
    _gathered: _Pieces = field(factory=list, init=False)
    _size: int = field(default=0, init=False)
    _thread: Thread | None = field(default=None, init=False)

    def hasher(self, hash_: Any = None) -> "Hasher":
        """Return one that feeds `hash_`, or a new SHA-256."""
        if self._thread is None:
            # glibc keeps freed blocks up to twice the size of the largest one so far. If it gave
            # the pieces' memory back, every page of the next ones would be a fault.
            bytes(_KEPT)
            self._thread = Thread(target=self._run, name="evserve-fetch-hash", daemon=True)
            self._thread.start()
        return Hasher(self, sha256() if hash_ is None else hash_)

    def take(self, hash_: Any, data: bytes) -> None:
        """Feed `data` to `hash_` some time."""
        self._gathered.append((hash_, data))
        self._size += len(data)
        if self._size >= _ENOUGH:
            self._hand_over()

    def finish(self) -> None:
        """Wait until everything that was taken is hashed."""
        self._hand_over()
        with self._busy:
            pass

    def _hand_over(self) -> None:
        pieces, self._gathered, self._size = self._gathered, [], 0
        self._busy.acquire()
        self._work.put(pieces)

    def _run(self) -> None:
        while True:
            _hash_all(self._work.get())  # whose locals are gone while this waits
            self._busy.release()


@frozen
class Hasher:
    """Like hashlib's objects, but `update` returns before its piece is hashed."""

    _thread: HashThread
    _hash: Any

    def update(self, data: bytes) -> None:
        """Take a piece."""
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


@frozen
class Result:
    """One row of output.

    url: as it was given.  status_code: None if there was no response.  content_length: bytes of
    the body, as received and decompressed.  final_url: after redirects.  elapsed: seconds at
    work, waiting for politeness' sake not counted.  tries: 1 unless it was tried again.
    sha256: of the body, None if it is not complete.  error: "Name: what happened", None if the
    URL was fetched.  path: the file, with `--save`.
    """

    url: str
    status_code: int | None = None
    content_length: int = 0
    final_url: str | None = None
    elapsed: float = 0.0
    tries: int = 0
    sha256: str | None = None
    error: str | None = None
    path: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether fetching the URL again is pointless: a server has spoken, and meant it."""
        if self.error is None:
            return True
        return self.sha256 is not None and self.status_code not in PASSING_STATUSES

    @property
    def is_proxys(self) -> bool:
        """Whether it says nothing of the URL: the proxy was down, and nobody was asked."""
        return self.error is not None and self.error.startswith(f"{ProxyDown.__name__}: ")

    def as_json(self) -> str:
        """Return the row as one line of JSON, without its end."""
        # Put together by hand: json.dumps would take a tenth of the time that a URL takes.
        path = "" if self.path is None else f', "path": {_text(self.path)}'
        return (
            f'{{"url": {_text(self.url)}, '
            f'"status_code": {"null" if self.status_code is None else self.status_code}, '
            f'"content_length": {self.content_length}, '
            f'"final_url": {"null" if self.final_url is None else _text(self.final_url)}, '
            f'"elapsed": {round(self.elapsed, 6)}, '
            f'"tries": {self.tries}, '
            f'"sha256": {"null" if self.sha256 is None else _text(self.sha256)}, '
            f'"error": {"null" if self.error is None else _text(self.error)}{path}}}'
        )


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
        if head.status in REDIRECTS and not self.copies and b"location" in head.headers:
            self.skips_body = True

    def received(self, data: bytes) -> None:
        """Take a part of the body."""
        self.count += len(data)
        if self.skips_body and self.count > WORTH_READING:
            raise Cancelled("this body is not wanted")
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
