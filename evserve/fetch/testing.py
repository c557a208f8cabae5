"""MemoryHTTPClient: an HTTP client without a network, for tests of what uses a fetcher.

clock = Clock()
client = MemoryHTTPClient(clock, {"http://a/": Page(b"hello")})
result = Fetcher(client, clock, Policy(obey_robots=False)).fetch("http://a/")
clock.advance(0)
"""

from collections.abc import Callable, Mapping

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from evserve.http.errors import Cancelled, ConnectFailed
from evserve.http.headers import Head, Headers
from evserve.http.proxy import NO_PROXIES, Proxies, Proxy
from evserve.http.request import Receiver, Request
from evserve.http.url import Origin


@frozen
class Page:
    """The response of a URL.

    takes: seconds until it comes.  error: what comes instead of a response or, if there is a
    body, after that; then only a Content-Length tells how long the body should have been.
    """

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    takes: float = 0.0
    error: Exception | None = None


Answer = Page | Callable[[Request], Page]


@define(eq=False)
class MemoryHTTPClient:
    """Answers from a mapping; other URLs refuse connections.

    chunk: bytes of a body that arrive at once.  proxies: what `proxy_for` chooses from; nothing
    goes through them.
    """

    clock: IReactorTime
    pages: Mapping[str, Answer] = field(factory=dict)
    chunk: int = 65536
    proxies: Proxies = NO_PROXIES
    requests: list[Request] = field(factory=list, init=False)
    in_flight: "list[MemoryExchange]" = field(factory=list, init=False)
    is_closed: bool = field(default=False, init=False)

    @property
    def urls(self) -> list[str]:
        """The URLs that were requested, in order."""
        return [str(request.url) for request in self.requests]

    def fetch(self, request: Request, receiver: Receiver) -> "MemoryExchange":
        self.requests.append(request)
        refused = Page(error=ConnectFailed(f"{request.url.origin} refuses connections"))
        answer = self.pages.get(str(request.url), refused)
        page = answer if isinstance(answer, Page) else answer(request)
        exchange = MemoryExchange(self, request, receiver, page)
        self.in_flight.append(exchange)
        self.clock.callLater(page.takes, exchange.respond)
        return exchange

    def proxy_for(self, origin: Origin) -> Proxy | None:
        return self.proxies.choose(origin)

    def close(self) -> None:
        self.is_closed = True
        for exchange in tuple(self.in_flight):
            exchange.cancel()


@define(eq=False)
class MemoryExchange:
    """A request in flight."""

    client: MemoryHTTPClient
    request: Request
    receiver: Receiver
    page: Page
    is_paused: bool = field(default=False, init=False)
    has_ended: bool = field(default=False, init=False)
    _body: bytes = field(default=b"", init=False)  # what is not delivered yet

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False
        self._deliver()

    def cancel(self, error: Exception | None = None) -> None:
        self._end(error or Cancelled("cancelled"))

    def respond(self) -> None:
        """Let the response arrive."""
        if self.has_ended:
            return
        page = self.page
        try:
            if page.error is None or page.body:
                self._body = page.body
                headers = Headers(list(page.headers))
                length = None if page.error else len(page.body)
                if b"transfer-encoding" in headers:
                    length = None
                elif (stated := headers.get(b"content-length")) is not None:
                    length = int(stated)
                head = Head(page.status, b"", "1.1", headers, length, None)
                self.receiver.started(head, self.request.url)
            self._deliver()
        except Exception as error:
            self._end(error)

    def _deliver(self) -> None:
        size = self.client.chunk
        while self._body and not self.is_paused:
            chunk, self._body = self._body[:size], self._body[size:]
            self.receiver.received(chunk)
        if not self._body and not self.is_paused:
            self._end(self.page.error)

    def _end(self, error: Exception | None) -> None:
        if not self.has_ended:
            self.has_ended = True
            self.client.in_flight.remove(self)
            self.receiver.finished(error)
