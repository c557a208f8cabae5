"""Connections: kept, shared and limited. `Pool` has an `OriginPool` for each origin and proxy."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from evserve.http.connect import explain_connecting
from evserve.http.connection import Connection
from evserve.http.deadlines import Deadlines
from evserve.http.errors import (
    Cancelled,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    FetchError,
)
from evserve.http.proxy import Proxy, as_proxy_error
from evserve.http.request import PlainSerializer
from evserve.http.settings import Settings
from evserve.http.url import Origin


if TYPE_CHECKING:
    from evserve.http.client import Call


@define(eq=False)
class Pool:
    """All connections of a client: their number is limited, and idle ones expire."""

    settings: Settings
    deadlines: Deadlines
    _endpoint: Callable[[Origin, Proxy | None], IStreamClientEndpoint]
    _origins: dict[tuple[Origin, Proxy | None], "OriginPool"] = field(factory=dict, init=False)
    _starving: deque["OriginPool"] = field(factory=deque, init=False)  # wait for the limit
    open: int = field(default=0, init=False)  # connections, with those being made

    def origin_pool(self, origin: Origin, proxy: Proxy | None) -> "OriginPool":
        """Return the pool of an origin. It lives while it has connections or calls."""
        key = (origin, proxy)
        pool = self._origins.get(key)
        if pool is None:
            endpoint = self._endpoint(origin, proxy)
            pool = self._origins[key] = OriginPool(self, origin, proxy, endpoint)
        return pool

    def close(self) -> None:
        """Close every connection."""
        for pool in tuple(self._origins.values()):
            pool.close()

    # Called by OriginPool.

    def may_open(self, pool: "OriginPool") -> bool:
        """Count a new connection if there is room. If not, `pool.grow` is called later."""
        if self.open >= self.settings.connections and not self._evict():
            if pool not in self._starving:
                self._starving.append(pool)
            return False
        self.open += 1
        return True

    def closed(self, pool: "OriginPool") -> None:
        """Count a connection that has ended."""
        self.open -= 1
        self.forget_if_empty(pool)
        while self._starving and self.open < self.settings.connections:
            self._starving.popleft().grow()

    def forget_if_empty(self, pool: "OriginPool") -> None:
        """Forget a pool without connections and calls."""
        if pool.is_empty:
            self._origins.pop((pool.origin, pool.proxy), None)

    def may_keep(self, connection: Connection) -> bool:
        """Whether an idle connection may stay open. If so, it will expire."""
        if self._starving:
            return False
        now = self.deadlines.clock.seconds()
        connection.idle_since = now
        self.deadlines.add(self, now)
        return True

    # Called by Deadlines.

    deadline = float("inf")  # idle connections may stay a tick longer

    def sweep(self, now: float) -> None:
        """Close connections that have been idle for too long."""
        kept = 0
        for pool in tuple(self._origins.values()):
            pool.expire(now - self.settings.keep_idle)
            kept += len(pool.idle)
        if not kept:
            self.deadlines.discard(self)

    def _evict(self) -> bool:
        """Close the connection that has been idle longest; return False if none is idle."""
        pools = [pool for pool in self._origins.values() if pool.idle]
        if not pools:
            return False
        min(pools, key=lambda pool: pool.idle[0].idle_since).evict()
        return True


@define(eq=False)
class OriginPool:
    """The connections to an origin, direct or through one proxy, and the calls that wait."""

    _pool: Pool
    origin: Origin
    proxy: Proxy | None
    _endpoint: IStreamClientEndpoint
    idle: list[Connection] = field(factory=list, init=False)  # longest idle first
    _waiting: deque["Call"] = field(factory=deque, init=False)
    _attempts: dict[Connection, "_ConnectAttempt"] = field(factory=dict, init=False)
    _open: set[Connection] = field(factory=set, init=False)  # idle, busy, and being made
    serializer: PlainSerializer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.serializer = PlainSerializer(self._pool.settings.user_agent)

    @property
    def relay(self) -> Proxy | None:
        """The proxy, if it reads the requests and answers them; None for a tunnel."""
        return None if self.origin.is_tls else self.proxy

    @property
    def is_empty(self) -> bool:
        """Whether there are neither connections nor calls."""
        return not self._open and not self._waiting

    def submit(self, call: "Call") -> None:
        """Assign a connection to `call` now or later, or cancel it with the error."""
        if self.idle:
            call.assign(self.idle.pop())
        else:
            self._waiting.append(call)
            self.grow()

    def withdraw(self, call: "Call") -> None:
        """Forget a call that waits."""
        if call in self._waiting:
            self._waiting.remove(call)
            self._pool.forget_if_empty(self)

    def grow(self) -> None:
        """Make connections for the calls that wait, as far as the limits allow."""
        while (
            len(self._attempts) < len(self._waiting)
            and len(self._open) < self._pool.settings.per_origin
            and self._pool.may_open(self)
        ):
            settings = self._pool.settings
            is_tls = self.origin.is_tls or (self.proxy is not None and self.proxy.origin.is_tls)
            connection = Connection(self, settings.headers, is_tls=is_tls)
            self._open.add(connection)
            now = self._pool.deadlines.clock.seconds()
            attempt = _ConnectAttempt(self, connection, now + settings.timeouts.connect)
            self._attempts[connection] = attempt
            self._pool.deadlines.add(attempt, now)
            attempt.begin(self._endpoint)

    def expire(self, before: float) -> None:
        """Close what has been idle since `before` or longer."""
        while self.idle and self.idle[0].idle_since <= before:
            self.evict()

    def evict(self) -> None:
        """Close the connection that has been idle longest."""
        self.idle.pop(0).close()

    def close(self) -> None:
        """Close idle connections, cancel attempts. Busy connections end with their calls."""
        self.expire(float("inf"))
        for attempt in tuple(self._attempts.values()):
            attempt.abort(Cancelled("the client is closed"))

    # Called by connections, and by attempts to make them.

    def ready(self, connection: Connection) -> None:
        """A connection was made, with TLS if it needs it."""
        if self._forget_attempt(connection):
            self.released(connection)

    def released(self, connection: Connection) -> None:
        """A connection can carry another request."""
        if self._waiting:
            self._waiting.popleft().assign(connection)
        elif self._pool.may_keep(connection):
            self.idle.append(connection)
        else:
            connection.close()

    def lost(self, connection: Connection, error: FetchError) -> None:
        """A connection has ended; `error` matters only if it was never ready."""
        attempt = self._attempts.get(connection)
        if attempt is not None:
            if isinstance(error, ConnectionLost):
                peer = attempt.peer
                error = ConnectFailed(f"{peer} closed the connection before it could be used")
            self.failed(attempt, error)
            return
        if connection in self.idle:
            self.idle.remove(connection)
        self._closed(connection)

    def failed(self, attempt: "_ConnectAttempt", error: Exception) -> None:
        """No connection was made, so the call that has waited longest fails."""
        if attempt.proxy is not None:
            error = as_proxy_error(error, attempt.proxy)
        if self._forget_attempt(attempt.connection):
            call = self._waiting.popleft() if self._waiting else None
            self._closed(attempt.connection)
            if call is not None:
                call.cancel(error)

    def _forget_attempt(self, connection: Connection) -> bool:
        attempt = self._attempts.pop(connection, None)
        if attempt is not None:
            self._pool.deadlines.discard(attempt)
        return attempt is not None

    def _closed(self, connection: Connection) -> None:
        if connection in self._open:  # aborting and losing it may both come here
            self._open.remove(connection)
            self.grow()
            self._pool.closed(self)


@define(eq=False)
class _ConnectAttempt:
    """A connection being made, with its TLS handshake."""

    _pool: OriginPool
    connection: Connection
    deadline: float
    _connecting: Deferred[IProtocol] | None = field(default=None, init=False)

    def begin(self, endpoint: IStreamClientEndpoint) -> None:
        factory = Factory.forProtocol(lambda: self.connection)
        factory.noisy = False
        self._connecting = endpoint.connect(factory)
        self._connecting.addErrback(self._failed)

    def sweep(self, now: float) -> None:
        if now >= self.deadline:
            self.abort(ConnectTimeout(f"{self.peer} does not answer"))

    @property
    def proxy(self) -> Proxy | None:
        """The proxy, until the tunnel through it is open."""
        is_through = self._pool.origin.is_tls and self.connection.transport is not None
        return None if is_through else self._pool.proxy

    @property
    def peer(self) -> Origin:
        """What must answer now: the proxy, or the origin."""
        proxy = self.proxy
        return self._pool.origin if proxy is None else proxy.origin

    def abort(self, error: Exception) -> None:
        self._pool.failed(self, error)
        if self._connecting is not None:
            self._connecting.cancel()
        self.connection.close()

    def _failed(self, failure: Failure) -> None:
        self._pool.failed(self, explain_connecting(failure, self.peer))
