"""Runs one system in one or several processes, and takes its rate, latencies and CPU."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final, Protocol

from attrs import evolve, fields, frozen

from benchmarks.queue.job import WARM_UP, Job, Outcome, sleep_until
from benchmarks.queue.systems import OWN_ENGINES, SYSTEMS, System


_LONGEST: Final = 60  # seconds in which something must have been done
_TIMEOUT: Final = 600  # seconds to fill or to start


class Store(Protocol):
    """What a system stores to: a Cluster or a Redis."""

    def fresh(self) -> str:
        """Return the URL of an empty database."""

    def cpu(self) -> float:
        """Return the seconds of CPU that its processes have used."""

    def wal(self) -> int:
        """Return the bytes written to its log so far, 0 where nobody counts them."""


@frozen
class Result:
    """One measurement: operations/s; per operation, latencies and CPU in microseconds.

    wal: bytes of log per operation.  sync: microseconds of one sync of the log in this time,
    where `scaling` asks for it.
    """

    rate: float
    p50: float
    p99: float
    client_cpu: float
    store_cpu: float
    wal: float = 0.0
    sync: float = 0.0

    @property
    def cpu(self) -> float:
        """Microseconds of CPU per operation, of clients and store together."""
        return self.client_cpu + self.store_cpu

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], store_cpu: float, wal: int = 0) -> "Result":
        """Sum up the processes of one measurement; `store_cpu` is in seconds, `wal` in bytes."""
        count = sum(each.count for each in outcomes)
        if count == 0:
            raise SystemExit("no operation was done in the time of the measurement")
        latencies = sorted(latency for each in outcomes for latency in each.latencies)
        return cls(
            sum(each.count / each.seconds for each in outcomes),
            latencies[len(latencies) // 2] * 1e6,
            latencies[len(latencies) * 99 // 100] * 1e6,
            sum(each.cpu for each in outcomes) / count * 1e6,
            store_cpu / count * 1e6,
            wal / count,
        )


def fill(system: System, store: Store, job: Job, processes: int = 1) -> Job:
    """Return `job` with the URL of a new database, where each process finds its backlog."""
    job = evolve(job, url=store.fresh())
    with _start(system, "fill", evolve(job, backlog=job.backlog * processes)) as filling:
        if filling.wait(_TIMEOUT):
            raise SystemExit(f"{system.module}: cannot fill its tables")
    return job


def run(system: System, store: Store, job: Job, processes: int, seconds: float) -> Result:
    """Measure `job` on a new database, with so many client processes."""
    return load(system, store, fill(system, store, job, processes), processes, seconds)


def load(system: System, store: Store, job: Job, processes: int, seconds: float) -> Result:
    """Measure a job that `fill` returned."""
    clients = [_start(system, "run", job) for _ in range(processes)]
    try:
        for client in clients:
            if _read(client) != "ready\n":
                raise SystemExit(f"{system.module}: its client does not start")
        begin = time.monotonic() + (0.05 if job.what == "take" else WARM_UP)
        for client in clients:
            assert client.stdin is not None
            client.stdin.write(f"{begin} {begin + seconds}\n")
            client.stdin.flush()
        sleep_until(begin)
        cpu, wal = store.cpu(), store.wal()
        sleep_until(begin + seconds)
        cpu, wal = store.cpu() - cpu, store.wal() - wal
        outcomes = [Outcome.from_json(_read(client)) for client in clients]
    finally:
        for client in clients:
            client.kill()
            with client:
                pass
    if not any(each.count for each in outcomes) and seconds < _LONGEST:
        # Other programs kept the machine from it.
        return load(system, store, job, processes, 3 * seconds)
    return Result.of(outcomes, cpu, wal)


def take_turns(
    names: Sequence[str],
    stores: Mapping[str, Store],
    job: Job,
    *,
    processes: int,
    seconds: float,
    rounds: int,
) -> dict[str, list[Result]]:
    """Measure the systems one after the other, `rounds` times, so that all have its slow moments.

    stores: by System.store.
    """
    results: dict[str, list[Result]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            system = SYSTEMS.get(name) or OWN_ENGINES[name]
            store = stores[system.store]
            results[name].append(run(system, store, job, processes, seconds))
    return results


def middle(results: Sequence[Result]) -> Result:
    """Return the median of each figure."""
    names = [each.name for each in fields(Result)]
    return Result(*(median(getattr(each, name) for each in results) for name in names))


def _start(system: System, what: str, job: Job) -> "subprocess.Popen[str]":
    client = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "benchmarks.queue.client", system.module, what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Linux shares the CPU by sessions first, and each process of Postgres has one of its own.
        start_new_session=True,
    )
    assert client.stdin is not None
    # Not on the command line: the URL has a password, and anyone may list processes.
    client.stdin.write(job.to_json() + "\n")
    client.stdin.flush()
    return client


def _read(client: "subprocess.Popen[str]") -> str:
    assert client.stdout is not None
    return client.stdout.readline()
