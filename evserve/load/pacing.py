"""The open loop's clock: sends what is due, whatever the server does."""

from collections.abc import Callable
from itertools import islice
from typing import Any

from attrs import define, field

from evserve.load.connections import Crowd
from evserve.load.traffic import Pace, Traffic


_AT_ONCE = 1000  # messages; beyond, whoever is late would not read answers either


@define(eq=False)
class Pacemaker:
    """Lets connections take turns at sending, `rate` messages a second in total."""

    _reactor: Any
    _crowd: Crowd
    _traffic: Traffic
    _now: Callable[[], float]
    _pace: Pace
    _timer: Any = field(default=None, init=False)

    def start(self) -> None:
        """Send what is due, now and from now on."""
        if self._send_due():
            wait = max(0.0, self._pace.next - self._now())
            self._timer = self._reactor.callLater(wait, self.start)

    def stop(self) -> None:
        """Send no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _send_due(self) -> bool:
        """Say whether there is more to come."""
        now = self._now()
        for intended in islice(self._pace.due(now), _AT_ONCE):
            connection = self._crowd.next()
            if connection is None or not self._traffic.take(1):
                return False
            self._traffic.lags.record(now - intended)
            connection.send_due(intended)
        return True
