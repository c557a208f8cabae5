"""The engine postgresql:// beside other queues: which loads, on what, and the goals."""

import argparse
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from attrs import frozen

from benchmarks.goals import Goal, verdict
from benchmarks.queue.cluster import Cluster
from benchmarks.queue.job import Job
from benchmarks.queue.measure import Result, Store, take_turns
from benchmarks.queue.redis_server import Redis
from benchmarks.queue.report import table
from benchmarks.queue.systems import SYSTEMS


_BACKLOG: Final = {1: 8_000, 50: 20_000}  # for `take`, by clients: of each process


@frozen
class Scenario:
    """A load on all systems.

    what, clients, batch: as in Job, of each of so many processes.  standby: commits wait for one.
    """

    what: str
    clients: int
    processes: int = 1
    standby: bool = False
    batch: int = 1

    @property
    def name(self) -> str:
        """Return its name, such as put-50x4-standby."""
        what = self.what if self.batch == 1 else f"batch{self.batch}"
        standby = "-standby" if self.standby else ""
        return f"{what}-{self.clients}x{self.processes}{standby}"

    @property
    def title(self) -> str:
        """Return it in words."""
        what = {
            "put": f"puts, batches of {self.batch}" if self.batch > 1 else "puts",
            "take": "reserve, handle, acknowledge; a backlog",
            "cycle": "put, reserve, handle, acknowledge",
        }[self.what]
        clients = f"{self.clients} each in {self.processes} processes"
        if self.processes == 1:
            clients = f"{self.clients} in one process"
        return f"{self.name}: {what}; {clients}" + (
            "; synchronous standby" if self.standby else ""
        )

    @property
    def systems(self) -> list[str]:
        """Return the names of the systems that have what it loads."""
        return [
            name
            for name, system in SYSTEMS.items()
            if self.what in system.loads
            and (system.batches or self.batch == 1)
            and (system.store == "postgres" or not self.standby)
        ]

    @property
    def job(self) -> Job:
        """Return the job of each process; its URL is filled in later."""
        backlog = _BACKLOG[self.clients] if self.what == "take" else 0
        return Job("", self.what, self.clients, batch=self.batch, backlog=backlog)


SCENARIOS: Final = (
    *(Scenario(what, clients) for what in ("put", "take", "cycle") for clients in (1, 50)),
    Scenario("put", 1, batch=50),
    *(Scenario(what, clients, 4) for what in ("put", "cycle") for clients in (1, 50)),
    Scenario("take", 50, 4),
    *(Scenario(what, clients, 1, True) for what in ("put", "cycle") for clients in (1, 50)),
    *(Scenario(what, 50, 4, True) for what in ("put", "cycle")),
)

GOALS: Final = (
    *(
        Goal(f"{what}-50x1", measure, own, "procrastinate", **limit)
        for what, own in (("put", "evserve"), ("cycle", "evserve work"))
        for measure, limit in (("rate", {"at_least": 3.0}), ("cpu", {"at_most": 0.4}))
    ),
    *(Goal(f"{what}-50x1", "rate", "evserve", "plain", 2.0) for what in ("put", "take", "cycle")),
    *(
        Goal(f"{what}-1x1", "p50", "evserve", "plain", at_most=1.1)
        for what in ("put", "take", "cycle")
    ),
)


def main(words: Sequence[str]) -> None:
    """Parse the command line, measure, print."""
    options = _options(words)
    chosen = [each for each in SCENARIOS if not options.only or each.name in options.only]
    names = [name for name in options.systems if SYSTEMS[name].installed]
    for name in options.systems:
        if name not in names:
            print(f"{name}: not installed")
    print(
        "Bodies of 256 bytes. `x`: the figure as a multiple of evserve's, the median of rounds' "
        "ratios.\nCPU in us per event: of the client processes, and of the server's processes."
    )
    measured: dict[str, Mapping[str, Sequence[Result]]] = {}
    for standby in (False, True):
        scenarios = [each for each in chosen if each.standby is standby]
        if not scenarios:
            continue
        with run_stores(Path(options.folder).absolute(), names, standby=standby) as stores:
            for scenario in scenarios:
                systems = [name for name in scenario.systems if name in names]
                results = take_turns(
                    systems,
                    stores,
                    scenario.job,
                    processes=scenario.processes,
                    seconds=options.seconds,
                    rounds=options.rounds,
                )
                measured[scenario.name] = results
                load = f"load average {os.getloadavg()[0]:.1f}"
                print("\n" + table(f"{scenario.title} ({load})", results), flush=True)
    print()
    for goal in GOALS:
        print(verdict(goal, measured))


@contextmanager
def run_stores(
    folder: Path, names: Sequence[str], *, standby: bool = False
) -> Iterator[dict[str, Store]]:
    """Run what the named systems store to, in a temporary folder below `folder`."""
    needed = {SYSTEMS[name].store for name in names}
    with ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        path.chmod(0o711)  # Postgres runs as another user than root
        stores: dict[str, Store] = {}
        if "postgres" in needed:
            stores["postgres"] = stack.enter_context(Cluster(path / "postgres", standby))
        for always in (True, False):
            name = f"redis {'always' if always else 'default'}"
            if name in needed:
                stores[name] = stack.enter_context(Redis(path / name.replace(" ", "-"), always))
        yield stores


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.queue postgres", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="so often each system has its turn")
    parser.add_argument("--folder", default=".", help="folder on the disk to measure")
    names = [each.name for each in SCENARIOS]
    parser.add_argument("--only", nargs="+", choices=names, help="scenarios")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    return parser.parse_args(words)
