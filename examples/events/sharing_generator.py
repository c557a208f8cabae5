"""Two consumers that share the work, as tutorials write it: jobs dealt out in turn.

The dealer does not know which consumer is busy: a slow one gets as many jobs as a fast one, and
all wait for it. sharing.py in this folder uses a queue, from which a free consumer takes a job.

    python sharing_generator.py 4
"""

import sys
from collections.abc import Generator, Iterable
from itertools import cycle


Consumer = Generator[None, str, None]


def consumer(name: str) -> Consumer:
    """Do every job that is sent here."""
    while True:
        job = yield
        print(f"{name} did {job}")


def deal(jobs: Iterable[str], consumers: list[Consumer]) -> None:
    """Send each job to one consumer, in turn."""
    for each in consumers:
        next(each)  # a generator accepts nothing before it has reached its first yield
    for job, each in zip(jobs, cycle(consumers), strict=False):
        each.send(job)


def main() -> None:
    """Let two consumers share the jobs."""
    jobs = (f"job {number}" for number in range(int(sys.argv[1])))
    deal(jobs, [consumer("fast"), consumer("slow")])


if __name__ == "__main__":
    main()
