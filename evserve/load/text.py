"""A report as text for people, and as JSON for programs."""

import json
from collections.abc import Iterator
from typing import Any

from attrs import asdict

from evserve.load.plan import Plan
from evserve.load.report import Report, ServerUse
from evserve.load.stats import Summary


_MICRO = 1e-6
_KILO, _MEGA = 1e3, 1e6


def as_json(report: Report) -> str:
    """Return the report as one JSON object on one line."""
    values = asdict(report, value_serializer=_plain)
    values["rate"], values["failure"] = report.rate, report.failure
    return json.dumps(values)


def _plain(instance: object, attribute: object, value: Any) -> Any:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def as_text(report: Report) -> str:
    """Return the report as a few lines."""
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield _title(report.plan)
    yield from _connections(report)
    if report.connections.opened:
        yield (
            f"answers      {report.answered:,} in {report.seconds:.2f} s: {report.rate:,.0f}/s, "
            f"{report.bytes_rate / _MEGA:,.2f} MB/s"
        )
    if report.latencies.count:
        yield f"latency      {_summary(report.latencies)}"
    if report.lags is not None:
        yield f"sent late    {_summary(report.lags)} (part of the latency)"
    if report.wrong:
        yield f"WRONG        on {report.wrong:,} connections, such as {report.first_wrong}"
    if report.unanswered:
        yield f"unanswered   {report.unanswered:,}"
    if report.server is not None:
        yield from _server(report.server)
    yield f"generator    busy {report.busy:.0%} of the time"
    yield from _verdict(report)


def _title(plan: Plan) -> str:
    loop = f"{plan.depth} in flight each" if plan.rate is None else f"{plan.rate:,g} messages/s"
    idle = f", {plan.idle:,} idle" if plan.idle else ""
    kind = "bytes" if plan.line is None else "bytes a line"
    return f"{plan.connect}: {plan.connections:,} connections{idle}, {plan.size:,} {kind}, {loop}"


def _connections(report: Report) -> Iterator[str]:
    connections = report.connections
    yield f"connected    {connections.opened:,} in {connections.seconds:.2f} s"
    for title, causes in (("not connected", connections.failed), ("lost", connections.lost)):
        for cause, count in causes.items():
            yield f"{title:<12} {count:,}: {cause}"


def _server(server: ServerUse) -> Iterator[str]:
    processes = f" in {server.processes} processes" if server.processes > 1 else ""
    each = server.cpu_per_message
    per_message = "" if each is None else f", {each / _MICRO:,.1f} us per message"
    yield f"server CPU   {server.cpu:.2f} s{per_message}{processes}"
    part = server.memory_per_connection
    per_connection = "" if part is None else f", {part / _KILO:z,.1f} kB more per connection"
    yield f"server RSS   {server.memory / _MEGA:,.1f} MB{per_connection}"
    if server.pss is not None and server.processes > 1:
        yield f"server PSS   {server.pss / _MEGA:,.1f} MB, what they share counted once"


def _verdict(report: Report) -> Iterator[str]:
    if report.saturated is not None:
        yield f"SATURATED    the generator was the limit, not the server: {report.saturated}"
    if report.interrupted:
        yield "INTERRUPTED  these are the figures until then"


def _summary(summary: Summary) -> str:
    names = ("p50", "p90", "p99", "p99.9", "max")
    values = (summary.p50, summary.p90, summary.p99, summary.p999, summary.max)
    return "  ".join(
        f"{name} {duration(value)}" for name, value in zip(names, values, strict=True)
    )


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    for least, unit in ((1, "s"), (1e-3, "ms")):
        if seconds >= least:
            return f"{seconds / least:.3g} {unit}"
    return f"{seconds / _MICRO:.3g} us"


def progress(elapsed: float, answered: int, connections: int, p99: float) -> str:
    """Return a line that tells how a run is going."""
    rate = answered / elapsed if elapsed > 0 else 0
    return (
        f"{elapsed:.0f} s: {connections:,} connections, {answered:,} answers, {rate:,.0f}/s, "
        f"p99 {duration(p99)}"
    )
