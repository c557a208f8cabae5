"""The result of a run: the report as values, as text for people and as JSON for programs.

The report also says whether the generator itself was the limit (`saturation`), because its figures
are then not the server's.
"""

import json
from collections.abc import Iterator
from typing import Any

from attrs import asdict, frozen

from evserve.load.plan import Plan
from evserve.load.stats import Summary
from evserve.load.usage import Usage


_BUSY = 0.9  # of one core
_LATE = 0.010  # seconds
DISTURBED = 0.25  # of the time, from which on figures say more about other programs
_MICRO = 1e-6
_KILO, _MEGA = 1e3, 1e6


@frozen
class ConnectionCounts:
    """How many connections opened, in how many seconds; how many failed or were lost, by cause."""

    opened: int
    seconds: float
    failed: dict[str, int]
    lost: dict[str, int]


@frozen
class ServerUsage:
    """What the server's processes used: CPU in seconds during the measurement, memory in bytes.

    `memory_before` is from before the first connection, `memory` from the end of the measurement,
    when all connections are open; so memory per connection includes what the messages needed. A
    page that several processes share is counted once per process in `memory` and once in total in
    `pss`, which is None if the kernel does not report it.
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
    """The result; latencies are in seconds, and `seconds` is the length of the measurement.

    `answered` counts answers during the measurement; `latencies` includes those that came shortly
    afterwards. `unanswered` messages were sent but not answered before the time-out or the loss of
    their connection. `lags` is how late an open loop sent; it is part of the latencies.
    `lost_share` is the share of the time (of the measurement, or of opening connections if it did
    not start) that other programs took from generator and server; None without `Plan.pid`.
    `listen_overflows` counts connections that the kernel dropped because a listen queue was full.
    """

    plan: Plan
    connections: ConnectionCounts
    seconds: float
    answered: int
    unanswered: int
    wrong: int
    first_wrong: str | None
    latencies: Summary
    lags: Summary | None
    busy: float  # share of the time in which the generator ran or waited for a CPU
    saturated: str | None  # why the generator was the limit, if it was
    server: ServerUsage | None
    interrupted: bool
    unready: str | None = None  # why nothing was measured, see Plan.ready_within
    is_late: bool = False  # the reason is that Plan.ready_within was over
    lost_share: float | None = None
    listen_overflows: int = 0

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.answered / self.seconds if self.seconds else 0.0

    @property
    def failure(self) -> str | None:
        """Why the run failed, None if it did not."""
        if self.wrong:
            return f"wrong answers on {self.wrong} connections: {self.first_wrong}"
        if not self.connections.opened and not self.interrupted:
            causes = ", ".join(self.connections.failed)
            return f"cannot connect to {self.plan.connect}: {causes}"
        if self.interrupted or self.unready is not None:
            return self.unready
        if not self.latencies.count:
            return "nothing was answered"
        if self.plan.count is not None and self.plan.seconds is None:
            missing = self.plan.count - self.answered
            if missing > 0:
                return f"{missing} of {self.plan.count} messages were not answered"
        return None


def server_usage(
    before: Usage,
    start: Usage,
    end: Usage,
    answered: int,
    connections: int,
    *,
    pss: tuple[int | None, int | None],
) -> ServerUsage:
    """Return the server's usage; `pss` is the value before any connection, and at the end.

    before: ahead of the first connection.  start, end: of the measurement.
    """
    cpu = end.cpu - start.cpu
    pss_before, pss_after = pss
    growth = None if pss_before is None or pss_after is None else pss_after - pss_before
    return ServerUsage(
        cpu,
        cpu / answered if answered else None,
        before.memory,
        end.memory,
        (end.memory - before.memory) / connections if connections else None,
        end.processes,
        pss_before,
        pss_after,
        growth / connections if connections and growth is not None else None,
    )


def saturation(busy: float, lags: Summary | None, latencies: Summary) -> str | None:
    """Return why the generator was the limit, None if it was not; `lags` are an open loop's.

    An open loop that sends late did not keep its rate. Latencies contain that, so it matters if it
    is more than half of them: the answers of an overloaded server take longer than that. A closed
    loop that never sleeps cannot send faster. Waiting for a CPU counts as busy: a generator that
    shares its core with the server does not measure the server either.
    """
    if lags is not None:
        if lags.p99 > max(_LATE, latencies.p99 / 2):
            return f"1 % of the messages were sent more than {lags.p99 * 1000:.0f} ms late"
        return None
    if busy >= _BUSY:
        return f"it ran, or waited for a CPU, {busy:.0%} of the time"
    return None


def as_json(report: Report) -> str:
    """Return the report as one JSON object on a line."""
    values = asdict(report, value_serializer=_serialize)
    values["rate"], values["failure"] = report.rate, report.failure
    return json.dumps(values) + "\n"


def _serialize(instance: object, attribute: object, value: Any) -> Any:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def as_text(report: Report) -> str:
    """Return the report as a few lines."""
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield _title(report.plan)
    yield from _connection_lines(report.connections, report.listen_overflows)
    if report.connections.opened:
        megabytes = report.rate * report.plan.size / _MEGA  # per second, in one direction
        yield (
            f"answers      {report.answered:,} in {report.seconds:.2f} s: {report.rate:,.0f}/s, "
            f"{megabytes:,.2f} MB/s"
        )
    if report.latencies.count:
        yield f"latency      {_format_summary(report.latencies)}"
    if report.lags is not None:
        yield f"sent late    {_format_summary(report.lags)} (part of the latency)"
    if report.wrong:
        yield f"WRONG        on {report.wrong:,} connections, such as {report.first_wrong}"
    if report.unanswered:
        yield f"unanswered   {report.unanswered:,}"
    if report.server is not None:
        yield from _server_lines(report.server)
    yield f"generator    busy {report.busy:.0%} of the time"
    yield from _doubts(report)


def _doubts(report: Report) -> Iterator[str]:
    if report.saturated is not None:
        yield f"SATURATED    the generator was the limit, not the server: {report.saturated}"
    if report.lost_share is not None and report.lost_share >= DISTURBED:
        yield f"DISTURBED    other programs used the CPU for {report.lost_share:.0%} of the time"
    if report.interrupted:
        yield "INTERRUPTED  the figures cover the time until then"


def _title(plan: Plan) -> str:
    loop = f"{plan.depth} in flight each" if plan.rate is None else f"{plan.rate:,g} messages/s"
    idle = f", {plan.idle:,} idle" if plan.idle else ""
    kind = "bytes" if plan.line is None else "bytes a line"
    return f"{plan.connect}: {plan.connections:,} connections{idle}, {plan.size:,} {kind}, {loop}"


def _connection_lines(connections: ConnectionCounts, overflows: int) -> Iterator[str]:
    yield f"connected    {connections.opened:,} in {connections.seconds:.2f} s"
    for title, causes in (("not connected", connections.failed), ("lost", connections.lost)):
        for cause, count in causes.items():
            yield f"{title:<12} {count:,}: {cause}"
    if overflows:
        yield f"overflows    {overflows:,} times a listen queue was full (ListenOverflows)"


def _server_lines(server: ServerUsage) -> Iterator[str]:
    processes = f" in {server.processes} processes" if server.processes > 1 else ""
    cost = server.cpu_per_message
    per_message = "" if cost is None else f", {cost / _MICRO:,.1f} us per message"
    yield f"server CPU   {server.cpu:.2f} s{per_message}{processes}"
    growth = server.memory_per_connection
    per_connection = "" if growth is None else f", {growth / _KILO:z,.1f} kB more per connection"
    yield f"server RSS   {server.memory / _MEGA:,.1f} MB{per_connection}"
    if server.pss is not None and server.processes > 1:
        yield f"server PSS   {server.pss / _MEGA:,.1f} MB, shared pages counted once"


def _format_summary(summary: Summary) -> str:
    values = {
        "p50": summary.p50,
        "p90": summary.p90,
        "p99": summary.p99,
        "p99.9": summary.p999,
        "max": summary.max,
    }
    return "  ".join(f"{name} {format_duration(value)}" for name, value in values.items())


def format_duration(seconds: float) -> str:
    """Return a duration in s, ms or us with three digits."""
    for least, unit in ((1, "s"), (1e-3, "ms")):
        if seconds >= least:
            return f"{seconds / least:.3g} {unit}"
    return f"{seconds / _MICRO:.3g} us"


def progress_line(elapsed: float, answered: int, connections: int, p99: float) -> str:
    """Return a line on the progress of a run; `elapsed` and `p99` are in seconds."""
    rate = answered / elapsed if elapsed > 0 else 0
    return (
        f"{elapsed:.0f} s: {connections:,} connections, {answered:,} answers, {rate:,.0f}/s, "
        f"p99 {format_duration(p99)}"
    )
