"""Connections kept and shared: so many to each origin, so many in all, the rest wait."""

from collections import deque
from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IStreamClientEndpoint

from evserve.http.connection import Connection
from evserve.http.deadlines import Deadlines
from evserve.http.proxies import Proxy
from evserve.http.settings import Settings
from evserve.http.slot import Slot
from evserve.http.url import Origin


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
