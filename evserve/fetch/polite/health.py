"""Who is down: origins, and the proxies before them, each with a breaker of its own."""

from attrs import define, field

from evserve.fetch.polite.breaker import Breaker
from evserve.fetch.refusals import OriginDown, ProxyDown
from evserve.http.errors import (
    ConnectFailed,
    ConnectionLost,
    FetchError,
    ProxyUnreachable,
    TimedOut,
    TLSFailed,
)
from evserve.http.proxy import Proxy
from evserve.http.url import Origin


Place = Origin | Proxy
_SILENCE = (ConnectFailed, ConnectionLost, TimedOut, TLSFailed, ProxyUnreachable)
_SEVERAL = 3  # origins in a row that nothing came from: then it is rather the proxy


@define(eq=False)
class Health:
    """Counts failures; any answer of an origin or a proxy, whatever it says, is a sign of life."""

    _breakers: dict[Place, Breaker] = field(factory=dict, init=False)
    _silent: dict[Proxy, set[Origin]] = field(factory=dict, init=False)  # since it was heard of

    def answered(self, origin: Origin, proxy: Proxy | None) -> None:
        """Note a response."""
        if self._breakers:
            self._breakers.pop(origin, None)
            self._heard_of(proxy)

    def failed(
        self, origin: Origin, proxy: Proxy | None, error: Exception | None, now: float
    ) -> tuple[Place | None, float]:
        """Note a request without response; return who is to blame, and how long it is to rest.

        Seconds, mostly 0; None if nobody is to blame.
        """
        if not isinstance(error, FetchError):
            return None, 0.0
        blamed = self._blamed(origin, proxy, error)
        if blamed is None:
            return None, 0.0
        return blamed, self._breakers.setdefault(blamed, Breaker()).failed(str(error), now)

    def _blamed(self, origin: Origin, proxy: Proxy | None, error: FetchError) -> Place | None:
        is_silence = isinstance(error, _SILENCE)
        if proxy is not None and error.is_at_proxy and isinstance(error, TimedOut):
            # One of the two was silent: one origin that hangs must not stop all the others.
            silent = self._silent.setdefault(proxy, set())
            if len(silent) < _SEVERAL:
                silent.add(origin)
            return origin if len(silent) < _SEVERAL else proxy
        blamed = (proxy if error.is_at_proxy else origin) if is_silence else None
        if blamed is not proxy and (is_silence or error.is_at_proxy):
            self._heard_of(proxy)  # it said no, or let us through
        return blamed

    def _heard_of(self, proxy: Proxy | None) -> None:
        if proxy is not None:
            self._breakers.pop(proxy, None)
            self._silent.pop(proxy, None)

    def trouble(self, origin: Origin, proxy: Proxy | None, now: float) -> FetchError | None:
        """Return why nothing should be sent there at all, None if it may."""
        if not self._breakers:
            return None
        if proxy is not None and self.is_down(proxy, now):
            return ProxyDown(f"{self._breakers[proxy].reason}, again and again")
        if self.is_down(origin, now):
            return OriginDown(f"{origin} is down, as it seems: {self._breakers[origin].reason}")
        return None

    def is_down(self, place: Place, now: float) -> bool:
        """Whether nothing should be sent there at all."""
        breaker = self._breakers.get(place)
        return breaker is not None and breaker.is_down(now)
