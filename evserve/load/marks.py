"""The figures at the two ends of the measurement, and the report that follows from them."""

from collections.abc import Callable

from attrs import frozen

from evserve.load.connections import Crowd
from evserve.load.plan import Plan
from evserve.load.report import Connections, Report, server_use
from evserve.load.saturation import busy_share, saturation
from evserve.load.traffic import Traffic
from evserve.load.usage import OwnUsage, Usage, usage_of


@frozen
class Mark:
    """One moment of a run."""

    at: float
    answered: int
    open: int
    own: OwnUsage
    server: Usage | None

    @classmethod
    def begin(cls, count: "Count", pid: int | None) -> "Mark":
        """Note the figures of the moment when this returns; a server that is gone has none.

        Reading /proc takes its time where a server has thousands of processes: it stays outside.
        """
        server = _server(pid)
        return cls(*count(), OwnUsage.now(), server)

    @classmethod
    def end(cls, count: "Count", pid: int | None) -> "Mark":
        """Note the figures of the moment when this is called."""
        at, answered, connections = count()
        own = OwnUsage.now()
        return cls(at, answered, connections, own, _server(pid))


# The time, the number of answers and the number of open connections.
Count = Callable[[], tuple[float, int, int]]


def _server(pid: int | None) -> Usage | None:
    try:
        return None if pid is None else usage_of(pid)
    except ProcessLookupError:
        return None


@frozen
class Window:
    """What was measured: from before any connection, and between two marks."""

    before: Mark
    opening: float  # seconds it took to connect
    start: Mark
    end: Mark
    interrupted: bool
    unready: str | None
    pss: tuple[int | None, int | None]  # before any connection, and with all of them, in bytes

    def report(self, plan: Plan, crowd: Crowd, traffic: Traffic) -> Report:
        """Return the report."""
        before, start, end = self.before.server, self.start.server, self.end.server
        lags = None if plan.rate is None else traffic.lags.summary()
        busy = busy_share(self.start.own, self.end.own)
        server = None
        if before is not None and start is not None and end is not None:
            server = server_use(before, start, end, self.end.answered, self.end.open, pss=self.pss)
        return Report(
            plan=plan,
            connections=Connections(
                crowd.total, self.opening, dict(crowd.failed), dict(crowd.ended)
            ),
            seconds=self.end.at - self.start.at,
            answered=self.end.answered,
            unanswered=traffic.unanswered + traffic.in_flight,
            wrong=len(crowd.mismatches),
            first_wrong=crowd.mismatches[0] if crowd.mismatches else None,
            latencies=traffic.latencies.summary(),
            lags=lags,
            busy=busy,
            saturated=saturation(busy, lags) if self.end.answered else None,
            server=server,
            interrupted=self.interrupted,
            unready=None if self.interrupted else self.unready,
        )
