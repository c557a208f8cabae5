"""One origin's connections: idle, busy, being made; and the calls that wait for one.

Connections kept and shared: so many to each origin, so many in all, the rest wait.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

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
from evserve.http.proxy import Proxy, at_proxy
from evserve.http.request import Tail
from evserve.http.settings import Settings
from evserve.http.url import Origin


class Waiter(Protocol):
    """Who wants a connection."""

    def assign(self, connection: Connection) -> None:
        """Take it, and start."""

    def refuse(self, error: Exception) -> None:
        """There is none to be had."""


class SharedPool(Protocol):
    """What all slots together decide."""

    settings: Settings
    deadlines: Deadlines

    def may_open(self, slot: "Slot") -> bool:
        """Whether one more connection may be opened."""

    def closed(self, slot: "Slot") -> None:
        """One connection less."""

    def emptied(self, slot: "Slot") -> None:
        """Perhaps nobody needs the slot any more."""

    def rested(self, slot: "Slot", connection: Connection) -> bool:
        """Whether an unused connection may stay."""


@define(eq=False)
class Attempt:
    """A connection being made, TLS included."""

    slot: "Slot"
    connection: Connection
    deadline: float
    connecting: Deferred[IProtocol] | None = None

    def begin(self, endpoint: IStreamClientEndpoint) -> None:
        """Connect."""
        factory = Factory.forProtocol(lambda: self.connection)
        factory.noisy = False
        self.connecting = endpoint.connect(factory)
        self.connecting.addCallbacks(self._connected, self._failed)

    def sweep(self, now: float) -> None:
        """See Watched."""
        if now >= self.deadline:
            self.give_up(ConnectTimeout(f"{self.place} does not answer"))

    @property
    def proxy(self) -> Proxy | None:
        """The proxy, as long as there is no way through it."""
        is_through = self.slot.origin.is_tls and self.connection.transport is not None
        return None if is_through else self.slot.proxy

    @property
    def place(self) -> Origin:
        """Who is to answer now."""
        proxy = self.proxy
        return self.slot.origin if proxy is None else proxy.origin

    def give_up(self, error: Exception) -> None:
        """Stop connecting, or the handshake."""
        self.slot.failed(self, error)
        if self.connecting is not None:
            self.connecting.cancel()
        self.connection.close()

    def _connected(self, _: IProtocol) -> None:
        self.connecting = None

    def _failed(self, failure: Failure) -> None:
        self.connecting = None
        self.slot.failed(self, explain_connecting(failure, self.place))


@define(eq=False)
class Slot:
    """Gives connections to who waits, first come first served, and makes no more than it may."""

    _pool: SharedPool
    origin: Origin
    proxy: Proxy | None
    _endpoint: IStreamClientEndpoint
    idle: list[Connection] = field(factory=list, init=False)  # longest idle first
    _waiting: deque[Waiter] = field(factory=deque, init=False)
    _attempts: dict[Connection, Attempt] = field(factory=dict, init=False)
    _open: set[Connection] = field(factory=set, init=False)
    tail: Tail | None = field(default=None, init=False)  # of the last plain request

    @property
    def is_secure(self) -> bool:
        """Whether a connection begins with a handshake, the origin's or the proxy's."""
        return self.origin.is_tls or (self.proxy is not None and self.proxy.origin.is_tls)

    @property
    def relay(self) -> Proxy | None:
        """The proxy, if it reads the requests and answers them."""
        return None if self.origin.is_tls else self.proxy

    @property
    def is_empty(self) -> bool:
        """Whether nobody would miss it."""
        return not self._open and not self._waiting

    def submit(self, waiter: Waiter) -> None:
        """Give a connection to `waiter`, now or when there is one."""
        if self.idle:
            waiter.assign(self.idle.pop())
        else:
            self._waiting.append(waiter)
            self.grow()

    def withdraw(self, waiter: Waiter) -> None:
        """Forget a waiter."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            self._pool.emptied(self)

    def grow(self) -> None:
        """Make connections for those who wait, as far as the limits allow."""
        while (
            len(self._attempts) < len(self._waiting)
            and len(self._open) < self._pool.settings.per_origin
            and self._pool.may_open(self)
        ):
            settings = self._pool.settings
            connection = Connection(self, settings.headers, secure=self.is_secure)
            self._open.add(connection)
            now = self._pool.deadlines.clock.seconds()
            attempt = Attempt(self, connection, now + settings.timeouts.connect)
            self._attempts[connection] = attempt
            self._pool.deadlines.add(attempt, now)
            attempt.begin(self._endpoint)

    def failed(self, attempt: Attempt, error: Exception) -> None:
        """An attempt came to nothing: so does the wait of the one who has waited longest."""
        if attempt.proxy is not None:
            error = at_proxy(error, attempt.proxy)
        if self._forget(attempt.connection):
            waiter = self._waiting.popleft() if self._waiting else None
            self._closed(attempt.connection)
            if waiter is not None:
                waiter.refuse(error)

    def ready(self, connection: Connection) -> None:
        """See connection.Owner."""
        if self._forget(connection):
            self.free(connection)

    def free(self, connection: Connection) -> None:
        """See connection.Owner."""
        if self._waiting:
            self._waiting.popleft().assign(connection)
        elif self._pool.rested(self, connection):
            self.idle.append(connection)
        else:
            connection.close()

    def gone(self, connection: Connection, error: FetchError) -> None:
        """See connection.Owner."""
        attempt = self._attempts.get(connection)
        if attempt is not None:
            never = f"{attempt.place} closed the connection before it could be used"
            lost = ConnectFailed(never) if isinstance(error, ConnectionLost) else error
            self.failed(attempt, lost)
            return
        if connection in self.idle:
            self.idle.remove(connection)
        self._closed(connection)

    def expire(self, before: float) -> None:
        """Close what has been idle since `before` or longer."""
        while self.idle and self.idle[0].idle_since <= before:
            self.evict()

    def evict(self) -> None:
        """Close the connection that has been idle longest."""
        self.idle.pop(0).close()

    def close(self) -> None:
        """Close and refuse all; busy connections end with their calls."""
        self.expire(float("inf"))
        for attempt in tuple(self._attempts.values()):
            attempt.give_up(Cancelled("the client is closed"))

    def _forget(self, connection: Connection) -> bool:
        attempt = self._attempts.pop(connection, None)
        if attempt is not None:
            self._pool.deadlines.discard(attempt)
        return attempt is not None

    def _closed(self, connection: Connection) -> None:
        if connection in self._open:  # giving up and losing it may both come this way
            self._open.remove(connection)
            self.grow()
            self._pool.closed(self)


@define(eq=False)
class Pool:
    """The slots by origin, and what they share: a limit, idle connections that expire."""

    settings: Settings
    deadlines: Deadlines
    _endpoint: Callable[[Origin, Proxy | None], IStreamClientEndpoint]
    _slots: dict[tuple[Origin, Proxy | None], Slot] = field(factory=dict, init=False)
    _starving: deque[Slot] = field(factory=deque, init=False)
    _open: int = field(default=0, init=False)

    def slot(self, origin: Origin, proxy: Proxy | None) -> Slot:
        """Return the slot for an origin; it lives while it has connections or calls."""
        key = (origin, proxy)
        slot = self._slots.get(key)
        if slot is None:
            endpoint = self._endpoint(origin, proxy)
            slot = self._slots[key] = Slot(self, origin, proxy, endpoint)
        return slot

    @property
    def open(self) -> int:
        """How many connections there are, those being made included."""
        return self._open

    def may_open(self, slot: Slot) -> bool:
        """Count a connection in if there is room; if not, `slot` is told when there is."""
        if self._open >= self.settings.connections and not self._evict():
            if slot not in self._starving:
                self._starving.append(slot)
            return False
        self._open += 1
        return True

    def closed(self, slot: Slot) -> None:
        """Count a connection out."""
        self._open -= 1
        self.emptied(slot)
        while self._starving and self._open < self.settings.connections:
            self._starving.popleft().grow()

    def emptied(self, slot: Slot) -> None:
        """Forget a slot if nobody would miss it."""
        if slot.is_empty:
            self._slots.pop((slot.origin, slot.proxy), None)

    def rested(self, slot: Slot, connection: Connection) -> bool:
        """A connection has nothing to do; return whether it may be kept for later."""
        if self._starving:
            return False
        now = self.deadlines.clock.seconds()
        connection.idle_since = now
        self.deadlines.add(self, now)
        return True

    @property
    def deadline(self) -> float:
        """See Watched: idle connections may stay a tick longer."""
        return float("inf")

    def sweep(self, now: float) -> None:
        """See Watched: close what has been idle for too long."""
        kept = 0
        for slot in tuple(self._slots.values()):
            slot.expire(now - self.settings.keep_idle)
            kept += len(slot.idle)
        if not kept:
            self.deadlines.discard(self)

    def close(self) -> None:
        """Close every connection."""
        for slot in tuple(self._slots.values()):
            slot.close()

    def _evict(self) -> bool:
        """Close the connection that has been idle longest, if any is."""
        slots = [slot for slot in self._slots.values() if slot.idle]
        if not slots:
            return False
        slot = min(slots, key=lambda slot: slot.idle[0].idle_since)
        slot.evict()
        return True
