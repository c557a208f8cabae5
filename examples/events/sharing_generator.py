"""Two consumers that share the work, as the tutorials write it: events dealt out in turn.

The dealer cannot know who is busy: a slow consumer gets as much as a fast one, and all wait for
it. sharing.py beside this file lets whoever is free take the next event from a queue.

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
        next(each)  # a generator takes nothing before it has reached its first yield
    for job, each in zip(jobs, cycle(consumers), strict=False):
        each.send(job)


def main() -> None:
    """Let two consumers share the jobs."""
    jobs = (f"job {number}" for number in range(int(sys.argv[1])))
    deal(jobs, [consumer("fast"), consumer("slow")])


if __name__ == "__main__":
    main()
