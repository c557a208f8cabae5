"""One client in a process of its own: `python -m benchmarks.http.client NAME < job.json`."""

import sys
from importlib import import_module
from importlib.util import find_spec

from benchmarks.http.job import Job, Outcome


_HERE = "benchmarks.http"
# Name, the function that runs it, what must be installed.
CLIENTS = {
    "evserve": ("with_fetcher:run", ()),
    "evserve-uvloop": ("with_fetcher:run_uvloop", ("uvloop", "evserve.reactor")),
    "engine": ("with_engine:run", ()),
    "engine-uvloop": ("with_engine:run_uvloop", ("uvloop", "evserve.reactor")),
    "treq-evserve": ("with_treq:run_over_engine", ()),
    "treq": ("with_treq:run", ()),
    "aiohttp": ("with_aiohttp:run", ("aiohttp", "uvloop")),
    "gevent": ("with_gevent:run", ("gevent", "requests")),
    "curl": ("with_curl:run", ()),
}


def is_installed(name: str) -> bool:
    """Whether everything that a client needs is here."""
    return all(_is_found(module) for module in CLIENTS[name][1])


def _is_found(module: str) -> bool:
    return find_spec(module) is not None


def run(name: str, job: Job) -> Outcome:
    """Run a job in this process."""
    module, _, function = CLIENTS[name][0].partition(":")
    outcome: Outcome = getattr(import_module(f"{_HERE}.{module}"), function)(job)
    return outcome


if __name__ == "__main__":
    print(run(sys.argv[1], Job.from_json(sys.stdin.read())).to_json())
