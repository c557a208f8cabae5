"""What came of a run, as values: for a person, for JSON, for whoever called."""

from attrs import frozen

from evserve.load.plan import Plan
from evserve.load.stats import Summary
from evserve.load.usage import Usage


@frozen
class Connections:
    """How many were opened, in how many seconds; how many not, and lost later, by cause."""

    opened: int
    seconds: float
    failed: dict[str, int]
    lost: dict[str, int]


@frozen
class ServerUse:
    """What the server's processes used: CPU in seconds while measured, memory in bytes.

    `memory_before` is from before the first connection, `memory` from the end of the measurement,
    when all are still open; the difference per connection includes what the traffic needed. A
    page that processes share counts for each of them there, and once in all in `pss`, which is
    None where the kernel does not tell.
    """

    cpu: float
    cpu_per_message: float | None
    memory_before: int
    memory: int
    memory_per_connection: float | None
    processes: int
    pss_before: int | None
    pss: int | None
    pss_per_connection: float | None


@frozen
class Report:
    """The result. Latencies are in seconds; `seconds` is how long the measurement took.

    `answered` counts answers while it was measured; `latencies` also those that came just after.
    `unanswered` messages were sent and never answered, on lost connections or within the time-out.
    `lags` says how late an open loop's messages were sent; it is part of their latencies.
    """

    plan: Plan
    connections: Connections
    seconds: float
    answered: int
    unanswered: int
    wrong: int
    first_wrong: str | None
    latencies: Summary
    lags: Summary | None
    busy: float  # share of the time in which the generator itself was at work
    saturated: str | None
    server: ServerUse | None
    interrupted: bool
    unready: str | None = None  # why nothing was measured, see Plan.ready_within

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds if self.seconds else 0.0

    @property
    def bytes_rate(self) -> float:
        """Bytes a second, one way."""
        return self.rate * self.plan.size

    @property
    def failure(self) -> str | None:
        """Why the run failed, or None."""
        if self.wrong:
            return f"wrong answers on {self.wrong} connections: {self.first_wrong}"
        if not self.connections.opened and not self.interrupted:
            causes = ", ".join(self.connections.failed)
            return f"cannot connect to {self.plan.connect}: {causes}"
        if self.interrupted or self.unready is not None:
            return self.unready
        if not self.latencies.count:
            return "nothing was answered"
        if self.plan.count is not None and self.plan.seconds is None and self._missing:
            return f"{self._missing} of {self.plan.count} messages were not answered"
        return None

    @property
    def _missing(self) -> int:
        return max(0, (self.plan.count or 0) - self.answered)


def server_use(
    before: Usage,
    start: Usage,
    end: Usage,
    answered: int,
    connections: int,
    *,
    pss: tuple[int | None, int | None],
) -> ServerUse:
    """Return what the server used between `start` and `end`, and since `before` any connection."""
    cpu = end.cpu - start.cpu
    pss_before, pss_after = pss
    grown = None if pss_before is None or pss_after is None else pss_after - pss_before
    return ServerUse(
        cpu,
        cpu / answered if answered else None,
        before.memory,
        end.memory,
        (end.memory - before.memory) / connections if connections else None,
        end.processes,
        pss_before,
        pss_after,
        grown / connections if connections and grown is not None else None,
    )
