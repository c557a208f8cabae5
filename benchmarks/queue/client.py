"""One client process: `python -m benchmarks.queue.client MODULE fill|run < job.json`.

`fill` makes the tables and puts the backlog; `run` loads the system until the clocks stop.
"""

import sys
from importlib import import_module

from benchmarks.queue.job import Job, Tally


def main() -> None:
    """Do what the words of the command line say with the system of a module."""
    system = import_module(f"benchmarks.queue.{sys.argv[1]}")
    job = Job.from_json(sys.stdin.readline())
    if sys.argv[2] == "fill":
        system.fill(job)
    else:
        system.run(job, Tally())


if __name__ == "__main__":
    main()
