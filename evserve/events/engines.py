"""From a URL to a queue: the scheme selects the module of the engine, which is imported only then.

A new engine is a module with `open_engine(url: QueueURL, reactor) -> EventQueue`, and a row in
ENGINES. `open_engine` raises QueueError, in one line, for a mistake in the URL. It starts no
thread and opens no file and no connection before the reactor runs: `twistd` may fork until then.
"""

import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from attrs import field, frozen

from evserve.events.errors import BadQueueURL
from evserve.events.event_queue import EventQueue


ENGINES: Final[Mapping[str, str]] = {
    "beanstalk": "evserve.events.beanstalk",
    "beanstalk+tls": "evserve.events.beanstalk",
    "beanstalk+unix": "evserve.events.beanstalk",
    "memory": "evserve.queue.embedded",
    "postgresql": "evserve.events.postgres",
    "sqlite": "evserve.queue.embedded",
}

OPAQUE: Final = frozenset({"postgresql"})
"""Schemes of which only the engine can read the URLs: libpq's name several hosts, for example."""

_PASSWORDS: Final = (
    (re.compile(r"(//[^:/?#@]*:).*@"), r"\1***@"),
    (re.compile(r"([?&](?:ssl)?password=)[^&]*"), r"\1***"),
)


@frozen
class QueueURL:
    """The parts of a queue's URL.

    text: the whole URL.  host, port: None where the URL has none.  path: unquoted, absolute in
    `sqlite:///var/queue.db` and relative in `sqlite:var/queue.db`, as in any URL.  parameters:
    what follows `?`, such as `?ca=/etc/ca.pem`, unquoted.  Of an OPAQUE scheme only `text` and
    `scheme` are set.
    """

    text: str
    scheme: str
    host: str | None = None
    port: int | None = None
    path: str = ""
    parameters: Mapping[str, str] = field(factory=dict)

    @classmethod
    def parse(cls, text: str) -> "QueueURL":
        """Parse `text`; raises BadQueueURL."""
        scheme = text.partition(":")[0].lower()
        if scheme in OPAQUE:
            return cls(text, scheme)
        try:
            parts = urlsplit(text)
            host, port = _address(parts)
            return cls(text, parts.scheme, host, port, _path(parts), _parameters(parts))
        except ValueError as error:
            raise BadQueueURL(f"{_shown(text)} is not a queue URL: {error}") from error

    @property
    def shown(self) -> str:
        """The URL in quotes as messages and logs show it: without passwords."""
        return _shown(self.text)

    def allow_parameters(self, *names: str) -> None:
        """Raise BadQueueURL if there are other parameters than `names`."""
        for name in self.parameters:
            if name not in names:
                known = f"there are only {', '.join(names)}" if names else "it takes none"
                raise BadQueueURL(
                    f"{self.shown}: unknown parameter {name!r} ({known}; a ? in a path is %3F)"
                )


def _shown(text: str) -> str:
    for pattern, hidden in _PASSWORDS:
        text = pattern.sub(hidden, text)
    return repr(text)


def _address(parts: SplitResult) -> tuple[str | None, int | None]:
    if "@" in parts.netloc:
        raise ValueError("it takes no user name and no password")
    try:
        return parts.hostname, parts.port
    except ValueError:  # whose message shows a part of a password, if there is a / in it
        raise ValueError("its port is not a number between 0 and 65535") from None


def _path(parts: SplitResult) -> str:
    if parts.fragment:
        raise ValueError("# is not supported; write %23 in a path")
    path = unquote(parts.path)
    if "\0" in path:
        raise ValueError("there is a null character in its path")
    return path


def _parameters(parts: SplitResult) -> dict[str, str]:
    if not parts.query:
        return {}
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise ValueError("NAME=VALUE should follow the ? (in a path, ? is %3F)") from None
    parameters = dict(pairs)
    if len(parameters) < len(pairs):
        raise ValueError("a parameter occurs twice")
    return parameters


def open_queue(url: str, reactor: Any) -> EventQueue:
    """Return the queue at `url`; it opens its file or connects to its server later.

    `sqlite:///absolute/path` or `sqlite:relative/path`: embedded, durable.  `memory:`: embedded,
    empty at first and gone with the process.

    `beanstalk://host:port`: a server.  `beanstalk+unix:///path/to/socket`: the same on a UNIX
    socket.  `beanstalk+tls://host:port`: with TLS; the certificate must be valid for `host` and
    come from an authority that the system trusts or, with `?ca=/path.pem`, from one in that file.
    `?cert=/path.pem` is a certificate of the client, with its private key in the same file or in
    that of `&key=/path.pem`.

    `postgresql://user@host/database`: tables in that database, for any number of processes.

    Raises QueueError.
    """
    parsed = QueueURL.parse(url)
    if parsed.scheme not in ENGINES:
        known = ", ".join(f"{scheme}:" for scheme in sorted(ENGINES))
        raise BadQueueURL(
            f"{parsed.shown} is not a queue URL: it should begin with one of {known}"
        )
    try:
        module = import_module(ENGINES[parsed.scheme])
    except ImportError as error:
        raise BadQueueURL(f"{parsed.scheme}: queues cannot be used: {error}") from error
    queue: EventQueue = module.open_engine(parsed, reactor)
    return queue
