"""Two consumers that each receive every event, as tutorials write it: `send` to generators.

Both run in turn inside the producer's loop, so the slower one delays the others, one that raises
ends all, and no consumer can be added from outside. fanout.py in this folder uses a queue.

    python fanout_generator.py 3
"""

import sys
from collections.abc import Generator, Iterable


Consumer = Generator[None, str, None]


def consumer(name: str) -> Consumer:
    """Show every event that is sent here."""
    while True:
        event = yield
        print(f"{name} got {event}")


def broadcast(events: Iterable[str], consumers: list[Consumer]) -> None:
    """Send every event to every consumer."""
    for each in consumers:
        next(each)  # a generator accepts nothing before it has reached its first yield
    for event in events:
        for each in consumers:
            each.send(event)


def main() -> None:
    """Let billing and audit receive every click."""
    clicks = (f"click {number}" for number in range(int(sys.argv[1])))
    broadcast(clicks, [consumer("billing"), consumer("audit")])


if __name__ == "__main__":
    main()
