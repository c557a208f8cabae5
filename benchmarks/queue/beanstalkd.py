"""evserve's queue server and beanstalkd: every load on both servers, and the ratios."""

import argparse
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from attrs import frozen

from benchmarks.queue.servers import (
    BEANSTALKD,
    BEANSTALKD_MEMORY,
    EVSERVE,
    EVSERVE_MEMORY,
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
_ROW: Final = "{:<24}{:>10}{:>11}{:>11}{:>11}"


def main(words: list[str]) -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of each measurement")
    parser.add_argument("--folder", default=".", help="folder on the disk to measure")
    parser.add_argument("--deep", type=int, default=0, help="also measure a queue of N events")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        tools = Tools.build(Path(folder))
        print("Bodies of 256 bytes; latencies and CPU of the server in us per operation.")
        for slow_us, title in ((0, "this disk's sync"), (2000, "a sync of 2 ms more")):
            compare(tools, (BEANSTALKD, EVSERVE), title, options.seconds, slow_us)
        compare(tools, (BEANSTALKD_MEMORY, EVSERVE_MEMORY), "no sync", options.seconds, 0)
        memory(tools)
        if options.deep:
            deep(tools, options.deep)


def compare(
    tools: Tools, kinds: tuple[Kind, Kind], title: str, seconds: float, slow_us: int
) -> None:
    """Measure two servers in turn under each load; print the ratio of their rates."""
    for load in LOADS:
        print(f"\n{load.what}, {load.clients} clients, {title}")
        print(_ROW.format("", "ops/s", "p50", "p99", "CPU"))
        results: list[Result] = []
        for kind in kinds:
            if not kind.installed:
                print(f"{kind.name}: not installed")
                continue
            with tools.serve(kind, slow_us=slow_us) as server:
                results.append(tools.run(server, load, seconds=seconds))
            show(kind.name, results[-1])
        if len(results) == len(kinds):
            print(_ROW.format("ratio", f"{results[1].rate / results[0].rate:.2f}", "", "", ""))


def show(name: str, result: Result) -> None:
    """Print a row."""
    figures = (result.rate, result.p50, result.p99, result.cpu)
    print(_ROW.format(name, *(f"{figure:.0f}" for figure in figures)))


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
        show(f"{depth} deep", result)
    print(f"{'ratio of rates':<24}{rates[1].rate / rates[0].rate:>10.2f}")
    print(f"{'ratio of CPU':<24}{rates[1].cpu / rates[0].cpu:>10.2f}")
    print(f"{'bytes of memory/event':<24}{used:>10.0f}")
    with tools.serve(EVSERVE, keep=True) as server:
        assert server.ask(b"reserve\r\n").startswith(b"RESERVED")
        print(f"{'restart, first reserve':<24}{time.monotonic() - server.started:>10.2f} s")
        print(f"{'bytes/event after it':<24}{server.usage().memory / count:>10.0f}")
