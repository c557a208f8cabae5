"""One measurement: a server under a load, and the result."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

from attrs import frozen

from benchmarks.queue.servers import HERE, Kind, Server


SIZE: Final = 256  # bytes of a body


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
        words = [server.port, load.clients, seconds, count, SIZE, load.what]
        done = subprocess.run(  # noqa: S603 - compiled above
            [str(self.load), *map(str, words)], check=True, capture_output=True, text=True
        )
        operations, took, p50, p99 = map(float, done.stdout.split())
        cpu = (server.usage().cpu - before.cpu) / operations * 1e6
        return Result(operations / took, p50, p99, cpu)
