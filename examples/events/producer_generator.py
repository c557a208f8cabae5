"""A producer as the tutorials write it: a generator, pulled by whoever wants the next event.

The consumer sets the pace: while it works, nothing is produced, and when the process ends,
whatever was not pulled never existed. producer.py beside this file puts its events into a queue.

    python producer_generator.py 3
"""

import sys
from collections.abc import Iterator


def produce(count: int) -> Iterator[str]:
    """Make `count` events, one whenever somebody asks."""
    for number in range(count):
        yield f"click {number}"


def main() -> None:
    """Pull and show every event."""
    for event in produce(int(sys.argv[1])):
        print("produced", event)


if __name__ == "__main__":
    main()
