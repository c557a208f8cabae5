"""Two generators consume from one producer: each event goes to the first that asks for it.

The producer pauses at every `yield` until the next event is requested, so it never makes more than
is taken, and needs no queue. The consumers are generators as well: the loop at the end resumes
them in turn. Nothing runs at the same time.

In ../events/fanout_generator.py both consumers get every event.
"""

from collections.abc import Iterator


def produce(count: int) -> Iterator[str]:
    """Make an event each time one is requested."""
    for number in range(1, count + 1):
        print(f"producer makes event {number}")
        yield f"event {number}"


def consume(name: str, events: Iterator[str]) -> Iterator[None]:
    """Take one event at a time, and pause after each."""
    for event in events:
        print(f"{name} takes {event}")
        yield
    print(f"{name} finds nothing more")


def main() -> None:
    """Resume the consumers in turn until all have ended."""
    events = produce(5)
    consumers = [consume("first", events), consume("second", events)]
    while consumers:
        for consumer in list(consumers):
            try:
                next(consumer)
            except StopIteration:
                consumers.remove(consumer)


if __name__ == "__main__":
    main()
