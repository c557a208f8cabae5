"""One model at one number of connections: a fresh server, the load on it, and the outcome."""

from typing import Any

from attrs import define, field, frozen

from evserve.lab.models import Model
from evserve.lab.process import ModelProcess, NotStartedError, ProcessRegistry
from evserve.lab.results import Figures, Measurement, Outcome, Settings
from evserve.load import LoadRun, Plan, Report
from evserve.load.conversations import LINE_BREAK, make_line
from evserve.load.report import DISTURBED, ServerUsage


DEFAULT_COUNTS = (1, 10, 100, 1_000, 3_000, 10_000)
DEFAULT_SECONDS = 0.8
_MAX_ACTIVE = 10  # connections
_MESSAGE_SIZE = 64  # bytes, including the line break
_TRIES = 2  # of a measurement that other programs disturb
_CRASH_DELAY = 1.0  # seconds at most between a lost connection and the end of a crashing server


@frozen
class LoadProfile:
    """The load that is the same for all models.

    counts: numbers of connections.  seconds, warm_up: of load, measured and not.  ready_within:
    seconds in which every connection must have had an answer.  stall: seconds without any answer
    after which the server counts as broken.
    """

    counts: tuple[int, ...] = DEFAULT_COUNTS
    seconds: float = DEFAULT_SECONDS
    warm_up: float = field(default=0.15, kw_only=True)
    ready_within: float = field(default=12.0, kw_only=True)
    stall: float = field(default=1.5, kw_only=True)

    def active(self, connections: int) -> int:
        """Return how many of `connections` send messages; the rest are idle."""
        return min(connections, _MAX_ACTIVE)

    def plan(self, port: int, pid: int, connections: int, active: int) -> Plan:
        """Return the load generator's plan for a server."""
        line = make_line(_MESSAGE_SIZE)
        return Plan(
            f"tcp:127.0.0.1:{port}:timeout={self.ready_within:g}",
            active,
            len(line + LINE_BREAK),
            seconds=self.seconds,
            warm_up=self.warm_up,
            idle=connections - active,
            line=line,
            expected=line.upper(),
            pid=pid,
            timeout=self.stall,
            ready_within=self.ready_within,
        )

    def settings(self) -> Settings:
        """Return the settings for the report."""
        return Settings(
            self.counts,
            _MAX_ACTIVE,
            _MESSAGE_SIZE,
            1,
            self.seconds,
            self.warm_up,
            self.ready_within,
        )


@define(eq=False)
class ModelRunner:
    """Measures one model at a time; `stop` interrupts it for good."""

    reactor: Any
    processes: ProcessRegistry = field(factory=ProcessRegistry)
    is_stopped: bool = field(default=False, init=False)
    _run: LoadRun | None = field(default=None, init=False)

    def stop(self) -> None:
        """End the current measurement and start no other."""
        self.is_stopped = True
        if self._run is not None:
            self._run.stop()
        self.processes.kill()

    def process(self, model: Model) -> ModelProcess:
        """Return a process of `model` that is not started yet."""
        return ModelProcess(self.reactor, model, self.processes)

    async def measure(
        self, model: Model, connections: int, profile: LoadProfile, active: int | None = None
    ) -> Measurement:
        """Measure `model`; `active` overrides how many connections of the profile are active."""
        if active is None:
            active = profile.active(connections)
        for _ in range(_TRIES):
            process = self.process(model)
            try:
                found = await self._load(process, connections, active, profile)
            finally:
                await process.stop()
            if self.is_stopped:
                return Measurement(connections, active, Outcome.NOT_RUN, "stopped while it ran")
            if found.outcome is not Outcome.DISTURBED:
                break
        return found

    async def _load(
        self, process: ModelProcess, connections: int, active: int, profile: LoadProfile
    ) -> Measurement:
        try:
            await process.start()
        except NotStartedError as error:
            outcome = Outcome.UNAVAILABLE if error.unavailable else Outcome.BROKE
            return Measurement(connections, active, outcome, str(error))
        plan = profile.plan(process.port, process.pid, connections, active)
        self._run = run = LoadRun(self.reactor, plan)
        ended = process.when_ended().addCallback(lambda _: run.stop())
        try:
            report = await run.run()
        except ProcessLookupError:  # it ended between its first output and the first connection
            await process.when_ended()
            return Measurement(connections, active, Outcome.BROKE, process.reason())
        finally:
            self._run = None
            ended.addErrback(lambda _: None)
            ended.cancel()
        if report.failure is not None or report.connections.lost:
            await process.wait(_CRASH_DELAY)
        return evaluate(
            report, process.reason() if process.has_ended else None, process.last_error
        )


def evaluate(report: Report, ended: str | None = None, said: str | None = None) -> Measurement:
    """Return the measurement that follows from a report.

    ended: why the program has ended by itself, None if it still ran.  said: the last line of its
    standard error.
    """
    plan = report.plan
    connections, active = plan.connections + plan.idle, plan.connections
    why = _why_broken(report, ended, said)
    lost = report.lost_share or 0.0
    # A busy machine also makes a server late, but it is not the reason for any other break.
    if lost >= DISTURBED and (why is None or (report.is_late and ended is None)):
        return Measurement(connections, active, Outcome.DISTURBED, disturbance(lost))
    if why is not None:
        return Measurement(connections, active, Outcome.BROKE, why)
    if report.server is None or report.server.cpu_per_message is None:
        return Measurement(connections, active, Outcome.BROKE, "its figures could not be read")
    figures = _figures(report, report.server, connections)
    return Measurement(connections, active, Outcome.MEASURED, said, figures)


def disturbance(lost_share: float) -> str:
    """Return the reason why something was not measured."""
    return f"other programs used the CPU for {lost_share:.0%} of the time"


def _why_broken(report: Report, ended: str | None, said: str | None) -> str | None:
    """Return what went wrong, if possible the program's own message; None if nothing did."""
    symptom = _symptom(report)
    if ended is not None:
        return ended
    # After a wrong answer the generator closes the connection: the error that the server may
    # print then is not the cause.
    if symptom is not None and said is not None and not report.wrong:
        return f"{said} ({symptom})"
    return symptom


def _symptom(report: Report) -> str | None:
    """Return what the generator noticed."""
    if report.wrong:
        return f"wrong answers on {report.wrong:,} connections: {report.first_wrong}"
    if report.unready is not None:
        limit = ", the lab's limit" if report.is_late else ""
        return f"{report.unready}{limit}{_overflows(report)}"
    lost = report.connections.lost
    if lost:
        cause = max(lost, key=lambda each: lost[each])
        return f"{sum(lost.values()):,} connections were lost: {cause}{_overflows(report)}"
    if report.unanswered:
        active = report.plan.connections
        return f"{report.unanswered:,} of {active:,} active connections were left unanswered"
    if not report.answered:
        return "nothing was answered"
    return None


def _overflows(report: Report) -> str:
    """Return a hint if connections were dropped before the server could accept them."""
    if not report.listen_overflows:
        return ""
    count = report.listen_overflows
    return f"; meanwhile a listen queue was full {count:,} times (ListenOverflows): see listen(2)"


def _figures(report: Report, server: ServerUsage, connections: int) -> Figures:
    before = server.memory_before if server.pss_before is None else server.pss_before
    memory = server.memory if server.pss is None else server.pss
    return Figures(
        seconds=report.seconds,
        connect_seconds=report.connections.seconds,
        messages=report.answered,
        messages_per_second=report.rate,
        p50_seconds=report.latencies.p50,
        p99_seconds=report.latencies.p99,
        max_seconds=report.latencies.max,
        cpu_seconds=server.cpu,
        cpu_seconds_per_message=server.cpu / report.answered,
        memory_before_bytes=before,
        memory_bytes=memory,
        memory_bytes_per_connection=(memory - before) / connections,
        processes=server.processes,
        generator_busy_share=report.busy,
        generator_saturated=report.saturated,
    )
