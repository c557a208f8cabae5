"""evserve's durable engines side by side: sqlite:, beanstalk:// to evserve's server, postgresql://.

In `sqlite:` the queue is in the client's process, so that only one process can have it.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import define, field

from benchmarks.queue.cluster import Cluster
from benchmarks.queue.job import Job
from benchmarks.queue.measure import Store, take_turns
from benchmarks.queue.report import table
from benchmarks.queue.servers import EVSERVE, Server
from benchmarks.queue.systems import OWN_ENGINES


@define(eq=False)
class Files:
    """A database file for each measurement; its CPU is the client's."""

    folder: Path

    def fresh(self) -> str:
        """Return the URL of a file that does not exist."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        return f"sqlite://{self.folder.absolute()}/queue.db"

    def cpu(self) -> float:
        """Return 0."""
        return 0.0

    def wal(self) -> int:
        """Return 0."""
        return 0


@define(eq=False)
class QueueServer:
    """evserve's queue server, with a new store for each measurement."""

    folder: Path
    _stack: ExitStack = field(init=False, factory=ExitStack)
    _server: Server = field(init=False)

    def fresh(self) -> str:
        """Return the URL of an empty server."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._server = self._stack.enter_context(Server(EVSERVE, self.folder, {}))
        return f"beanstalk://127.0.0.1:{self._server.port}"

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used."""
        return self._server.usage().cpu

    def wal(self) -> int:
        """Return 0."""
        return 0

    def close(self) -> None:
        """End the server."""
        self._stack.close()


def main(words: Sequence[str]) -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser("python -m benchmarks.queue engines", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="so often each engine has its turn")
    parser.add_argument("--folder", default=".", help="folder on the disk to measure")
    options = parser.parse_args(words)
    names = [name for name, system in OWN_ENGINES.items() if system.installed]
    for name in OWN_ENGINES.keys() - set(names):
        print(f"{name}: not installed")
    print(
        "`x`: the figure as a multiple of that of postgresql:, the median of rounds' ratios.\n"
        "CPU in us per event: of the client process, and of the server's processes."
    )
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(dir=Path(options.folder).absolute())
        folder = Path(stack.enter_context(temporary))
        folder.chmod(0o711)  # Postgres runs as another user than root
        server = QueueServer(folder / "server")
        stack.callback(server.close)
        stores: dict[str, Store] = {"file": Files(folder / "file"), "server": server}
        if "postgresql:" in names:
            stores["postgres"] = stack.enter_context(Cluster(folder / "postgres"))
        for what in ("put", "take", "cycle"):
            for clients in (1, 50):
                backlog = {1: 8_000, 50: 40_000}[clients] if what == "take" else 0
                results = take_turns(
                    names,
                    stores,
                    Job("", what, clients, backlog=backlog),
                    processes=1,
                    seconds=options.seconds,
                    rounds=options.rounds,
                )
                load = f"load average {os.getloadavg()[0]:.1f}"
                title = f"{what}, {clients} clients ({load})"
                print("\n" + table(title, results, "postgresql:"), flush=True)
