"""Claims that tutorials make about the models, each with an experiment and a verdict.

An experiment takes a few seconds and starts servers of its own; it depends neither on the models
nor on the numbers of connections of the run. A threshold is far from both what the claim predicts
and its opposite, so that noise does not decide; between them, a claim does not hold.
"""

import contextlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from typing_extensions import override

from evserve.lab.measurement import LoadProfile, ModelRunner, disturbance
from evserve.lab.models import Model, bundled_coroutine, bundled_models, read_model
from evserve.lab.process import ModelProcess, NotStartedError
from evserve.lab.results import Claim, Figures, Verdict
from evserve.load.report import DISTURBED
from evserve.load.usage import GeneratorUsage, MachineUsage, usage_of


_MICRO, _MILLI, _KILO = 1e-6, 1e-3, 1e3
_LINE = b"hello\r\n"
# Seconds that a client waits for an answer which an event loop gives in a millisecond.
PATIENCE = 0.5
_ANSWER_TIMEOUT = 30.0  # seconds for an answer that must come
_PROFILE = LoadProfile((), 0.3, warm_up=0.1, ready_within=4.0, stall=1.0)


class UnknownError(Exception):
    """A claim cannot be checked here; the message says why."""


@frozen
class Experiment:
    """How a claim is checked; `run` may raise UnknownError or NotStartedError."""

    name: str
    claim: str
    run: Callable[["ExperimentRunner"], Awaitable[Claim]]


@frozen
class ExperimentRunner:
    """What experiments can do with the bundled models."""

    model_runner: ModelRunner
    models: dict[str, Model]

    @classmethod
    def of(cls, model_runner: ModelRunner) -> "ExperimentRunner":
        """Return one with all bundled models."""
        return cls(model_runner, {model.name: model for model in bundled_models()})

    async def check(self, experiment: Experiment) -> Claim:
        """Run an experiment; if that is impossible, the claim's evidence says why."""
        try:
            return await experiment.run(self)
        except (UnknownError, NotStartedError) as error:
            why = str(error)
        except (ConnectError, ProcessLookupError) as error:
            why = f"a server ended unexpectedly: {type(error).__name__}"
        return unknown_claim(experiment.name, experiment.claim, why)

    def model(self, name: str) -> Model:
        """Return a bundled model; raises UnknownError."""
        if name not in self.models:
            raise UnknownError(f"the model {name} is missing")
        return self.models[name]

    async def figures(self, name: str, connections: int, active: int | None = None) -> Figures:
        """Measure a model; raises UnknownError if it broke."""
        found = await self.model_runner.measure(self.model(name), connections, _PROFILE, active)
        if found.figures is None:
            raise UnknownError(f"{name}: {found.why}")
        return found.figures

    async def second_client(self, name: str) -> float | None:
        """Return how many seconds a client waits for an answer beside a silent client.

        None if the answer takes longer than PATIENCE and comes when the silent client has left.
        """
        async with self._serve(name) as (_, connect):
            silent = await connect()
            await self.pause(0.05)  # the server accepts them in this order
            second = await connect()
            await self.pause(0.05)
            second.ask()
            waited = await second.answer(PATIENCE)
            if waited is None:
                silent.leave()
                if await second.answer(_ANSWER_TIMEOUT) is None:
                    raise UnknownError(f"{name} answers no client")
            return waited

    async def idle_cpu(self, name: str) -> float:
        """Return the seconds of CPU per second of a server with _SILENT silent clients."""
        async with self._serve(name) as (process, connect):
            for _ in range(_SILENT):
                client = await connect()
                client.ask()
                if await client.answer(_ANSWER_TIMEOUT) is None:
                    raise UnknownError(f"{name} does not answer")
            began, before = self.model_runner.reactor.seconds(), usage_of(process.pid).cpu
            await self.pause(_IDLE_SECONDS)
            used = usage_of(process.pid).cpu - before
            return used / float(self.model_runner.reactor.seconds() - began)

    @contextlib.contextmanager
    def _undisturbed(self, process: ModelProcess) -> Iterator[None]:
        """Raise UnknownError at the end if other programs took the CPU from `process` or us."""
        machine, client, server = MachineUsage.now(), GeneratorUsage.now(), usage_of(process.pid)
        yield
        ours = (client, GeneratorUsage.now()), (server, usage_of(process.pid))
        lost = machine.lost_share(MachineUsage.now(), *ours)
        if lost >= DISTURBED:
            raise UnknownError(disturbance(lost))

    @contextlib.asynccontextmanager
    async def _serve(
        self, name: str
    ) -> AsyncIterator[tuple[ModelProcess, Callable[[], Awaitable["TimedClient"]]]]:
        """Start a model; yield its process and a function that connects a client."""
        process = self.model_runner.process(self.model(name))
        clients: list[TimedClient] = []
        reactor = self.model_runner.reactor

        async def connect() -> TimedClient:
            endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{process.port}:timeout=30")
            client: TimedClient = await connectProtocol(endpoint, TimedClient(reactor))
            clients.append(client)
            return client

        try:
            try:
                await process.start()
            except NotStartedError as error:
                raise UnknownError(f"{name}: {error}") from error
            with self._undisturbed(process):
                yield process, connect
        finally:
            for client in clients:
                client.leave()
            await process.stop()

    async def pause(self, seconds: float) -> None:
        """Wait for `seconds`."""
        await deferLater(self.model_runner.reactor, seconds)


@define(eq=False)
class TimedClient(Protocol):
    """A client that sends a line and measures how long the answer takes."""

    transport: Any = field(default=None, init=False)
    _reactor: Any
    _asked: float = field(default=0.0, init=False)
    _waiting: Deferred[float | None] | None = field(default=None, init=False)

    @override
    def dataReceived(self, data: bytes) -> None:
        self._fire(self._reactor.seconds() - self._asked)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._fire(None)

    def ask(self) -> None:
        """Send a line."""
        self._asked = self._reactor.seconds()
        self.transport.write(_LINE)

    async def answer(self, seconds: float) -> float | None:
        """Return the seconds from `ask` to the answer; None if it does not come in `seconds`."""
        self._waiting = Deferred()
        try:
            return await self._waiting.addTimeout(seconds, self._reactor)
        except defer.TimeoutError:
            return None
        finally:
            self._waiting = None

    def leave(self) -> None:
        """Abort the connection."""
        self.transport.abortConnection()

    def _fire(self, seconds: float | None) -> None:
        if self._waiting is not None and not self._waiting.called:
            self._waiting.callback(seconds)


def _verdict(holds: bool) -> Verdict:
    return Verdict.HOLDS if holds else Verdict.FAILS


def unknown_claim(name: str, claim: str, why: str) -> Claim:
    """Return a claim that has not been measured."""
    return Claim(name, claim, Verdict.UNKNOWN, why)


# ---- scanning

SCANNING = "select and poll grow linearly with idle connections, epoll does not"
_IDLE = (0, 400, 800)  # idle connections beside the active one; select ends at 1,024
_ROUNDS = 2  # disturbances only add to a measurement, so the least of the rounds counts
_GROWS = 3.0  # times, from no idle connections to the most
_FLAT = 2.0  # times, at most
# Slope of the second half over that of the first: 1 for linear growth, 3 for quadratic, 0.41 for
# the square root.
_LINEAR = (0.45, 2.4)


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Keep this process, and the servers that it starts meanwhile, on one core.

    Waking a process on another core sometimes costs more than what is measured. And a server that
    runs beside the generator finds several messages per call, the more the slower it is; on one
    core each call finds one message.
    """
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


async def _measure_scanning(runner: ExperimentRunner) -> Claim:
    names = ("select_loop", "poll_loop", "epoll_level")
    found: dict[tuple[str, int], float] = {}
    with _one_core():
        for _ in range(_ROUNDS):
            for idle in _IDLE:
                for name in names:
                    figures = await runner.figures(name, 1 + idle, 1)
                    cost = figures.cpu_seconds_per_message
                    found[name, idle] = min(cost, found.get((name, idle), cost))
    return judge_scanning({name: [found[name, idle] for idle in _IDLE] for name in names})


def judge_scanning(costs: Mapping[str, Sequence[float]]) -> Claim:
    """Judge CPU seconds per message with the numbers of connections in _IDLE, evenly spaced.

    costs: of "select_loop", "poll_loop" and "epoll_level".
    """
    growth = {name: each[-1] / each[0] for name, each in costs.items()}
    scanners = ("select_loop", "poll_loop")
    nonlinear = [name for name in scanners if not _is_linear(costs[name])]
    parts = [
        f"{name} {first / _MICRO:,.1f} → {last / _MICRO:,.1f} µs ({growth[name]:,.1f} times)"
        for name, (first, *_, last) in costs.items()
    ]
    evidence = (
        f"CPU per message with {_IDLE[0]:,} → {_IDLE[-1]:,} idle connections: {', '.join(parts)}."
    )
    if nonlinear:
        evidence += f" Not linear: {', '.join(nonlinear)}."
    numbers = {
        f"{name}_cpu_seconds_per_message_{count}_idle": cost
        for name, each in costs.items()
        for count, cost in zip(_IDLE, each, strict=True)
    }
    grows = not nonlinear and all(growth[name] >= _GROWS for name in scanners)
    holds = grows and growth["epoll_level"] <= _FLAT
    return Claim("scanning", SCANNING, _verdict(holds), evidence, numbers)


def _is_linear(costs: Sequence[float]) -> bool:
    first, middle, last = costs
    least, most = _LINEAR
    return middle > first and least <= (last - middle) / (middle - first) <= most


# ---- stalling and unpatched

STALLING = "one blocking client stalls the blocking server"
UNPATCHED = "gevent without monkey-patching runs serially"


async def _measure_stalling(runner: ExperimentRunner) -> Claim:
    waited = {name: await runner.second_client(name) for name in ("blocking", "epoll_level")}
    return judge_serial("stalling", STALLING, waited)


async def _measure_unpatched(runner: ExperimentRunner) -> Claim:
    names = ("gevent_unpatched", "gevent_patched")
    waited = {name: await runner.second_client(name) for name in names}
    return judge_serial("unpatched", UNPATCHED, waited)


def judge_serial(name: str, claim: str, waited: Mapping[str, float | None]) -> Claim:
    """Judge how long a second client waited while the first was silent.

    waited: seconds, first of the model that should stall, then of the one that should not; None:
    no answer within PATIENCE, but one when the first client had left.
    """
    late = f"gives no answer in {PATIENCE / _MILLI:,.0f} ms, only after the first has left"
    parts = [
        f"{model} {late if each is None else f'answers after {each / _MILLI:,.1f} ms'}"
        for model, each in waited.items()
    ]
    evidence = f"A client connects and is silent, a second one sends a line: {'; '.join(parts)}."
    numbers = {
        f"{model}_answer_seconds": each for model, each in waited.items() if each is not None
    }
    serial, concurrent = waited.values()
    holds = serial is None and concurrent is not None
    return Claim(name, claim, _verdict(holds), evidence, numbers)


# ---- threads

THREADS = "threads cost memory"
_THREADS = 300  # connections
_MORE_MEMORY = 2.0  # times


async def _measure_threads(runner: ExperimentRunner) -> Claim:
    names = ("thread_per_connection", "epoll_level")
    figures = {name: await runner.figures(name, _THREADS) for name in names}
    memory = {name: each.memory_bytes_per_connection for name, each in figures.items()}
    return judge_threads(memory)


def judge_threads(memory: Mapping[str, float]) -> Claim:
    """Judge bytes per connection of "thread_per_connection" and "epoll_level"."""
    thread, epoll = memory["thread_per_connection"], memory["epoll_level"]
    ratio = thread / epoll if epoll > 0 else float("inf")
    # Memory may also shrink while a server serves.
    comparison = f": {ratio:,.0f} times as much with threads" if epoll > 0 else ": almost nothing"
    evidence = (
        f"With {_THREADS:,} connections, each costs {thread / _KILO:,.1f} kB with threads and "
        f"{epoll / _KILO:,.1f} kB with epoll{comparison}."
    )
    numbers = {f"{name}_bytes_per_connection": each for name, each in memory.items()}
    return Claim("threads", THREADS, _verdict(ratio >= _MORE_MEMORY), evidence, numbers)


# ---- polling

POLLING = "non-blocking polling burns CPU when idle"
_SILENT = 10  # connections
_IDLE_SECONDS = 1.0
_BUSY, _IDLE_CPU = 0.3, 0.05  # seconds of CPU per second; other processes need the CPU too


async def _measure_polling(runner: ExperimentRunner) -> Claim:
    names = ("nonblocking_polling", "epoll_level")
    return judge_polling({name: await runner.idle_cpu(name) for name in names})


def judge_polling(cpu: Mapping[str, float]) -> Claim:
    """Judge seconds of CPU per second of "nonblocking_polling" and "epoll_level", both idle."""
    poll, epoll = cpu["nonblocking_polling"], cpu["epoll_level"]
    evidence = (
        f"With {_SILENT:,} silent connections, polling uses {poll:.2f} s of CPU per second, "
        f"epoll {epoll:.2f} s."
    )
    numbers = {f"{name}_cpu_seconds_per_second": each for name, each in cpu.items()}
    holds = poll >= _BUSY and epoll <= _IDLE_CPU
    return Claim("polling", POLLING, _verdict(holds), evidence, numbers)


# ---- sleeping

SLEEPING = "fetching three slow pages takes the time of the slowest"
_PROGRAM = "three_slow_pages.py"
_PROGRAM_TIMEOUT = 15.0  # seconds
_CONCURRENT = 1.25  # times the slowest page; one after another the pages would take their sum


async def _measure_sleeping(runner: ExperimentRunner) -> Claim:
    path = bundled_coroutine(_PROGRAM)
    if path is None:
        raise UnknownError(f"{_PROGRAM} is missing")
    rounds = [await _time_slow_pages(runner, path) for _ in range(_ROUNDS)]
    pages, taken = min(rounds, key=lambda each: each[1])
    return judge_sleeping(pages, taken)


async def _time_slow_pages(runner: ExperimentRunner, path: Path) -> tuple[list[float], float]:
    """Return the seconds of each page, and those that the program took for all of them."""
    process = runner.model_runner.process(read_model(path, path.stem, ""))
    process.spawn()
    try:
        await process.wait(_PROGRAM_TIMEOUT)
    finally:
        await process.stop()
    pages = [float(page) for page in re.findall(r"asked for a page of ([\d.]+) s", process.out)]
    taken = re.search(r"all together: ([\d.]+) s", process.out)
    if process.status != 0 or not pages or taken is None:
        raise UnknownError(f"{_PROGRAM}: {process.reason()}")
    return pages, float(taken[1])


def judge_sleeping(pages: Sequence[float], taken: float) -> Claim:
    """Judge the seconds `taken` to fetch pages that take `pages` seconds each."""
    slowest, total = max(pages), sum(pages)
    each = ", ".join(f"{page:g}" for page in pages)
    evidence = (
        f"Pages of {each} s were fetched in {taken:.2f} s; the slowest takes {slowest:g} s, all "
        f"sequentially {total:g} s."
    )
    numbers = {"taken_seconds": taken, "slowest_seconds": slowest, "sum_seconds": total}
    holds = taken <= slowest * _CONCURRENT
    return Claim("sleeping", SLEEPING, _verdict(holds), evidence, numbers)


# A new claim needs its text, thresholds, experiment and judgement above, and a row here.
EXPERIMENTS = (
    Experiment("scanning", SCANNING, _measure_scanning),
    Experiment("stalling", STALLING, _measure_stalling),
    Experiment("threads", THREADS, _measure_threads),
    Experiment("polling", POLLING, _measure_polling),
    Experiment("unpatched", UNPATCHED, _measure_unpatched),
    Experiment("sleeping", SLEEPING, _measure_sleeping),
)
