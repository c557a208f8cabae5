"""The small experiments that answer the claims of the tutorials.

Each takes a few seconds, starts servers of its own and depends neither on the models nor on the
numbers of connections that were asked for.
"""

import contextlib
import os
import re
from collections.abc import Awaitable, Callable, Iterator

from attrs import frozen
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater

from evserve.lab import verdicts
from evserve.lab.clients import Asker, connect
from evserve.lab.measurement import Bench
from evserve.lab.models import Model, find_program, model_at, our_models
from evserve.lab.process import NotStartedError
from evserve.lab.results import Claim, Figures
from evserve.lab.settings import Measure
from evserve.load.usage import usage_of


IDLE = (0, 400, 800)  # connections besides the one that talks; select ends at 1,024
_ROUNDS = 2  # whatever disturbs a measurement adds to it: the least of these counts
THREADS = 300  # connections
SILENT = 10  # connections
PATIENCE = 0.5  # seconds that a client waits for an answer which a loop gives in a millisecond
_AT_LAST = 30.0  # seconds for an answer that has to come
_SHORT = Measure((), 0.3, warm_up=0.1, ready_within=4.0, stall=1.0)
_WATCHED = 1.0  # seconds
_PAGES = "three_slow_pages.py"


class UnknownError(Exception):
    """A claim cannot be measured here; the message says why."""


@frozen
class Experiment:
    """How a claim is answered; `run` may raise UnknownError or NotStartedError."""

    name: str
    claim: str
    run: Callable[["Laboratory"], Awaitable[Claim]]


@frozen
class Laboratory:
    """What experiments do with the models."""

    bench: Bench
    models: dict[str, Model]

    @classmethod
    def of(cls, bench: Bench) -> "Laboratory":
        """Return one with the models that come with evserve."""
        return cls(bench, {model.name: model for model in our_models()})

    async def answer(self, experiment: Experiment) -> Claim:
        """Carry out an experiment; whatever forbids that is the claim's evidence."""
        try:
            return await experiment.run(self)
        except (UnknownError, NotStartedError, ConnectError, ProcessLookupError) as error:
            why = str(error) if isinstance(error, UnknownError | NotStartedError) else ""
            why = why or f"a server went away: {type(error).__name__}"
            return verdicts.unknown(experiment.name, experiment.claim, why)

    def model(self, name: str) -> Model:
        """Return a model of ours; raises UnknownError."""
        if name not in self.models:
            raise UnknownError(f"the model {name} is not there")
        return self.models[name]

    async def figures(self, name: str, connections: int, active: int | None = None) -> Figures:
        """Measure a model; raises UnknownError if it broke."""
        cell = await self.bench.cell(self.model(name), connections, _SHORT, active)
        if cell.figures is None:
            raise UnknownError(f"{name}: {cell.why}")
        return cell.figures

    async def second_client(self, name: str) -> float | None:
        """Return how long a client waits beside a silent one.

        None if it has no answer within PATIENCE, and has one when the silent one has left.
        """
        child = self.bench.child(self.model(name))
        askers: list[Asker] = []
        try:
            await child.start()
            for _ in range(2):
                askers.append(await connect(self.bench.reactor, child.port))
                await self.pause(0.05)  # the server accepts them in this order
            silent, second = askers
            second.ask()
            waited = await second.answer(PATIENCE)
            if waited is None:
                silent.leave()
                if await second.answer(_AT_LAST) is None:
                    raise UnknownError(f"{name} answers nobody")
        except NotStartedError as error:
            raise UnknownError(f"{name}: {error}") from error
        else:
            return waited
        finally:
            for asker in askers:
                asker.leave()
            await child.stop()

    async def idle_cpu(self, name: str) -> float:
        """Return the seconds of CPU a second of a server whose clients say nothing."""
        child = self.bench.child(self.model(name))
        askers: list[Asker] = []
        try:
            await child.start()
            for _ in range(SILENT):
                asker = await connect(self.bench.reactor, child.port)
                askers.append(asker)
                asker.ask()
                if await asker.answer(_AT_LAST) is None:
                    raise UnknownError(f"{name} does not answer")
            began, before = self.bench.reactor.seconds(), usage_of(child.pid).cpu
            await self.pause(_WATCHED)
            used = usage_of(child.pid).cpu - before
            return used / float(self.bench.reactor.seconds() - began)
        finally:
            for asker in askers:
                asker.leave()
            await child.stop()

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await deferLater(self.bench.reactor, seconds)


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and the servers that it starts meanwhile, on a single core.

    Waking a process on another core costs more than what is to be measured, and only sometimes;
    and a server that runs beside the generator finds several messages at a look, the more the
    slower it is. On one core each look finds one message.
    """
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


async def _scanning(lab: Laboratory) -> Claim:
    names = ("select_loop", "poll_loop", "epoll_level")
    found: dict[tuple[str, int], float] = {}
    with one_core():
        for _ in range(_ROUNDS):
            for idle in IDLE:
                for name in names:
                    figures = await lab.figures(name, 1 + idle, 1)
                    cost = figures.cpu_seconds_per_message
                    found[name, idle] = min(cost, found.get((name, idle), cost))
    costs = {name: [found[name, idle] for idle in IDLE] for name in names}
    return verdicts.scanning(IDLE, costs)


async def _stalling(lab: Laboratory) -> Claim:
    waited = {name: await lab.second_client(name) for name in ("blocking", "epoll_level")}
    return verdicts.stalling(waited, PATIENCE)


async def _threads(lab: Laboratory) -> Claim:
    names = ("thread_per_connection", "epoll_level")
    memory = {
        name: (await lab.figures(name, THREADS)).memory_bytes_per_connection for name in names
    }
    return verdicts.threads(THREADS, memory)


async def _polling(lab: Laboratory) -> Claim:
    burnt = {name: await lab.idle_cpu(name) for name in ("nonblocking_polling", "epoll_level")}
    return verdicts.polling(SILENT, burnt)


async def _unpatched(lab: Laboratory) -> Claim:
    names = ("gevent_unpatched", "gevent_patched")
    return verdicts.unpatched({name: await lab.second_client(name) for name in names}, PATIENCE)


async def _sleeping(lab: Laboratory) -> Claim:
    path = find_program(_PAGES)
    if path is None:
        raise UnknownError(f"{_PAGES} is not there")
    child = lab.bench.child(model_at(path, path.stem, ""))
    child.spawn()
    try:
        timer = lab.bench.reactor.callLater(15, child.kill)
        await child.when_ended()
        if timer.active():
            timer.cancel()
    finally:
        await child.stop()
    pages = [float(page) for page in re.findall(r"asked for a page of ([\d.]+) s", child.out)]
    taken = re.search(r"all together: ([\d.]+) s", child.out)
    if child.status != 0 or not pages or taken is None:
        raise UnknownError(f"{_PAGES}: {child.reason()}")
    return verdicts.sleeping(pages, float(taken[1]))


EXPERIMENTS = (
    Experiment("scanning", verdicts.SCANNING, _scanning),
    Experiment("stalling", verdicts.STALLING, _stalling),
    Experiment("threads", verdicts.THREADS, _threads),
    Experiment("polling", verdicts.POLLING, _polling),
    Experiment("unpatched", verdicts.UNPATCHED, _unpatched),
    Experiment("sleeping", verdicts.SLEEPING, _sleeping),
)
