"""A circuit breaker for each origin: one that is down is not asked ten thousand times."""

from enum import Enum, auto

from attrs import define, field

from evserve.fetch.errors import OriginDown, ProxyDown
from evserve.http.errors import (
    ConnectFailed,
    ConnectionLost,
    FetchError,
    ProxyUnreachable,
    TimedOut,
    TLSFailed,
)
from evserve.http.proxies import Proxy
from evserve.http.url import Origin


class State(Enum):
    """What is known of an origin."""

    WORKING = auto()  # as far as we know
    RESTING = auto()  # it failed; what waits for it waits a little longer
    PROBING = auto()  # it has rested: the next report decides
    DOWN = auto()  # it was given up for a good while; what waits for it fails


class Report(Enum):
    """What happens to a breaker."""

    ANSWERED = auto()
    FAILED = auto()
    FAILED_OFTEN = auto()  # often enough in a row
    FAILED_LAST = auto()  # and rested often enough
    RESTED = auto()


TRANSITIONS: dict[tuple[State, Report], State] = {
    **{(state, Report.ANSWERED): State.WORKING for state in State},
    (State.WORKING, Report.FAILED): State.WORKING,
    (State.WORKING, Report.FAILED_OFTEN): State.RESTING,
    # Failures of requests that were under way before it rested.
    (State.RESTING, Report.FAILED): State.RESTING,
    (State.DOWN, Report.FAILED): State.DOWN,
    (State.RESTING, Report.RESTED): State.PROBING,
    (State.DOWN, Report.RESTED): State.PROBING,
    (State.PROBING, Report.FAILED_OFTEN): State.RESTING,
    (State.PROBING, Report.FAILED_LAST): State.DOWN,
}


@define(eq=False)
class Breaker:
    """Counts failures: connections that could not be made, broke or fell silent.

    threshold: failures in a row until it rests.  rests: seconds, longer from one time to the
    next; after the last one it is down for `down` seconds. Any answer, whatever its status, is a
    sign of life and begins it all anew.
    """

    threshold: int = 5
    rests: tuple[float, ...] = (1.0, 4.0)
    down: float = 300.0
    state: State = field(default=State.WORKING, init=False)
    reason: str = field(default="", init=False)  # of the last failure
    _failures: int = field(default=0, init=False)
    _rested: int = field(default=0, init=False)  # times
    _until: float = field(default=0.0, init=False)

    def answered(self) -> None:
        """Note a response."""
        if self._failures:
            self._failures = self._rested = 0
            self._enter(Report.ANSWERED)

    def failed(self, reason: str, now: float) -> float:
        """Note a failure; return for how many seconds to leave the origin alone, mostly 0."""
        self._failures += 1
        self.reason = reason
        if self.state in (State.RESTING, State.DOWN) and now >= self._until:
            self._enter(Report.RESTED)
        if self.state is State.PROBING or (
            self.state is State.WORKING and self._failures >= self.threshold
        ):
            return self._rest(now)
        self._enter(Report.FAILED)
        return 0.0

    def is_down(self, now: float) -> bool:
        """Whether nothing should be sent at all."""
        return self.state is State.DOWN and now < self._until

    def _rest(self, now: float) -> float:
        if self.state is State.PROBING and self._rested >= len(self.rests):
            self._enter(Report.FAILED_LAST)
            self._until = now + self.down
            return 0.0
        self._enter(Report.FAILED_OFTEN)
        rest = self.rests[min(self._rested, len(self.rests) - 1)]
        self._rested += 1
        self._until = now + rest
        return rest

    def _enter(self, report: Report) -> None:
        self.state = TRANSITIONS[self.state, report]


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
