"""From what the generator saw and the program said to what became of a model."""

from attrs import frozen

from evserve.lab.results import Cell, Figures, Outcome
from evserve.load.report import Report, ServerUsage


@frozen
class Ending:
    """What is known of the program when the load is over.

    reason: how it ended by itself, None if it still ran.  complaint: its last word on standard
    error, if there was any.
    """

    reason: str | None = None
    complaint: str | None = None


def classify(report: Report, ending: Ending) -> Cell:
    """Return the cell of a run."""
    plan = report.plan
    connections, active = plan.connections + plan.idle, plan.connections
    why = _why_broken(report, ending)
    if why is not None:
        return Cell(connections, active, Outcome.BROKE, why)
    if report.server is None or report.server.cpu_per_message is None:
        return Cell(connections, active, Outcome.BROKE, "its figures could not be read")
    figures = _figures(report, report.server, connections)
    return Cell(connections, active, Outcome.MEASURED, ending.complaint, figures)


def _why_broken(report: Report, ending: Ending) -> str | None:
    """Say what went wrong, in the program's own words where it has some; None if nothing."""
    seen = _seen(report)
    if ending.reason is not None:
        return ending.reason
    # The generator hangs up on a wrong answer, and what a server says then is no cause.
    if seen is not None and ending.complaint is not None and not report.wrong:
        return f"{ending.complaint} ({seen})"
    return seen


def _seen(report: Report) -> str | None:
    if report.wrong:
        return f"wrong answers on {report.wrong:,} connections: {report.first_wrong}"
    if report.unready is not None:
        return report.unready
    lost = report.connections.lost
    if lost:
        return f"{sum(lost.values()):,} connections were lost: {max(lost, key=lambda c: lost[c])}"
    if report.unanswered:
        active = report.plan.connections
        return f"{report.unanswered:,} of {active:,} active connections were left unanswered"
    if not report.answered:
        return "nothing was answered"
    return None


def _figures(report: Report, use: ServerUsage, connections: int) -> Figures:
    before = use.memory_before if use.pss_before is None else use.pss_before
    memory = use.memory if use.pss is None else use.pss
    return Figures(
        seconds=report.seconds,
        connect_seconds=report.connections.seconds,
        messages=report.answered,
        messages_per_second=report.rate,
        p50_seconds=report.latencies.p50,
        p99_seconds=report.latencies.p99,
        max_seconds=report.latencies.max,
        cpu_seconds=use.cpu,
        cpu_seconds_per_message=use.cpu / report.answered,
        memory_before_bytes=before,
        memory_bytes=memory,
        memory_bytes_per_connection=(memory - before) / connections,
        processes=use.processes,
        generator_busy_share=report.busy,
        generator_saturated=report.saturated,
    )
