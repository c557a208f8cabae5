"""MemoryEngine: an engine without a network, for tests of what stands on top of one.

clock = Clock()
engine = MemoryEngine(clock, {"http://a/": Page(b"hello")})
result = Fetcher(engine, clock, Manners(robots=False)).fetch("http://a/")
clock.advance(0)
"""

from collections.abc import Callable, Mapping

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from evserve.http.errors import Cancelled, ConnectFailed
from evserve.http.messages import Head, Headers
from evserve.http.proxies import NO_PROXIES, Proxies, Proxy
from evserve.http.request import Receiver, Request
from evserve.http.url import Origin


@frozen
class Page:
    """What a URL answers.

    takes: seconds until the answer.  error: what comes instead of an answer, or, if there is a
    body, in the middle of it.
    """

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    takes: float = 0.0
    error: Exception | None = None

    @property
    def has_head(self) -> bool:
        """Whether anything comes before the error."""
        return self.error is None or bool(self.body)


Answer = Page | Callable[[Request], Page]


@define(eq=False)
class MemoryExchange:
    """A request under way."""

    engine: "MemoryEngine"
    request: Request
    receiver: Receiver
    page: Page
    is_paused: bool = field(default=False, init=False)
    is_over: bool = field(default=False, init=False)
    _body: bytes | None = field(default=None, init=False)  # None: not begun

    def pause(self) -> None:
        """See seam.Exchange."""
        self.is_paused = True

    def resume(self) -> None:
        """See seam.Exchange."""
        self.is_paused = False
        self._deliver()

    def cancel(self, error: Exception | None = None) -> None:
        """See seam.Exchange."""
        self._end(error or Cancelled("cancelled"))

    def answer(self) -> None:
        """Let the response arrive."""
        if self.is_over:
            return
        try:
            if self.page.has_head:
                self._body = self.page.body
                self.receiver.started(self._head(), self.request.url)
            self._deliver()
        except Exception as error:
            self._end(error)

    def _head(self) -> Head:
        headers = Headers(list(self.page.headers))
        return Head(self.page.status, b"", "1.1", headers, len(self.page.body), None)

    def _deliver(self) -> None:
        if self._body:
            size = self.engine.chunk
            while self._body and not self.is_paused:
                chunk, self._body = self._body[:size], self._body[size:]
                self.receiver.received(chunk)
        if not self._body and not self.is_paused:
            self._end(self.page.error)

    def _end(self, error: Exception | None) -> None:
        if not self.is_over:
            self.is_over = True
            self.engine.under_way.remove(self)
            self.receiver.finished(error)


@define(eq=False)
class MemoryEngine:
    """Answers from a mapping; what is not in it refuses connections.

    chunk: bytes of a body that arrive at once.  proxies: what requests go through, by name only.
    """

    clock: IReactorTime
    pages: Mapping[str, Answer] = field(factory=dict)
    chunk: int = 65536
    proxies: Proxies = NO_PROXIES
    requests: list[Request] = field(factory=list, init=False)
    under_way: list[MemoryExchange] = field(factory=list, init=False)
    is_closed: bool = field(default=False, init=False)

    @property
    def urls(self) -> list[str]:
        """The URLs that were asked for, in order."""
        return [str(request.url) for request in self.requests]

    def fetch(self, request: Request, receiver: Receiver) -> MemoryExchange:
        """See seam.Engine."""
        self.requests.append(request)
        refused = Page(error=ConnectFailed(f"{request.url.origin} refuses connections"))
        answer = self.pages.get(str(request.url), refused)
        page = answer if isinstance(answer, Page) else answer(request)
        exchange = MemoryExchange(self, request, receiver, page)
        self.under_way.append(exchange)
        self.clock.callLater(page.takes, exchange.answer)
        return exchange

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """See seam.Engine."""
        return self.proxies.choose(origin)

    def close(self) -> None:
        """See seam.Engine."""
        self.is_closed = True
        for exchange in tuple(self.under_way):
            exchange.cancel()
