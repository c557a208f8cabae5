"""How the cost of the engine postgresql:// grows: consumers, processes, sizes and backlogs."""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg
from attrs import asdict, evolve, frozen

from benchmarks.queue.cluster import Cluster
from benchmarks.queue.job import Job
from benchmarks.queue.measure import Result, fill, load
from benchmarks.queue.systems import SYSTEMS


_KIB: Final = 1024
_SIZE: Final = 256  # bytes, where nothing else is said
_TAKEN: Final = {1: 8_000, 10: 20_000, 50: 40_000, 200: 40_000}  # the backlog for `take`
_COUNTED: Final = 100_000  # events whose place on the disk is measured
_DEEP: Final = 1_000_000  # events that take long to make, so that one measurement has to do


@frozen
class Point:
    """One load: Job's fields, and the number of processes that each have so many clients."""

    what: str
    clients: int = 50
    processes: int = 1
    size: int = _SIZE
    backlog: int = 0

    @property
    def job(self) -> Job:
        """Return the job of each process; its URL is filled in later."""
        backlog = _TAKEN[self.clients] if self.what == "take" else self.backlog // self.processes
        return Job("", self.what, self.clients, self.size, backlog=backlog)

    def __str__(self) -> str:
        words = [self.what, f"{self.clients} client" + "s" * (self.clients > 1)]
        words += [f"{self.processes} processes"] if self.processes > 1 else []
        words += [f"{self.size:,} bytes"] if self.size != _SIZE else []
        words += [f"{self.backlog:,} waiting"] if self.backlog else []
        return ", ".join(words)


POINTS: Final = (
    *(Point(what, clients) for what in ("put", "take", "cycle") for clients in (1, 10, 50, 200)),
    *(Point(what, processes=processes) for what in ("put", "cycle") for processes in (2, 4)),
    *(
        Point(what, size=size)
        for what in ("put", "cycle")
        for size in (100, _KIB, 10 * _KIB, 100 * _KIB)
    ),
    *(Point("cycle", backlog=backlog) for backlog in (1_000, 100_000, 1_000_000, 3_000_000)),
)


@frozen
class Measurements:
    """What a run found: the cores of this machine, and the result of each point."""

    cores: int
    results: dict[Point, Result]

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        rows = [{**asdict(point), **asdict(each)} for point, each in self.results.items()]
        return json.dumps({"cores": self.cores, "results": rows}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Measurements":
        """Return the object that `to_json` wrote."""
        read = json.loads(text)
        return cls(read["cores"], dict(map(_read_row, read["results"])))


def main(words: Sequence[str]) -> None:
    """Parse the command line, measure, print."""
    options = _options(words)
    if not SYSTEMS["evserve"].installed:
        print("evserve: not installed (it needs the extra postgres, uvloop and Postgres)")
        return
    with tempfile.TemporaryDirectory(dir=Path(options.folder).absolute()) as folder:
        Path(folder).chmod(0o711)  # Postgres runs as another user than root
        print("Latencies, CPU and one sync of the WAL in us.")
        titles = ("events/s", "p50", "p99", "CPU client", "Postgres", "WAL bytes", "sync", "load")
        print(_row("", titles))
        results = {}
        with Cluster(Path(folder) / "postgres") as cluster:
            for point, found in measure(cluster, options.seconds, options.rounds):
                results[point] = found
                figures = (*asdict(found).values(),)
                shown = [f"{figure:,.0f}" for figure in figures]
                print(_row(str(point), (*shown, f"{os.getloadavg()[0]:.1f}")), flush=True)
            print(describe_disk(cluster))
    if options.json:
        found_all = Measurements(os.cpu_count() or 1, results)
        Path(options.json).write_text(found_all.to_json(), encoding="utf-8")


def measure(
    cluster: Cluster, seconds: float, rounds: int, points: Sequence[Point] = POINTS
) -> Iterator[tuple[Point, Result]]:
    """Measure each point; yield the quickest of `rounds` measurements.

    Other programs on the machine only slow it down, and nothing is compared with another system.
    """
    for point in points:
        times = rounds if point.backlog < _DEEP else 1
        found = [_measure_once(cluster, point, seconds) for _ in range(times)]
        yield point, max(found, key=lambda each: each.rate)


def describe_disk(cluster: Cluster) -> str:
    """Return what events that wait take of the disk."""
    job = fill(SYSTEMS["evserve"], cluster, Point("cycle", backlog=_COUNTED).job)
    sizes = (
        "SELECT pg_table_size(name), pg_indexes_size(name) FROM to_regclass('evserve.event') name"
    )
    with psycopg.connect(job.url) as connection:
        table, indexes = (each / _COUNTED for each in connection.execute(sizes).fetchall()[0])
    return f"disk: {table:.0f} bytes of table and {indexes:.0f} of indexes for each that waits"


def _measure_once(cluster: Cluster, point: Point, seconds: float) -> Result:
    system = SYSTEMS["evserve"]
    job = fill(system, cluster, point.job, point.processes)
    before = cluster.syncs()
    result = load(system, cluster, job, point.processes, seconds)
    number, took = (now - then for now, then in zip(cluster.syncs(), before, strict=True))
    return evolve(result, sync=took / max(number, 1))


def _read_row(row: dict[str, Any]) -> tuple[Point, Result]:
    point = {name: row.pop(name) for name in asdict(Point(""))}
    return Point(**point), Result(**row)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:36}" + "".join(f"{cell:>11}" for cell in cells)


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.queue scaling", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of each measurement")
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="measurements of each load, of which the quickest counts",
    )
    parser.add_argument("--folder", default=".", help="folder on the disk to measure")
    parser.add_argument("--json", help="file for the figures, which `simulation` reads")
    return parser.parse_args(words)
