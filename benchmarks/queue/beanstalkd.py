"""evserve's queue server and beanstalkd: every load on all servers, the ratios, the goals.

The servers take turns in several rounds; a figure is the median of them, a ratio that of the
ratios within rounds. "evserve" runs on its default reactor, uvloop's.
"""

import argparse
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from attrs import fields, frozen

from benchmarks.goals import Goal, ratio, verdict
from benchmarks.queue.servers import (
    BEANSTALKD,
    BEANSTALKD_MEMORY,
    EVSERVE,
    EVSERVE_EPOLL,
    EVSERVE_MEMORY,
    EVSERVE_MEMORY_EPOLL,
    HERE,
    Kind,
    Server,
)


_BODY_SIZE: Final = 256  # bytes


@frozen
class Load:
    """What clients do: `what` is put, cycle or take."""

    what: str
    clients: int


@frozen
class Result:
    """Rate in operations per second, latencies and CPU per operation in microseconds."""

    rate: float
    p50: float
    p99: float
    cpu: float


_COLUMNS: Final = fields(Result)


@frozen
class Tools:
    """The compiled tools, and the folder of this run."""

    folder: Path
    load: Path
    slow_sync: Path

    @classmethod
    def build(cls, folder: Path) -> "Tools":
        """Compile the load generator and the slow sync; needs a C compiler."""
        compiler = shutil.which("cc")
        if compiler is None:
            raise SystemExit("cc: not found (the benchmark needs a C compiler)")
        load, shim = folder / "load", folder / "slow_sync.so"
        shared = ["-shared", "-fPIC", "-ldl"]
        for target, source, flags in ((load, "load.c", []), (shim, "slow_sync.c", shared)):
            command = [compiler, "-O2", "-o", str(target), str(HERE / source), *flags]
            subprocess.run(command, check=True)  # noqa: S603 - our own sources
        return cls(folder, load, shim)

    def serve(self, kind: Kind, *, slow_us: int = 0, keep: bool = False) -> Server:
        """Start a server on a new folder, or with `keep` on the previous server's."""
        folder = self.folder / "data"
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
        env = {"LD_PRELOAD": str(self.slow_sync), "SLOW_SYNC_US": str(slow_us)} if slow_us else {}
        return Server(kind, folder, env)

    def run(self, server: Server, load: Load, *, seconds: float = 0, count: int = 0) -> Result:
        """Put `load` on `server` for `seconds`, or for `count` operations."""
        before = server.usage()
        words = [server.port, load.clients, seconds, count, _BODY_SIZE, load.what]
        done = subprocess.run(  # noqa: S603 - compiled above
            [str(self.load), *map(str, words)], check=True, capture_output=True, text=True
        )
        operations, took, p50, p99 = map(float, done.stdout.split())
        cpu = (server.usage().cpu - before.cpu) / operations * 1e6
        return Result(operations / took, p50, p99, cpu)


LOADS: Final = tuple(Load(what, clients) for clients in (50, 1) for what in ("put", "cycle"))
_ROW: Final = "{:<24}{:>10}{:>11}{:>11}{:>11}{:>8}{:>8}"

_SYNC: Final = "this disk's sync"
_SLOW_SYNC: Final = "a sync of 2 ms more"
_NO_SYNC: Final = "no sync"
_DURABLE: Final = (BEANSTALKD, EVSERVE, EVSERVE_EPOLL)
_IN_MEMORY: Final = (BEANSTALKD_MEMORY, EVSERVE_MEMORY, EVSERVE_MEMORY_EPOLL)
_SYNCS: Final = ((_DURABLE, _SYNC, 0), (_DURABLE, _SLOW_SYNC, 2000), (_IN_MEMORY, _NO_SYNC, 0))


@frozen
class Scenario:
    """A load on several servers; slow_us: microseconds that a sync takes longer."""

    load: Load
    servers: tuple[Kind, ...]
    sync: str
    slow_us: int

    @property
    def title(self) -> str:
        """What is measured, on which disk."""
        return f"{self.load.what}, {self.load.clients} clients, {self.sync}"


SCENARIOS: Final = tuple(Scenario(load, *each) for each in _SYNCS for load in LOADS)


def _durable(load: str, sync: str, at_least: float) -> Goal:
    return Goal(f"{load}, {sync}", "rate", EVSERVE.name, BEANSTALKD.name, at_least=at_least)


def _in_memory(load: str, at_most: float) -> Goal:
    names = EVSERVE_MEMORY.name, BEANSTALKD_MEMORY.name
    return Goal(f"{load}, {_NO_SYNC}", "cpu", *names, at_most=at_most)


GOALS: Final = (
    _durable("put, 50 clients", _SYNC, 3),
    _durable("cycle, 50 clients", _SYNC, 3),
    _durable("put, 50 clients", _SLOW_SYNC, 15),
    _durable("cycle, 50 clients", _SLOW_SYNC, 20),
    _durable("put, 1 clients", _SYNC, 0.7),
    _durable("cycle, 1 clients", _SYNC, 0.4),
    _durable("put, 1 clients", _SLOW_SYNC, 0.4),
    _in_memory("put, 50 clients", 1.8),
    _in_memory("cycle, 50 clients", 1.9),
)


def main(words: list[str]) -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each server")
    parser.add_argument("--folder", default=".", help="folder on the disk to measure")
    parser.add_argument("--deep", type=int, default=0, help="also measure a queue of N events")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        tools = Tools.build(Path(folder))
        print("Bodies of 256 bytes; latencies and CPU of the server in us per operation.")
        print("x: the rate, and the CPU, as multiples of the first server's.")
        measured: dict[str, dict[str, list[Result]]] = {}
        for each in SCENARIOS:
            measured[each.title] = compare(tools, each, options.seconds, options.rounds)
            print(f"\n{table(each.title, measured[each.title])}", flush=True)
        print("\nGoals:")
        for goal in GOALS:
            print(f"  {verdict(goal, measured)}")
        memory(tools)
        if options.deep:
            deep(tools, options.deep)


def compare(
    tools: Tools, scenario: Scenario, seconds: float, rounds: int
) -> dict[str, list[Result]]:
    """Measure the servers in turns; by their names, without those that are not installed."""
    installed = [kind for kind in scenario.servers if kind.installed]
    results: dict[str, list[Result]] = {kind.name: [] for kind in installed}
    for _ in range(rounds):
        for kind in installed:
            with tools.serve(kind, slow_us=scenario.slow_us) as server:
                results[kind.name].append(tools.run(server, scenario.load, seconds=seconds))
    return results


def table(title: str, results: dict[str, list[Result]]) -> str:
    """Return the medians of each server, and its ratios to the first one's."""
    lines = [title, _ROW.format("", "ops/s", "p50", "p99", "CPU", "x", "x CPU")]
    reference = next(iter(results))
    for name, each in results.items():
        figures = [median(getattr(result, column.name) for result in each) for column in _COLUMNS]
        ratios = (ratio(results, measure, name, reference) for measure in ("rate", "cpu"))
        lines.append(
            _ROW.format(
                name,
                *(f"{figure:.0f}" for figure in figures[:3]),
                f"{figures[3]:.1f}",
                *(f"{each:.2f}" for each in ratios),
            )
        )
    return "\n".join(lines)


def memory(tools: Tools, count: int = 100_000) -> None:
    """Print what `count` events add to each server's memory."""
    print(f"\nbytes of memory per event, at {count} events")
    for kind in (BEANSTALKD_MEMORY, EVSERVE, EVSERVE_MEMORY):
        if kind.installed:
            with tools.serve(kind) as server:
                before = server.usage().memory
                tools.run(server, Load("put", 50), count=count)
                print(f"{kind.name:<24}{(server.usage().memory - before) / count:>10.0f}")


def deep(tools: Tools, count: int) -> None:
    """Print how a deep queue compares with a shallow one, and how long its restart takes."""
    print(f"\nevserve, cycles with 50 clients, 10000 and {count} events deep")
    rates = []
    for depth in (10_000, count):
        with tools.serve(EVSERVE) as server:
            before = server.usage().memory
            tools.run(server, Load("put", 50), count=depth)
            used = (server.usage().memory - before) / depth
            result = max(
                (tools.run(server, Load("cycle", 50), count=20_000) for _ in range(3)),
                key=lambda each: each.rate,
            )
        rates.append(result)
        print(f"{depth} deep: {result.rate:.0f} cycles/s, {result.cpu:.1f} us of CPU")
    print(f"{'ratio of rates':<24}{rates[1].rate / rates[0].rate:>10.2f}")
    print(f"{'ratio of CPU':<24}{rates[1].cpu / rates[0].cpu:>10.2f}")
    print(f"{'bytes of memory/event':<24}{used:>10.0f}")
    with tools.serve(EVSERVE, keep=True) as server:
        assert server.ask(b"reserve\r\n").startswith(b"RESERVED")
        print(f"{'restart, first reserve':<24}{time.monotonic() - server.started:>10.2f} s")
        print(f"{'bytes/event after it':<24}{server.usage().memory / count:>10.0f}")
