"""A producer as tutorials write it: a generator, from which the consumer pulls the next event.

The consumer sets the pace: while it works, nothing is produced, and events that were not pulled
when the process ends never existed. producer.py in this folder puts its events into a queue.

    python producer_generator.py 3
"""

import sys
from collections.abc import Iterator


def produce(count: int) -> Iterator[str]:
    """Yield `count` events, each when the consumer pulls it."""
    for number in range(count):
        yield f"click {number}"


def main() -> None:
    """Pull and show every event."""
    for event in produce(int(sys.argv[1])):
        print("produced", event)


if __name__ == "__main__":
    main()
