"""One client in a process of its own: `python -m benchmarks.http.client NAME < job.json`."""

import sys
from importlib import import_module
from importlib.util import find_spec

from benchmarks.http.job import Job, Outcome


# Name: the function that runs it, and the modules that it needs.
CLIENTS = {
    "evserve": ("with_fetcher:run", ("uvloop",)),
    "evserve-epoll": ("with_fetcher:run_epoll", ()),
    "client": ("with_client:run", ("uvloop",)),
    "client-epoll": ("with_client:run_epoll", ()),
    "treq-evserve": ("with_treq:run_over_evserve", ()),
    "treq": ("with_treq:run", ()),
    "aiohttp": ("with_others:run_aiohttp", ("aiohttp", "uvloop")),
    "gevent": ("with_others:run_gevent", ("gevent", "requests")),
    "curl": ("with_others:run_curl", ()),
}


def is_installed(name: str) -> bool:
    """Whether everything that a client needs is installed."""
    return all(find_spec(module) is not None for module in CLIENTS[name][1])


def run(name: str, job: Job) -> Outcome:
    """Run a job in this process."""
    module, _, function = CLIENTS[name][0].partition(":")
    outcome: Outcome = getattr(import_module(f"benchmarks.http.{module}"), function)(job)
    return outcome


if __name__ == "__main__":
    print(run(sys.argv[1], Job.from_json(sys.stdin.read())).to_json())
