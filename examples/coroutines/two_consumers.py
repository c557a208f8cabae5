"""Two generators consume from one producer: each event goes to whoever asks for it first.

The producer stops at every `yield` until the next event is wanted, so it never makes more than is
taken, and no queue is needed between them. The consumers are generators, too: the loop at the end
resumes them in turn. Nothing here runs at the same time, and everything takes turns.

../events/fanout_generator.py lets each of two consumers have every event instead.
"""

from collections.abc import Iterator


def produce(count: int) -> Iterator[str]:
    """Make events, one whenever somebody asks."""
    for number in range(1, count + 1):
        print(f"producer makes event {number}")
        yield f"event {number}"


def consume(name: str, events: Iterator[str]) -> Iterator[None]:
    """Take an event at a time, and let others go on after each."""
    for event in events:
        print(f"{name} takes {event}")
        yield
    print(f"{name} finds nothing more")


def main() -> None:
    """Resume the consumers in turn until all are at their end."""
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
