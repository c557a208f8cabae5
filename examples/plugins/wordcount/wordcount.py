"""Two handlers: a blocking one, which runs in a thread, and an async one.

An event may be delivered twice, because a worker may die between its work and its acknowledgement.
So a handler must be idempotent: this one writes the same file with the same content.
"""

from pathlib import Path

from twisted.logger import Logger

from evserve.events import Event


log = Logger()


def count_words(event: Event) -> None:
    """Count the words of the file that the event names, and write the number beside it."""
    path = Path(event.body.decode())
    words = len(path.read_text(encoding="utf-8").split())
    path.with_suffix(".count").write_text(f"{words}\n", encoding="utf-8")
    log.info("{path} has {words} words", path=path, words=words)


async def announce(event: Event) -> None:
    """Log any other event about texts."""
    log.info("{kind}: {text}", kind=event.type, text=event.body.decode())
