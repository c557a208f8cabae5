"""One request on its way to one response, over as many redirects and connections as it takes.

The way to an origin: directly, through a proxy, or through a tunnel; with TLS or without.

The engine's front door: `Client(reactor).fetch(request, receiver)`.
"""

from typing import Any, Protocol

from attrs import define, field
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from evserve.http.auth import Credentials
from evserve.http.connect import TLS, GuardedEndpoint, is_private_name, plain_endpoint
from evserve.http.connection import Connection
from evserve.http.cookies import Cookies
from evserve.http.deadlines import Deadlines
from evserve.http.decoding import BodyFlow, ContentDecoder
from evserve.http.errors import (
    BodyTooLarge,
    Cancelled,
    IdleTimeout,
    PrivateAddress,
    TooManyRedirects,
    TotalTimeout,
)
from evserve.http.headers import Head
from evserve.http.pool import Pool, Slot
from evserve.http.proxy import (
    PROXY_AUTHENTICATION_REQUIRED,
    Proxy,
    TunnelEndpoint,
    at_proxy,
    refusal,
)
from evserve.http.redirects import REDIRECTS, WORTH_READING, redirected
from evserve.http.request import Extra, Receiver, Request, check, compose, is_plain, tail_of
from evserve.http.settings import Settings
from evserve.http.url import URL, Origin


_UNAUTHORIZED = 401
_MAX_STALE = 3


class Dispatcher(Protocol):
    """What a call needs from its client."""

    settings: Settings
    deadlines: Deadlines
    cookies: Cookies | None
    credentials: Credentials

    def slot(self, request: Request) -> Slot:
        """Return where its connections come from; raises FetchError."""

    def wire(self, request: Request, slot: Slot) -> bytes:
        """Return the request's head, and its body if that is bytes."""

    def ended(self, call: "Call") -> None:
        """Forget a call."""


class Call:
    """What `Client.fetch` returns: pause it, resume it, cancel it."""

    def __init__(self, client: Dispatcher, request: Request, receiver: Receiver) -> None:
        now = client.deadlines.clock.seconds()
        self._client = client
        self._timeouts = request.timeouts or client.settings.timeouts
        self._receiver = receiver
        self._request = request
        self._next: Request | None = None  # what the response's head asks for
        self._slot: Slot | None = None
        self._connection: Connection | None = None
        self._flow: BodyFlow | None = None
        self._drained = self._stale = self._answers = 0
        self._paused = self._ended = False
        self._active_at = now
        self.history: list[tuple[URL, Head]] = []  # the redirects so far
        self.deadline = now + self._timeouts.total
        self.active = False
        self.done = False

    @property
    def url(self) -> URL:
        """Where the response comes from, after redirects."""
        return self._request.url

    # What the caller does.

    def pause(self) -> None:
        """Deliver no more of the body until `resume`."""
        self._paused = True
        if self._flow is None:
            self._flow = BodyFlow(self._receiver.received)
        self._flow.pause()
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Deliver what waits, and go on."""
        if not self._paused or self.done:
            return
        self._paused = False
        self._guarded(self._resume)

    def cancel(self, error: Exception | None = None) -> None:
        """End now; the receiver is told `error`, a Cancelled by default."""
        self._fail(error or Cancelled("cancelled"))

    # What a slot does.

    def begin(self) -> None:
        """Ask for a connection; whatever is in the way of that fails the call."""
        self._guarded(self._submit)

    def assign(self, connection: Connection) -> None:
        """See slot.Waiter."""
        request, slot = self._request, self._slot
        assert slot is not None
        self._connection = connection
        self._active_at = self._client.deadlines.clock.seconds()
        wire = self._client.wire(request, slot)
        body = None if isinstance(request.body, bytes) else request.body
        connection.start(self, request.method, wire, body)

    def refuse(self, error: Exception) -> None:
        """See slot.Waiter."""
        self._fail(error)

    # What a connection does.

    def on_head(self, head: Head) -> None:
        """See parser.Events."""
        if self._client.cookies is not None:
            self._client.cookies.store(self._request.url, head)
        if head.status in REDIRECTS and self._request.follow:
            self._next = self._redirected(head)
        elif head.status == _UNAUTHORIZED:
            self._next = self._challenged(head)
        elif head.status == PROXY_AUTHENTICATION_REQUIRED and self._slot and self._slot.relay:
            raise refusal(self._slot.relay, head)
        if self._next is None:
            self._open(head)

    def on_data(self, data: bytes) -> None:
        """See parser.Events."""
        if self._flow is not None:
            self._flow.take(data)
        elif self._next is None and not self.done:
            self._receiver.received(data)
        else:
            self._drained += len(data)
            if self._drained > WORTH_READING or self.done:
                raise Cancelled("this body is not wanted")

    def on_end(self) -> None:
        """See connection.Exchange."""
        self._connection = None
        if self._next is not None:
            self._proceed(self._next)
        else:
            self._ended = True
            self._guarded(self._finish)

    def on_broken(self, error: Exception, *, stale: bool) -> None:
        """See connection.Exchange."""
        error = self._blamed(error)
        self._connection = None
        request = self._request
        if self._next is not None:
            self._proceed(self._next)  # its body was not wanted anyway
        elif stale and self._stale < _MAX_STALE and request.is_repeatable:
            self._stale += 1
            self._proceed(request)
        else:
            self._fail(error)

    def sweep(self, now: float) -> None:
        """See deadlines.Watched."""
        if now >= self.deadline:
            error: Exception = TotalTimeout(f"not complete after {self._timeouts.total:g} s")
            self._fail(self._blamed(error))
        elif self.active or self._paused or self._connection is None:
            self.active = False
            self._active_at = now
        elif now - self._active_at >= self._timeouts.idle:
            error = IdleTimeout(f"no sign of life for {self._timeouts.idle:g} s")
            self._fail(self._blamed(error))

    def _blamed(self, error: Exception) -> Exception:
        """Return `error`, as the proxy's if it can be; who waits for a connection waits for it."""
        slot = self._slot
        proxy = slot and (slot.relay if self._connection else slot.proxy)
        return at_proxy(error, proxy) if proxy else error

    def _redirected(self, head: Head) -> Request | None:
        follower = redirected(self._request, head)
        if follower is not None:
            self.history.append((self._request.url, head))
            if len(self.history) > self._client.settings.max_redirects:
                raise TooManyRedirects(f"more than {len(self.history) - 1} redirects")
            self._answers = 0
        return follower

    def _challenged(self, head: Head) -> Request | None:
        """Return the request once more if a Digest challenge can be answered."""
        self._answers += 1
        again = self._client.credentials.challenged(self._request, head, self._answers)
        return self._request if again else None

    def _open(self, head: Head) -> None:
        limit = self._client.settings.max_body
        if limit is not None and head.length is not None and head.length > limit:
            raise BodyTooLarge(f"the body is longer than {limit} bytes")
        coded = head.encoding is not None and self._request.decode and head.length != 0
        if coded or limit is not None:
            limits = self._client.settings.decoding
            decoder = ContentDecoder(head.encoding or b"", limits) if coded else None
            self._flow = BodyFlow(self._receiver.received, decoder, limit)
        if head.length is not None and self._connection is not None:
            self._connection.widen(head.length)
        self._receiver.started(head, self._request.url)

    def _submit(self) -> None:
        self._slot = self._client.slot(self._request)
        self._slot.submit(self)

    def _proceed(self, request: Request) -> None:
        self._request, self._next, self._drained = request, None, 0
        self.begin()

    def _resume(self) -> None:
        if self._flow is not None:
            self._flow.resume()
        if self._ended:
            self._finish()
        elif self._connection is not None and not self._paused:
            self._connection.resume()

    def _finish(self) -> None:
        if self._flow is not None:
            self._flow.end()
            if not self._flow.done:
                return
        self._over(None)

    def _guarded(self, step: Any) -> None:
        try:
            step()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.done:
            return
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
        elif self._slot is not None:
            self._slot.withdraw(self)
        self._over(error)

    def _over(self, error: Exception | None) -> None:
        if not self.done:
            self.done = True
            self._client.ended(self)
            self._receiver.finished(error)


@define(eq=False)
class Connector:
    """Makes endpoints."""

    _reactor: Any
    _tls: TLS
    _allow_private: bool
    _timeout: float

    def endpoint(self, origin: Origin, proxy: Proxy | None) -> IStreamClientEndpoint:
        """Return an endpoint for connections to `origin`."""
        way = self._direct(origin) if proxy is None else self._proxied(origin, proxy)
        return wrapClientTLS(self._tls.of(origin.host), way) if origin.is_tls else way

    def _direct(self, origin: Origin) -> IStreamClientEndpoint:
        if self._allow_private:
            return plain_endpoint(self._reactor, origin.host, origin.port, self._timeout)
        return GuardedEndpoint(self._reactor, origin.host, origin.port, self._timeout)

    def _proxied(self, origin: Origin, proxy: Proxy) -> IStreamClientEndpoint:
        # Whoever configured a proxy knows where it is: it may well be private.
        place = proxy.origin
        way = plain_endpoint(self._reactor, place.host, place.port, self._timeout)
        if place.is_tls:
            way = wrapClientTLS(self._tls.of(place.host), way)
        return TunnelEndpoint(way, proxy, origin) if origin.is_tls else way


@define(eq=False)
class Client:
    """Fetches; `cookies` keeps what servers set, if it is given."""

    _reactor: Any
    settings: Settings = field(factory=Settings)
    cookies: Cookies | None = None
    _tls: TLS = field(factory=TLS)
    credentials: Credentials = field(factory=Credentials, init=False)
    deadlines: Deadlines = field(init=False)
    pool: Pool = field(init=False)
    _calls: set[Call] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        connector = Connector(
            self._reactor, self._tls, settings.allow_private, settings.timeouts.connect
        )
        self.deadlines = Deadlines(self._reactor)
        self.pool = Pool(settings, self.deadlines, connector.endpoint)

    def fetch(self, request: Request, receiver: Receiver) -> Call:
        """Ask for a resource; `receiver` is told what comes, `finished` last, maybe at once.

        Raises BadRequest for a method or header that cannot be sent.
        """
        if request.headers.lines or request.method != b"GET":
            check(request)
        call = Call(self, request, receiver)
        self._calls.add(call)
        self.deadlines.add(call, self.deadlines.clock.seconds())
        call.begin()
        return call

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """See seam.Engine."""
        return self.settings.proxies.choose(origin)

    def close(self) -> None:
        """Cancel what is under way, close every connection, leave no timer."""
        for call in tuple(self._calls):
            call.cancel(Cancelled("the client is closed"))
        self.pool.close()
        self.deadlines.stop()

    # What calls need.

    def slot(self, request: Request) -> Slot:
        """See call.Dispatcher."""
        origin = request.url.origin
        proxy = self.proxy_for(origin)
        if proxy is not None and not self.settings.allow_private and is_private_name(origin.host):
            raise PrivateAddress(f"{origin.host} is not a public address")
        return self.pool.slot(origin, proxy)

    def wire(self, request: Request, slot: Slot) -> bytes:
        """See call.Dispatcher."""
        cookie = None if self.cookies is None else self.cookies.header(request.url)
        is_anonymous = request.auth is None and request.url.credentials is None
        authorization = None if is_anonymous else self.credentials.header(request)
        if authorization is None and cookie is None and slot.proxy is None and is_plain(request):
            tail = slot.tail
            if tail is None or not tail.fits(request):
                tail = slot.tail = tail_of(request, self.settings.user_agent)
            return b"%b %b%b" % (request.method, request.url.target.encode("ascii"), tail.data)
        extra = Extra(cookie, authorization)
        return compose(request, self.settings.user_agent, extra, slot.proxy)

    def ended(self, call: Call) -> None:
        """See call.Dispatcher."""
        self._calls.discard(call)
        self.deadlines.discard(call)
