"""The systems to compare: what drives them, what they store to, what they need."""

import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

from attrs import frozen

from benchmarks.queue.cluster import find_program


@frozen
class System:
    """A queue to measure.

    module: of this package, with `fill(job)` and `run(job, tally)`.  needs: modules.  store: the
    name of a Store: `postgres`, `redis` and how it syncs, `file` or `server`.  loads:
    what it can be asked for (Job.what).
    """

    module: str
    needs: tuple[str, ...] = ()
    store: str = "postgres"
    loads: tuple[str, ...] = ("put", "take", "cycle")
    batches: bool = True

    @property
    def installed(self) -> bool:
        """Whether its modules and its server are here."""
        has_server = {
            "postgres": find_program("postgres"),
            "redis": shutil.which("redis-server"),
        }.get(self.store.partition(" ")[0], "evserve itself")
        return has_server is not None and all(find_spec(each) is not None for each in self.needs)


SYSTEMS: Final[Mapping[str, System]] = {
    "evserve": System("with_evserve", ("psycopg", "uvloop", "evserve.events.postgres.engine")),
    "evserve work": System(
        "with_evserve_work",
        ("psycopg", "uvloop", "evserve.events.postgres.engine"),
        loads=("take", "cycle"),
    ),
    "plain": System("with_plain", ("psycopg", "uvloop")),
    "procrastinate": System("with_procrastinate", ("procrastinate", "psycopg_pool", "uvloop")),
    "pgqueuer": System("with_pgqueuer", ("pgqueuer", "asyncpg", "uvloop")),
    "dramatiq, always": System(
        "with_dramatiq", ("dramatiq", "redis"), "redis always", batches=False
    ),
    "dramatiq, default": System(
        "with_dramatiq", ("dramatiq", "redis"), "redis default", batches=False
    ),
}

OWN_ENGINES: Final[Mapping[str, System]] = {
    "sqlite:": System("with_evserve", ("psycopg", "uvloop"), "file"),
    "beanstalk:": System("with_evserve", ("psycopg", "uvloop"), "server"),
    "postgresql:": SYSTEMS["evserve"],
}
"""The engines among which a user of evserve chooses."""
