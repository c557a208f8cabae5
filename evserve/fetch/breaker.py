"""Circuit breakers: an origin or proxy that is down does not get ten thousand requests.

Pure: nothing here knows Twisted or reads a clock; `now` is an argument, in seconds.
"""

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
from evserve.http.proxy import Proxy
from evserve.http.url import Origin


class State(Enum):
    """The states of a circuit breaker, with a short and a long form of open."""

    CLOSED = auto()  # requests pass
    PAUSED = auto()  # open for a moment: what waits for the peer waits a little longer
    HALF_OPEN = auto()  # the pause is over; the next outcome decides
    OPEN = auto()  # open for minutes: what waits for the peer fails


class Outcome(Enum):
    """What happens to a breaker."""

    ANSWERED = auto()
    FAILED = auto()
    FAILED_OFTEN = auto()  # in a row, up to the threshold
    FAILED_FINALLY = auto()  # after the last pause
    PAUSE_OVER = auto()


TRANSITIONS: dict[tuple[State, Outcome], State] = {
    **{(state, Outcome.ANSWERED): State.CLOSED for state in State},
    (State.CLOSED, Outcome.FAILED): State.CLOSED,
    (State.CLOSED, Outcome.FAILED_OFTEN): State.PAUSED,
    # Failures of requests that were in flight when the pause began.
    (State.PAUSED, Outcome.FAILED): State.PAUSED,
    (State.OPEN, Outcome.FAILED): State.OPEN,
    (State.PAUSED, Outcome.PAUSE_OVER): State.HALF_OPEN,
    (State.OPEN, Outcome.PAUSE_OVER): State.HALF_OPEN,
    (State.HALF_OPEN, Outcome.FAILED_OFTEN): State.PAUSED,
    (State.HALF_OPEN, Outcome.FAILED_FINALLY): State.OPEN,
}


@define(eq=False)
class Breaker:
    """Counts failures in a row: connections that cannot be made, break or fall silent.

    threshold: failures before the first pause.  pauses: seconds of each; after the last one the
    breaker opens for `open_for` seconds. Any response, whatever its status, closes it.
    """

    threshold: int = 5
    pauses: tuple[float, ...] = (1.0, 4.0)
    open_for: float = 300.0
    state: State = field(default=State.CLOSED, init=False)
    reason: str = field(default="", init=False)  # of the last failure
    _failures: int = field(default=0, init=False)
    _pauses_taken: int = field(default=0, init=False)
    _until: float = field(default=0.0, init=False)

    def answered(self) -> None:
        """Note a response."""
        if self._failures:
            self._failures = self._pauses_taken = 0
            self._enter(Outcome.ANSWERED)

    def failed(self, reason: str, now: float) -> float:
        """Note a failure; return how many seconds to send nothing, mostly 0."""
        self._failures += 1
        self.reason = reason
        if self.state in (State.PAUSED, State.OPEN) and now >= self._until:
            self._enter(Outcome.PAUSE_OVER)
        if self.state is State.HALF_OPEN or (
            self.state is State.CLOSED and self._failures >= self.threshold
        ):
            return self._pause_or_open(now)
        self._enter(Outcome.FAILED)
        return 0.0

    def is_open(self, now: float) -> bool:
        """Whether nothing may be sent."""
        return self.state is State.OPEN and now < self._until

    def _pause_or_open(self, now: float) -> float:
        if self.state is State.HALF_OPEN and self._pauses_taken >= len(self.pauses):
            self._enter(Outcome.FAILED_FINALLY)
            self._until = now + self.open_for
            return 0.0
        self._enter(Outcome.FAILED_OFTEN)
        pause = self.pauses[min(self._pauses_taken, len(self.pauses) - 1)]
        self._pauses_taken += 1
        self._until = now + pause
        return pause

    def _enter(self, outcome: Outcome) -> None:
        self.state = TRANSITIONS[self.state, outcome]


Peer = Origin | Proxy
# Errors after which the peer may be down; all others are answers of some kind.
_PEER_FAILURES = (ConnectFailed, ConnectionLost, TimedOut, TLSFailed, ProxyUnreachable)
_ORIGINS_OF_DEAD_PROXY = 3  # silent in a row through one proxy: then the proxy is at fault


@define(eq=False)
class Breakers:
    """A breaker for each origin and proxy that fails."""

    _breakers: dict[Peer, Breaker] = field(factory=dict, init=False)
    # By proxy, the origins that timed out since anything came through it.
    _silent: dict[Proxy, set[Origin]] = field(factory=dict, init=False)

    def answered(self, origin: Origin, proxy: Proxy | None) -> None:
        """Note a response."""
        if self._breakers:
            self._breakers.pop(origin, None)
            self._proxy_works(proxy)

    def failed(
        self, origin: Origin, proxy: Proxy | None, error: Exception | None, now: float
    ) -> tuple[Peer | None, float]:
        """Note a request without response; return the peer at fault and the seconds to pause.

        (None, 0.0) if the error says nothing about either.
        """
        if not isinstance(error, FetchError):
            return None, 0.0
        peer = self._peer_at_fault(origin, proxy, error)
        if peer is None:
            return None, 0.0
        return peer, self._breakers.setdefault(peer, Breaker()).failed(str(error), now)

    def error(self, origin: Origin, proxy: Proxy | None, now: float) -> FetchError | None:
        """Return why nothing may be sent to `origin`; None if requests may go there."""
        if not self._breakers:
            return None
        if proxy is not None and self.is_open(proxy, now):
            return ProxyDown(f"{self._breakers[proxy].reason}, again and again")
        if self.is_open(origin, now):
            return OriginDown(f"{origin} seems to be down: {self._breakers[origin].reason}")
        return None

    def is_open(self, peer: Peer, now: float) -> bool:
        """Whether nothing may be sent to `peer`."""
        breaker = self._breakers.get(peer)
        return breaker is not None and breaker.is_open(now)

    def _peer_at_fault(
        self, origin: Origin, proxy: Proxy | None, error: FetchError
    ) -> Peer | None:
        is_failure = isinstance(error, _PEER_FAILURES)
        if proxy is not None and error.is_at_proxy and isinstance(error, TimedOut):
            # Either may be silent: one origin that hangs must not stop all the others.
            silent = self._silent.setdefault(proxy, set())
            if len(silent) < _ORIGINS_OF_DEAD_PROXY:
                silent.add(origin)
            return origin if len(silent) < _ORIGINS_OF_DEAD_PROXY else proxy
        if is_failure and error.is_at_proxy:
            return proxy
        if is_failure or error.is_at_proxy:
            self._proxy_works(proxy)  # it answered with an error, or let the request through
        return origin if is_failure else None

    def _proxy_works(self, proxy: Proxy | None) -> None:
        if proxy is not None:
            self._breakers.pop(proxy, None)
            self._silent.pop(proxy, None)
