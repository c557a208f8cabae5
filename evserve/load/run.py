"""A run from the first connection to the report, as a closed or an open loop."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from evserve.load.connections import ConnectionPool, raise_file_limit
from evserve.load.plan import Plan
from evserve.load.report import ConnectionCounts, Report, progress_line, saturation, server_usage
from evserve.load.stats import MessageStats
from evserve.load.usage import (
    GeneratorUsage,
    MachineUsage,
    Usage,
    listen_overflows,
    proportional_set_size,
    usage_of,
)


# A server with ten thousand threads cannot take ten thousand first messages at once.
_MAX_UNANSWERED = 200
_READY_INTERVAL = 0.005  # seconds between batches of first messages
_MAX_BURST = 1000  # messages that a late open loop sends before it reads answers again


async def run_load(
    reactor: Any, plan: Plan, on_progress: Callable[[str], None] | None = None
) -> Report:
    """Carry out `plan`; LoadRun.run lists what is raised."""
    return await LoadRun(reactor, plan, on_progress).run()


@define(eq=False)
class Schedule:
    """When the messages of an open loop should start: at even intervals."""

    _rate: float  # messages per second
    _started: float
    _sent: int = field(default=0, init=False)

    @property
    def next(self) -> float:
        """When the next message is due."""
        return self._started + self._sent / self._rate

    def due(self, now: float) -> Iterator[float]:
        """Yield the intended starts of due messages, each once."""
        last = math.floor((now - self._started) * self._rate)
        while self._sent <= last:
            intended = self.next
            self._sent += 1
            yield intended


@frozen
class _Snapshot:
    """The figures at one end of the measurement."""

    at: float
    answered: int
    connections: int
    generator: GeneratorUsage
    server: Usage | None  # None without `Plan.pid`, and if the process has ended
    machine: MachineUsage

    def lost_share(self, end: "_Snapshot") -> float | None:
        """Return `Report.lost_share` of the time up to `end`."""
        if self.server is None or end.server is None:
            return None
        ours = (self.generator, end.generator), (self.server, end.server)
        return self.machine.lost_share(end.machine, *ours)


@define(eq=False)
class LoadRun:
    """Carries out a plan, once; `on_progress` is called with a line of text every second."""

    _reactor: Any
    _plan: Plan
    _on_progress: Callable[[str], None] | None = None
    _now: Callable[[], float] = time.perf_counter
    _pool: ConnectionPool = field(init=False)
    _stats: MessageStats = field(init=False)
    _schedule: Schedule | None = field(default=None, init=False)
    _send_timer: Any = field(default=None, init=False)
    _measured_from: float | None = field(default=None, init=False)
    _is_stopped: bool = field(default=False, init=False)
    _is_late: bool = field(default=False, init=False)  # for Plan.ready_within
    _waiting: Deferred[None] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._stats = MessageStats(self._wake)
        self._pool = ConnectionPool(self._reactor, self._plan, self._stats, self._now, self._wake)

    def stop(self) -> None:
        """End the run now; the report contains the figures so far."""
        self._is_stopped = True
        self._pool.stop()
        self._wake()

    async def run(self) -> Report:
        """Return the report, after all connections have been closed.

        Raises TooManyFilesError, EndpointError, and ProcessLookupError if `Plan.pid` has ended.
        """
        plan, pool = self._plan, self._pool
        raise_file_limit(plan.connections + plan.idle)
        pss_before = self._pss()
        began, overflows = self._snapshot_start(), listen_overflows()
        if plan.pid is not None and began.server is None:
            raise ProcessLookupError(f"no process {plan.pid}")
        ticker = LoopingCall(self._report_progress)
        ticker.clock = self._reactor
        if self._on_progress is not None:
            ticker.start(1, now=False)
        try:
            unready = await self._open_connections()
            opening = self._now() - began.at
            if unready is None:
                start, end = await self._drive()
            else:
                start = end = self._snapshot_start()
            server = None
            if began.server and start.server and end.server:
                server = server_usage(
                    began.server,
                    start.server,
                    end.server,
                    end.answered,
                    end.connections,
                    pss=(pss_before, self._pss()),
                )
            stats = self._stats
            latencies = stats.latencies.summary()
            lags = None if plan.rate is None else stats.lags.summary()
            busy = start.generator.busy_share(end.generator)
            return Report(
                plan=plan,
                connections=ConnectionCounts(
                    pool.opened, opening, dict(pool.failed), dict(pool.lost)
                ),
                seconds=end.at - start.at,
                answered=end.answered,
                unanswered=stats.unanswered + stats.in_flight,
                wrong=len(pool.mismatches),
                first_wrong=pool.mismatches[0] if pool.mismatches else None,
                latencies=latencies,
                lags=lags,
                busy=busy,
                saturated=saturation(busy, lags, latencies) if end.answered else None,
                server=server,
                interrupted=self._is_stopped,
                unready=None if self._is_stopped else unready,
                is_late=self._is_late,
                lost_share=(start if unready is None else began).lost_share(end),
                listen_overflows=listen_overflows() - overflows,
            )
        finally:
            if ticker.running:
                ticker.stop()
            self._stop_sending()
            pool.stop()
            await pool.close()

    async def _open_connections(self) -> str | None:
        """Open all connections; return why the run cannot start, None if it can.

        With `Plan.ready_within` each must also answer once. An open connection does not prove that
        the server serves it, because the kernel completes handshakes on its own.
        """
        plan, pool = self._plan, self._pool
        total = plan.connections + plan.idle
        if plan.ready_within is None:
            await pool.open(total)
            return None
        deadline = self._reactor.callLater(plan.ready_within, self._miss_deadline)
        try:
            await pool.open(total)
            if pool.size < total:
                return f"only {pool.size:,} of {total:,} connections open{self._common_cause()}"
            await self._send_to_each(total)
        finally:
            if deadline.active():
                deadline.cancel()
        missing = total - self._stats.answered
        if not missing:
            return None
        if self._is_late:
            late = f"had not been answered after {plan.ready_within:g} s"
            return f"{missing:,} of {total:,} connections {late}"
        never = f"connections were never answered{self._common_cause()}"
        return f"{missing:,} of {total:,} {never}"

    def _miss_deadline(self) -> None:
        self._is_late = True
        self._pool.stop()
        self._wake()

    async def _send_to_each(self, total: int) -> None:
        """Send a message on each connection, in batches; wait as long as answers arrive."""
        stats, pool, timeout = self._stats, self._pool, self._plan.timeout
        stats.restart(total)
        stats.take(total)
        unsent, sent = deque([*pool.active, *pool.idle]), 0
        answered, since = 0, self._reactor.seconds()
        while not (self._is_over or self._is_late):
            if stats.answered != answered:
                answered, since = stats.answered, self._reactor.seconds()
            elif self._reactor.seconds() - since >= timeout:
                return
            while unsent and sent - stats.answered - stats.unanswered < _MAX_UNANSWERED:
                unsent.popleft().send(1)
                sent += 1
            await self._wait(_READY_INTERVAL if unsent else timeout)

    def _common_cause(self) -> str:
        """Return the most frequent cause of failed and lost connections, after a colon."""
        causes = (self._pool.failed + self._pool.lost).most_common(1)
        if causes:
            return f": {causes[0][0]}"
        return f" in {self._plan.ready_within:g} s" if self._is_late else ""

    async def _drive(self) -> tuple[_Snapshot, _Snapshot]:
        """Warm up, measure, wait for the last answers; return both ends of the measurement."""
        plan, stats = self._plan, self._stats
        if plan.warm_up:
            stats.restart(None)
            self._start_sending()
            await self._wait(plan.warm_up)
        stats.restart(plan.count)
        start = self._snapshot_start()
        self._measured_from = start.at
        if not plan.warm_up:
            self._start_sending()
        if plan.seconds is not None:
            await self._wait(plan.seconds)
        else:
            await self._wait_for_count()
        end = self._snapshot_end()
        self._stop_sending()
        await self._wait(plan.timeout)
        return start, end

    def _start_sending(self) -> None:
        plan = self._plan
        if plan.rate is not None:
            self._schedule = Schedule(plan.rate, self._now())
            self._send_due()
            return
        for connection in list(self._pool.active):
            count = self._stats.take(plan.depth)
            if count:
                connection.send(count)

    def _send_due(self) -> None:
        """Send the messages of an open loop that are due, on the connections in turn."""
        schedule, pool, stats = self._schedule, self._pool, self._stats
        assert schedule is not None
        now = self._now()
        for intended in islice(schedule.due(now), _MAX_BURST):
            connection = pool.next()
            if connection is None or not stats.take(1):
                return
            stats.lags.record(now - intended)
            connection.send_due(intended)
        wait = max(0.0, schedule.next - self._now())
        self._send_timer = self._reactor.callLater(wait, self._send_due)

    def _stop_sending(self) -> None:
        if self._send_timer is not None and self._send_timer.active():
            self._send_timer.cancel()
        self._stats.stop_sending()

    async def _wait_for_count(self) -> None:
        """Wait for the answers to `Plan.count`, as long as some arrive within the time-out."""
        answered = -1
        while not self._is_over and answered != self._stats.answered:
            answered = self._stats.answered
            await self._wait(self._plan.timeout)

    @property
    def _is_over(self) -> bool:
        return self._is_stopped or not self._pool.active or self._stats.is_settled

    async def _wait(self, seconds: float) -> None:
        """Wait `seconds`, or until `_wake` is called; not at all if the run is over."""
        if self._is_over:
            return
        self._waiting = Deferred()
        timer = self._reactor.callLater(seconds, self._wake)
        try:
            await self._waiting
        finally:
            self._waiting = None
            if timer.active():
                timer.cancel()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.called:
            self._waiting.callback(None)

    # Reading /proc takes long if the server has thousands of processes. It happens outside the
    # measured time: before the other figures at the start, and after them at the end.

    def _snapshot_start(self) -> _Snapshot:
        server, machine = self._server_usage(), MachineUsage.now()
        answered, connections = self._stats.answered, self._pool.size
        return _Snapshot(self._now(), answered, connections, GeneratorUsage.now(), server, machine)

    def _snapshot_end(self) -> _Snapshot:
        at, answered, connections = self._now(), self._stats.answered, self._pool.size
        generator, machine = GeneratorUsage.now(), MachineUsage.now()
        return _Snapshot(at, answered, connections, generator, self._server_usage(), machine)

    def _server_usage(self) -> Usage | None:
        try:
            return None if self._plan.pid is None else usage_of(self._plan.pid)
        except ProcessLookupError:
            return None

    def _pss(self) -> int | None:
        return None if self._plan.pid is None else proportional_set_size(self._plan.pid)

    def _report_progress(self) -> None:
        stats = self._stats
        elapsed = 0.0 if self._measured_from is None else self._now() - self._measured_from
        p99 = stats.latencies.percentile(99)
        assert self._on_progress is not None
        self._on_progress(progress_line(elapsed, stats.answered, self._pool.size, p99))
