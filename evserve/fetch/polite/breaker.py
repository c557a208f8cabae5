"""A circuit breaker for each origin: one that is down is not asked ten thousand times."""

from enum import Enum, auto

from attrs import define, field


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
