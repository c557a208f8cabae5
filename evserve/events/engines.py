"""From a URL to a queue: the scheme selects the module of the engine, which is imported only then.

A new engine is a module with `open_engine(url: QueueURL, reactor) -> EventQueue`, and a row in
ENGINES. `open_engine` returns at once and may still be opening the queue: calls wait for that. It
raises QueueError, in one line, for mistakes that it can see at once.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from attrs import frozen

from evserve.events.errors import BadQueueURL
from evserve.events.event_queue import EventQueue


ENGINES: Final[Mapping[str, str]] = {
    "beanstalk": "evserve.events.beanstalk",
    "memory": "evserve.queue.embedded",
    "postgresql": "evserve.events.postgres",
    "sqlite": "evserve.queue.embedded",
}


@frozen
class QueueURL:
    """The parts of a queue's URL.

    text: the whole URL.  host, port: None where the URL has none.  path: unquoted, absolute in
    `sqlite:///var/queue.db` and relative in `sqlite:var/queue.db`, as in any URL.
    """

    text: str
    scheme: str
    host: str | None = None
    port: int | None = None
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> "QueueURL":
        """Parse `text`; raises BadQueueURL."""
        if text.startswith("postgresql:"):
            return cls(text, "postgresql")  # may name several hosts: libpq reads it
        try:
            parts = urlsplit(text)
            return cls(text, parts.scheme, parts.hostname, parts.port, _path(parts))
        except ValueError as error:
            raise BadQueueURL(f"{text!r} is not a queue URL: {error}") from error


def _path(parts: SplitResult) -> str:
    if parts.query or parts.fragment:
        raise ValueError("? and # are not supported; write %3F or %23 in a path")
    path = unquote(parts.path)
    if "\0" in path:
        raise ValueError("there is a null character in its path")
    return path


def open_queue(url: str, reactor: Any) -> EventQueue:
    """Return the queue at `url`; it may still be connecting.

    `sqlite:///absolute/path` or `sqlite:relative/path`: embedded, durable.  `memory:`: embedded,
    empty at first and gone with the process.  `beanstalk://host:port`: a server.  Raises
    QueueError.
    """
    parsed = QueueURL.parse(url)
    if parsed.scheme not in ENGINES:
        known = ", ".join(f"{scheme}:" for scheme in sorted(ENGINES))
        raise BadQueueURL(f"{url!r} is not a queue URL: it should begin with one of {known}")
    try:
        module = import_module(ENGINES[parsed.scheme])
    except ImportError as error:
        raise BadQueueURL(f"{parsed.scheme}: queues cannot be used: {error}") from error
    queue: EventQueue = module.open_engine(parsed, reactor)
    return queue
