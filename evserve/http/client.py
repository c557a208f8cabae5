"""The client: `Client(reactor).fetch(request, receiver)` returns a `Call`."""

from typing import Any

from attrs import define, field
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from evserve.http.auth import Authenticator
from evserve.http.connect import TLS, PublicEndpoint, endpoint_for, is_private_name
from evserve.http.connection import Connection
from evserve.http.cookies import Cookies
from evserve.http.deadlines import Deadlines
from evserve.http.decoding import BodyFlow, ContentDecoder
from evserve.http.errors import (
    BodyTooLarge,
    Cancelled,
    IdleTimeout,
    PrivateAddress,
    TotalTimeout,
    UnwantedBody,
)
from evserve.http.headers import Head
from evserve.http.pool import OriginPool, Pool
from evserve.http.proxy import (
    PROXY_AUTHENTICATION_REQUIRED,
    Proxy,
    TunnelEndpoint,
    as_proxy_error,
    refusal,
)
from evserve.http.redirects import REDIRECT_STATUSES, next_request
from evserve.http.request import Receiver, Request, check_request, serialize
from evserve.http.settings import Settings
from evserve.http.url import URL, Origin


_UNAUTHORIZED = 401
_MAX_STALE = 3  # expired connections that a request may meet
# What an unwanted body may take, so that its connection can be used again. More would take longer
# than another connection.
_MAX_UNWANTED = 64 * 1024  # bytes
_UNWANTED_TIME = 0.5  # seconds


@define(eq=False)
class Client:
    """Sends requests. Keeps connections open, and cookies if it is given a jar for them."""

    _reactor: Any
    settings: Settings = field(factory=Settings)
    cookies: Cookies | None = None
    _tls: TLS = field(factory=TLS)
    authenticator: Authenticator = field(factory=Authenticator, init=False)
    deadlines: Deadlines = field(init=False)
    pool: Pool = field(init=False)
    _calls: set["Call"] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self.deadlines = Deadlines(self._reactor)
        self.pool = Pool(self.settings, self.deadlines, self._endpoint)

    def fetch(self, request: Request, receiver: Receiver) -> "Call":
        """Send a request; the receiver's methods are called, maybe before this returns.

        Raises BadRequest for a method or header that cannot be sent.
        """
        if request.headers.lines or request.method != b"GET":
            check_request(request)
        call = Call(self, request, receiver)
        self._calls.add(call)
        self.deadlines.add(call, self.deadlines.clock.seconds())
        call.begin()
        return call

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """Return the proxy that requests to `origin` pass, or None."""
        return self.settings.proxies.choose(origin)

    def close(self) -> None:
        """Cancel all calls, close every connection, and stop the timer."""
        for call in tuple(self._calls):
            call.cancel(Cancelled("the client is closed"))
        self.pool.close()
        self.deadlines.stop()

    # Called by Call.

    def serialize(self, request: Request, pool: OriginPool) -> bytes:
        """Return the bytes of `request` without a body from a producer."""
        cookie = None if self.cookies is None else self.cookies.header(request.url)
        is_anonymous = request.auth is None and request.url.credentials is None
        authorization = None if is_anonymous else self.authenticator.header(request)
        proxy, body = pool.proxy, request.body
        if authorization is None and cookie is None and proxy is None and body is None:
            return pool.serializer.serialize(request)
        return serialize(request, self.settings.user_agent, cookie, authorization, proxy)

    def ended(self, call: "Call") -> None:
        """Forget a call."""
        self._calls.discard(call)
        self.deadlines.discard(call)

    def _endpoint(self, origin: Origin, proxy: Proxy | None) -> IStreamClientEndpoint:
        """Return an endpoint for connections to `origin`: direct, or through a proxy."""
        reactor, timeout = self._reactor, self.settings.timeouts.connect
        if proxy is not None:
            if not self.settings.allow_private and is_private_name(origin.host):
                raise PrivateAddress(f"{origin.host} is not a public address")
            # The address of a proxy comes from the settings, so it may be private.
            place = proxy.origin
            endpoint = endpoint_for(reactor, place.host, place.port, timeout)
            if place.is_tls:
                endpoint = wrapClientTLS(self._tls.for_host(place.host), endpoint)
            if origin.is_tls:
                endpoint = TunnelEndpoint(endpoint, proxy, origin)
        elif self.settings.allow_private:
            endpoint = endpoint_for(reactor, origin.host, origin.port, timeout)
        else:
            endpoint = PublicEndpoint(reactor, origin.host, origin.port, timeout)
        if origin.is_tls:
            endpoint = wrapClientTLS(self._tls.for_host(origin.host), endpoint)
        return endpoint


class Call:
    """One request on its way to its response, over redirects and several connections."""

    def __init__(self, client: Client, request: Request, receiver: Receiver) -> None:
        now = client.deadlines.clock.seconds()
        self._client = client
        self._timeouts = request.timeouts or client.settings.timeouts
        self._receiver = receiver
        self._request = request
        self._next: Request | None = None  # to send after this response
        self._pool: OriginPool | None = None
        self._connection: Connection | None = None
        self._flow: BodyFlow | None = None  # only for bodies that are coded, limited or paused
        self._unwanted: UnwantedBody | None = None  # of the receiver, which the call ends with
        self._stale = self._unauthorized = 0
        self._is_open = self._is_paused = self._has_ended = False
        self._is_discarding = False  # the body that comes, because only its head is needed
        self._active_at = now
        self._discards_until = 0.0
        self.history: list[tuple[URL, Head]] = []  # the redirects so far
        self.deadline = now + self._timeouts.total
        self.active = False  # set by the connection when the peer sends or takes something
        self.needs_no_more = False  # read by the connection: it need not wait for the body's end
        self.done = False

    @property
    def url(self) -> URL:
        """The URL of the response, after redirects."""
        return self._request.url

    def pause(self) -> None:
        """Deliver no more of the body until `resume`."""
        self._is_paused = True
        if self._is_open:
            self._hold()

    def resume(self) -> None:
        """Deliver what waits, and read on."""
        if not self._is_paused or self.done:
            return
        self._is_paused = False
        try:
            if self._flow is not None:
                self._flow.resume()
            if self._has_ended:
                self._finish()
            elif self._connection is not None and not self._is_paused:
                self._connection.resume()
        except Exception as error:
            self._fail(error)

    def cancel(self, error: Exception | None = None) -> None:
        """End the call; the receiver gets `error`, by default a Cancelled."""
        self._fail(error or Cancelled("cancelled"))

    # Called by Client and OriginPool.

    def begin(self) -> None:
        """Wait for a connection. An error on the way to one fails the call."""
        try:
            origin = self._request.url.origin
            self._pool = self._client.pool.origin_pool(origin, self._client.proxy_for(origin))
            self._pool.submit(self)
        except Exception as error:
            self._fail(error)

    def assign(self, connection: Connection) -> None:
        """Send the request on `connection`."""
        request, pool = self._request, self._pool
        assert pool is not None
        self._connection = connection
        self._active_at = self._client.deadlines.clock.seconds()
        data = self._client.serialize(request, pool)
        body = None if isinstance(request.body, bytes) else request.body
        connection.start(self, request.method, data, body)

    # Called by Connection and its parser.

    def on_head(self, head: Head) -> None:
        """Take the head of a response, and decide what it asks for."""
        client = self._client
        if client.cookies is not None:
            client.cookies.store(self._request.url, head)
        if head.status in REDIRECT_STATUSES and self._request.follow:
            hops_left = client.settings.max_redirects - len(self.history)
            self._next = next_request(self._request, head, hops_left)
            if self._next is not None:
                self.history.append((self._request.url, head))
                self._unauthorized = 0
        elif head.status == _UNAUTHORIZED:
            self._unauthorized += 1
            if client.authenticator.challenged(self._request, head, self._unauthorized):
                self._next = self._request
        elif head.status == PROXY_AUTHENTICATION_REQUIRED and self._pool and self._pool.relay:
            raise refusal(self._pool.relay, head)
        if self._next is None and self._open(head):
            return
        self._is_discarding = True
        self.needs_no_more = head.length is None or head.length > _MAX_UNWANTED
        self._discards_until = self._client.deadlines.clock.seconds() + _UNWANTED_TIME

    def on_data(self, data: bytes) -> None:
        """Take a part of a body."""
        if self.done:
            raise Cancelled("the call is over")
        if self._flow is not None:
            self._flow.take(data)
        elif not self._is_discarding:
            self._receiver.received(data)

    def on_end(self) -> None:
        """Take the end of a response."""
        self._connection = None
        if self._is_discarding:
            self._discarded()
        else:
            self._has_ended = True
            self._finish()

    def on_lost(self, error: Exception, *, is_stale: bool) -> None:
        """Take the failure of a connection; `is_stale` if it may merely have expired."""
        error = self._attribute(error)
        self._connection = None
        request = self._request
        if self._is_discarding:
            self._discarded()
        elif is_stale and self._stale < _MAX_STALE and request.is_repeatable:
            self._stale += 1
            self._proceed(request)
        else:
            self._fail(error)

    # Called by Deadlines.

    def sweep(self, now: float) -> None:
        """Fail if the call takes too long."""
        if now >= self.deadline:
            error: Exception = TotalTimeout(f"not complete after {self._timeouts.total:g} s")
            self._fail(self._attribute(error))
        elif self._is_discarding and self._connection is not None:
            if now >= self._discards_until:
                self._connection.fail(UnwantedBody("the body takes too long"))
        elif self.active or (self._is_paused and self._is_open) or self._connection is None:
            self.active = False
            self._active_at = now
        elif now - self._active_at >= self._timeouts.idle:
            error = IdleTimeout(f"no data for {self._timeouts.idle:g} s")
            self._fail(self._attribute(error))

    def _attribute(self, error: Exception) -> Exception:
        """Return `error` as the proxy's, if the call waits for the proxy."""
        pool = self._pool
        proxy = pool and (pool.relay if self._connection else pool.proxy)
        return as_proxy_error(error, proxy) if proxy else error

    def _discarded(self) -> None:
        """Go on after an unwanted body, or without its rest."""
        if self._next is not None:
            self._proceed(self._next)
        else:
            self._close(self._unwanted)

    def _open(self, head: Head) -> bool:
        """Begin to deliver the final response; return whether the receiver wants its body.

        The receiver gets the head even if the response is refused for its body.
        """
        try:
            self._receiver.started(head, self._request.url)
        except UnwantedBody as unwanted:
            self._unwanted = unwanted
            return False
        limit = self._client.settings.max_body
        if limit is not None and head.length is not None and head.length > limit:
            raise BodyTooLarge(f"the body is longer than {limit} bytes")
        is_coded = head.encoding is not None and self._request.decode and head.length != 0
        if is_coded or limit is not None:
            limits = self._client.settings.decoding
            decoder = ContentDecoder(head.encoding or b"", limits) if is_coded else None
            self._flow = BodyFlow(self._receiver.received, decoder, limit)
        if head.length is not None and self._connection is not None:
            self._connection.expect_length(head.length)
        self._is_open = True
        if self._is_paused:
            self._hold()
        return True

    def _hold(self) -> None:
        if self._flow is None:
            self._flow = BodyFlow(self._receiver.received)
        self._flow.pause()
        if self._connection is not None:
            self._connection.pause()

    def _proceed(self, request: Request) -> None:
        self._request, self._next = request, None
        self._is_discarding = self.needs_no_more = False
        self.begin()

    def _finish(self) -> None:
        """End the call if all of the body has been delivered."""
        try:
            if self._flow is not None:
                self._flow.end()
                if not self._flow.done:
                    return
            self._close(None)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.done:
            return
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
        elif self._pool is not None:
            self._pool.withdraw(self)
        self._close(error)

    def _close(self, error: Exception | None) -> None:
        if not self.done:
            self.done = True
            if self._flow is not None:
                self._flow.pause()  # for good
            self._client.ended(self)
            self._receiver.finished(error)
