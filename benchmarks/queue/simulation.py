"""A model of the engine postgresql://, simulated, and compared with what `scaling` measured.

A process has one batch under way. It puts what its clients ask for into a batch (CPU of the
client), its server process carries that out (CPU of the server), the commit waits for a sync,
which all commits that wait at its start share, and the answers let the clients ask again.

The costs are taken from six of the measured loads; the others are predicted, each with the time
that a sync took in it. What the model leaves out: locks within Postgres, notifications between
processes, autovacuum, and other programs.
"""

import argparse
from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from pathlib import Path
from statistics import median
from typing import Final

from attrs import Factory, astuple, define, evolve, field, frozen

from benchmarks.queue.scaling import Measurements, Point


MOST: Final = 1000
"""Calls of one batch."""

_KIB: Final = 1024
_SMALL: Final = 256  # bytes of the bodies of most loads
_ENDLESS: Final = 10**12  # events
FITTED: Final = (
    Point("put", 1),
    Point("put", 50),
    Point("take", 1),
    Point("take", 50),
    Point("put", size=100 * _KIB),
    Point("cycle", size=100 * _KIB),
)
"""The loads that the costs are taken from."""


@frozen
class Costs:
    """Microseconds of one side: client or server.

    put, take: CPU per event; a take is a reserve and an acknowledgement.  put_batch: CPU per batch
    with puts, its notification included.  take_batch: CPU per batch for its reserves, and again
    for its acknowledgements.  put_kib, take_kib: CPU per KiB of body.
    """

    put: float
    take: float
    put_batch: float
    take_batch: float
    put_kib: float = 0.0
    take_kib: float = 0.0


@frozen
class Model:
    """The parameters.

    client, server: CPU.  sync: microseconds of a sync.  wake: microseconds of a batch in which
    nobody works: the network, and until the kernel lets the other side run.  cores: those that
    clients and server share; with `server_cores`, the clients have `cores` of their own.
    """

    client: Costs
    server: Costs
    sync: float
    wake: float
    cores: int = 2
    server_cores: int | None = None


@frozen
class Prediction:
    """Events/s, the median time of a batch and CPU per event in microseconds; calls a batch."""

    rate: float
    batch_time: float
    client_cpu: float
    server_cpu: float
    group: float

    @property
    def cpu(self) -> float:
        """Microseconds of CPU per event, of both sides."""
        return self.client_cpu + self.server_cpu


def fit(found: Measurements) -> Model:
    """Return the costs that explain the loads of FITTED."""
    put1, put50, take1, take50, put_large, cycle_large = (found.results[point] for point in FITTED)
    kib = 100 - _SMALL / _KIB

    def side(name: str) -> Costs:
        def cpu(result: object) -> float:
            return float(getattr(result, name))

        # A lone client's batch has one call; 50 clients share one. A take needs two batches.
        put_batch = (cpu(put1) - cpu(put50)) * 50 / 49
        put = cpu(put1) - put_batch
        take_batch = (cpu(take1) - cpu(take50)) / 2 * 50 / 49
        take = cpu(take1) - 2 * take_batch
        put_kib = max(cpu(put_large) - cpu(put50), 0.0) / kib
        both = (cpu(cycle_large) - cpu(put50) - cpu(take50)) / kib
        take_kib = max(both - put_kib, 0.0)
        # The small bodies have their part of a KiB too.
        small = _SMALL / _KIB
        return Costs(
            put - put_kib * small,
            take - take_kib * small,
            put_batch,
            take_batch,
            put_kib,
            take_kib,
        )

    client, server = side("client_cpu"), side("store_cpu")
    wake = max(1e6 / put1.rate - put1.cpu - put1.sync, 0.0)
    sync = median(each.sync for each in found.results.values())
    return Model(client, server, sync, wake, found.cores)


@define(eq=False)
class _Cores:
    """So many things run at once; the others wait in line."""

    simulation: "Simulation"
    free: int
    line: deque[tuple[float, Callable[[], None]]] = Factory(deque)

    def run(self, duration: float, then: Callable[[], None]) -> None:
        """Call `then` after `duration` of a core."""
        if not self.free:
            self.line.append((duration, then))
            return
        self.free -= 1

        def done() -> None:
            self.free += 1
            if self.line:
                self.run(*self.line.popleft())
            then()

        self.simulation.after(duration, done)


@define(eq=False)
class _Disk:
    """One sync at a time; it serves all who wait when it begins."""

    simulation: "Simulation"
    sync: float
    waiting: list[Callable[[], None]] = Factory(list)
    busy: bool = False

    def commit(self, then: Callable[[], None]) -> None:
        """Call `then` after a sync that begins now or later."""
        self.waiting.append(then)
        if not self.busy:
            self._start()

    def _start(self) -> None:
        served, self.waiting, self.busy = self.waiting, [], True

        def done() -> None:
            self.busy = False
            if self.waiting:
                self._start()
            for then in served:
                then()

        self.simulation.after(self.sync, done)


@define(eq=False)
class _Process:
    """The calls of one process that no batch has taken yet, and those of the batch under way."""

    simulation: "Simulation"
    puts: int = 0
    reserves: int = 0
    acks: int = 0
    window: int = 0
    under_way: bool = False

    def send(self) -> None:
        """Make a batch of what is pending, unless there is none or one is under way."""
        simulation = self.simulation
        if self.under_way:
            return
        puts = min(self.puts, self.window, MOST)
        acks = min(self.acks, MOST - puts)
        # What is put in a batch can be reserved in it. Others cannot have what it reserves.
        taken = min(self.reserves, simulation.ready + puts, MOST)
        if not puts + acks + taken:
            return
        self.under_way = True
        self.puts -= puts
        self.window -= puts
        self.acks -= acks
        self.reserves -= taken
        from_ready = min(taken, simulation.ready)
        simulation.ready -= from_ready
        simulation.batch(self, puts, acks, taken, puts - (taken - from_ready))

    def answered(self, puts: int, acks: int, taken: int) -> None:
        """Let the clients that were answered ask again."""
        self.under_way = False
        self.puts += puts
        self.reserves += acks
        self.acks += taken
        if self.simulation.point.what == "cycle":
            self.window += acks
        else:
            self.window += puts
        self.send()


@define(eq=False)
class Simulation:
    """One load on a model; `run` predicts."""

    model: Model
    point: Point
    ready: int = field(init=False)
    now: float = field(init=False, default=0.0)
    _heap: list[tuple[float, int, Callable[[], None]]] = field(init=False, factory=list)
    _number: int = field(init=False, default=0)
    _clients: _Cores = field(init=False)
    _servers: _Cores = field(init=False)
    _disk: _Disk = field(init=False)
    _processes: list[_Process] = field(init=False)
    _done: int = field(init=False, default=0)
    _calls: int = field(init=False, default=0)
    _times: list[float] = field(init=False, factory=list)
    _cpu: list[float] = field(init=False, factory=lambda: [0.0, 0.0])

    def __attrs_post_init__(self) -> None:
        model, point = self.model, self.point
        self._clients = _Cores(self, model.cores)
        alone = model.server_cores is None
        self._servers = self._clients if alone else _Cores(self, model.server_cores or 1)
        self._disk = _Disk(self, model.sync)
        self.ready = _ENDLESS if point.what == "take" else point.backlog
        producers = 0 if point.what == "take" else point.clients
        consumers = 0 if point.what == "put" else point.clients
        window = point.job.window if point.what == "cycle" else producers
        self._processes = [
            _Process(self, producers, consumers, 0, window) for _ in range(point.processes)
        ]

    def after(self, duration: float, then: Callable[[], None]) -> None:
        """Call `then` in `duration` microseconds."""
        self._number += 1
        heappush(self._heap, (self.now + duration, self._number, then))

    def run(self, seconds: float = 1.0) -> Prediction:
        """Simulate so many seconds, after a tenth of them to warm up."""
        for process in self._processes:
            process.send()
        self._until(seconds * 1e5)
        self._done = self._calls = 0
        self._times.clear()
        self._cpu = [0.0, 0.0]
        self._until(seconds * 1.1e6)
        count = max(self._done, 1)
        times = sorted(self._times) or [0.0]
        return Prediction(
            self._done / seconds,
            times[len(times) // 2],
            self._cpu[0] / count,
            self._cpu[1] / count,
            self._calls / max(len(times), 1),
        )

    def batch(self, process: _Process, puts: int, acks: int, taken: int, left: int) -> None:
        """Carry out one batch: client, server, sync, answers. `left`: puts that are not taken."""
        begun, kib = self.now, self.point.size / _KIB
        client, server = (
            (puts > 0) * costs.put_batch
            + ((acks > 0) + (taken > 0)) * costs.take_batch
            + puts * (costs.put + costs.put_kib * kib)
            + (acks + taken) / 2 * costs.take
            + taken * costs.take_kib * kib
            for costs in (self.model.client, self.model.server)
        )

        def committed() -> None:
            if self.point.what != "put":
                self.ready += left
            self.after(self.model.wake, answered)

        def answered() -> None:
            self._done += puts if self.point.what == "put" else acks
            self._calls += puts + acks + taken
            self._cpu[0] += client
            self._cpu[1] += server
            self._times.append(self.now - begun)
            process.answered(puts, acks, taken)
            for each in self._processes:  # those who waited for what was put
                each.send()

        def served() -> None:
            if puts or acks:
                self._disk.commit(committed)
            else:  # a reservation waits for no disk
                committed()

        self._clients.run(client, lambda: self._servers.run(server, served))

    def _until(self, end: float) -> None:
        while self._heap and self._heap[0][0] <= end:
            self.now, _, then = heappop(self._heap)
            then()
        self.now = end


_LARGER: Final = (
    ("4 processes, 2 cores for all", 4, 2, None),
    ("4 processes on machines of their own; 2 cores for Postgres", 4, 4, 2),
    ("8; 4 cores", 8, 8, 4),
    ("16; 8 cores", 16, 16, 8),
    ("32; 16 cores", 32, 32, 16),
)


def main(words: Sequence[str]) -> None:
    """Read what `scaling` wrote; print the model, its errors, and larger machines."""
    parser = argparse.ArgumentParser("python -m benchmarks.queue simulation", description=__doc__)
    parser.add_argument("figures", help="file that `scaling --json` wrote")
    found = Measurements.from_json(Path(parser.parse_args(words).figures).read_text("utf-8"))
    model = fit(found)
    print("us of CPU           put    take  put/batch take/batch  put/KiB take/KiB")
    for name, costs in (("client", model.client), ("Postgres", model.server)):
        widths = (8, 8, 11, 11, 9, 9)
        figures = zip(astuple(costs), widths, strict=True)
        print(f"{name:15}" + "".join(f"{figure:{width}.1f}" for figure, width in figures))
    print(f"sync {model.sync:.0f} us, wake {model.wake:.0f} us, {model.cores} cores\n")
    print(f"{'':36}{'events/s':^26}{'CPU us/event':^26}{'calls':>8}")
    titles = f"{'predicted':>10}{'measured':>9}{'error':>7}"
    print(f"{'':36}{titles}{titles}{'/batch':>8}{'sync':>8}")
    errors: dict[str, list[tuple[float, float]]] = {"one process": [], "several processes": []}
    for point, result in found.results.items():
        predicted = Simulation(evolve(model, sync=result.sync), point).run()
        if point not in FITTED:
            kind = "one process" if point.processes == 1 else "several processes"
            errors[kind].append((predicted.rate / result.rate, predicted.cpu / result.cpu))
        pairs = ((predicted.rate, result.rate), (predicted.cpu, result.cpu))
        shown = "".join(f"{one:10,.0f}{two:9,.0f}{one / two - 1:+7.0%}" for one, two in pairs)
        fitted = " fitted" if point in FITTED else ""
        print(f"{point!s:36}{shown}{predicted.group:8.0f}{result.sync:8,.0f}{fitted}")
    print()
    for kind, each in errors.items():
        rate, cpu = (median(abs(one - 1) for one in ratios) for ratios in zip(*each, strict=True))
        print(f"median error of {len(each)} loads, {kind}: events/s {rate:.0%}, CPU {cpu:.0%}")
    print("\ncycles/s predicted for 50 clients a process")
    for name, processes, cores, server_cores in _LARGER:
        machine = evolve(model, cores=cores, server_cores=server_cores)
        predicted = Simulation(machine, Point("cycle", processes=processes)).run()
        print(f"{name:60}{predicted.rate:10,.0f}")
