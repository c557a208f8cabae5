"""A run from the first connection to the report."""

import time
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from evserve.load.connection import LoadConnection, Owner
from evserve.load.connections import Crowd
from evserve.load.conversations import conversations
from evserve.load.files import make_room
from evserve.load.greeting import Greeting
from evserve.load.marks import Mark, Window
from evserve.load.pacing import Pacemaker
from evserve.load.plan import Plan
from evserve.load.report import Report
from evserve.load.sources import Sources
from evserve.load.text import progress
from evserve.load.traffic import Pace, Traffic
from evserve.load.usage import shared_once, usage_of


@define(eq=False)
class LoadRun:
    """Carries out a plan, once; `tell` is given a line on its progress every second."""

    _reactor: Any
    _plan: Plan
    _tell: Callable[[str], None] | None = None
    _now: Callable[[], float] = time.perf_counter
    _crowd: Crowd = field(init=False)
    _traffic: Traffic = field(init=False)
    _pacemaker: Pacemaker | None = field(default=None, init=False)
    _start: Mark | None = field(default=None, init=False)
    _stopped: bool = field(default=False, init=False)
    _waiting: Deferred[None] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        plan = self._plan
        conversation = conversations(plan)
        self._traffic = traffic = Traffic(self._wake)

        def connection(number: int, owner: Owner) -> LoadConnection:
            is_closed_loop = plan.rate is None
            return LoadConnection(conversation(number), traffic, owner, self._now, is_closed_loop)

        sources = Sources(plan.connect)
        is_strict = plan.ready_within is not None
        self._crowd = Crowd(
            self._reactor, sources, connection, plan.connections, is_strict, self._wake
        )

    def stop(self) -> None:
        """End the run now; the report says what there is."""
        self._stopped = True
        self._crowd.stop()
        self._wake()

    async def run(self) -> Report:
        """Return the report, once all connections are closed again.

        Raises TooManyFilesError, EndpointError, and ProcessLookupError without a process `pid`.
        """
        plan, crowd = self._plan, self._crowd
        make_room(plan.connections + plan.idle)
        if plan.pid is not None:
            usage_of(plan.pid)
        ticker = self._ticker()
        pss = self._pss()
        before = Mark.begin(self._count, plan.pid)
        try:
            unready = await self._prepare()
            opening = self._now() - before.at
            if unready is None:
                start, end = await self._drive()
            else:
                start = end = Mark.begin(self._count, plan.pid)
            both = (pss, self._pss())
            window = Window(before, opening, start, end, self._stopped, unready, both)
            return window.report(plan, crowd, self._traffic)
        finally:
            if ticker.running:
                ticker.stop()
            self._end()
            crowd.stop()
            await crowd.close()

    async def _prepare(self) -> str | None:
        """Open all connections; say why the run cannot begin, or None if it can."""
        plan, crowd = self._plan, self._crowd
        if plan.ready_within is None:
            await crowd.fill(plan.connections + plan.idle)
            return None
        greeting = Greeting(
            self._reactor,
            plan,
            crowd,
            self._traffic,
            self._pause,
            self._wake,
            lambda: self._is_over,
        )
        return await greeting.run(plan.ready_within)

    async def _drive(self) -> tuple[Mark, Mark]:
        """Warm up, measure, wait for the last answers; return both ends of the measurement."""
        plan, traffic = self._plan, self._traffic
        if plan.warm_up:
            traffic.begin(None)
            self._begin()
            await self._pause(plan.warm_up)
        traffic.begin(plan.count)
        self._start = start = Mark.begin(self._count, plan.pid)
        if not plan.warm_up:
            self._begin()
        await self._measure()
        end = Mark.end(self._count, plan.pid)
        self._end()
        await self._pause(plan.timeout)
        return start, end

    def _end(self) -> None:
        """Send no more."""
        if self._pacemaker is not None:
            self._pacemaker.stop()
        self._traffic.end()

    def _begin(self) -> None:
        """Send the first messages."""
        plan = self._plan
        if plan.rate is None:
            for connection in list(self._crowd.talking):
                count = self._traffic.take(plan.depth)
                if count:
                    connection.send(count)
            return
        pace = Pace(plan.rate, self._now())
        self._pacemaker = Pacemaker(self._reactor, self._crowd, self._traffic, self._now, pace)
        self._pacemaker.start()

    async def _measure(self) -> None:
        """Wait for the end: of the time, or of the answers."""
        if self._plan.seconds is not None:
            await self._pause(self._plan.seconds)
            return
        answered = -1
        while not self._is_over and answered != self._traffic.answered:
            answered = self._traffic.answered
            await self._pause(self._plan.timeout)

    @property
    def _is_over(self) -> bool:
        return self._stopped or not self._crowd.talking or self._traffic.is_settled

    async def _pause(self, seconds: float) -> None:
        """Wait `seconds`, or until there is nothing left to wait for."""
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

    def _count(self) -> tuple[float, int, int]:
        return self._now(), self._traffic.answered, self._crowd.open

    def _pss(self) -> int | None:
        return None if self._plan.pid is None else shared_once(self._plan.pid)

    def _ticker(self) -> LoopingCall:
        ticker = LoopingCall(self._progress)
        ticker.clock = self._reactor
        if self._tell is not None:
            ticker.start(1, now=False)
        return ticker

    def _progress(self) -> None:
        traffic = self._traffic
        elapsed = 0.0 if self._start is None else self._now() - self._start.at
        p99 = traffic.latencies.percentile(99)
        assert self._tell is not None
        self._tell(progress(elapsed, traffic.answered, self._crowd.open, p99))


async def run_load(reactor: Any, plan: Plan, tell: Callable[[str], None] | None = None) -> Report:
    """Carry out `plan`; see LoadRun.run."""
    return await LoadRun(reactor, plan, tell).run()
