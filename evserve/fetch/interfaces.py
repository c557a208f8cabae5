"""What the fetcher needs of an HTTP engine, and what it offers to whoever keeps what it fetched.

`client.Client` is the engine; `memory.MemoryEngine` is another, for tests.
"""

from typing import Any, Protocol

from twisted.internet.defer import Deferred

from evserve.http.messages import Head
from evserve.http.proxies import Proxy
from evserve.http.request import Receiver, Request
from evserve.http.url import Origin


class Exchange(Protocol):
    """A request under way."""

    def pause(self) -> None:
        """Deliver no more of the body until `resume`."""

    def resume(self) -> None:
        """Deliver what waits, and go on."""

    def cancel(self, error: Exception | None = None) -> None:
        """End now; the receiver is told `error`."""


class Engine(Protocol):
    """Sends requests, each as it is told to."""

    def fetch(self, request: Request, receiver: Receiver) -> Exchange:
        """Begin; `receiver.finished` is called once and last, maybe before this returns."""

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """Return the proxy that requests to `origin` go through."""

    def close(self) -> None:
        """Cancel what is under way and close every connection."""


class Copy(Protocol):
    """One response being kept."""

    def write(self, data: bytes) -> None:
        """Keep a part of the body; an exception here fails the fetch."""

    def close(self, error: Exception | None) -> "Deferred[None] | None":
        """The body is complete, or ended with `error`.

        An exception, or a Deferred that fails, fails the fetch. Called once.
        """


class Arrival(Protocol):
    """A response that has begun, as stores see it."""

    text: str  # the URL as it was given
    sent: Request
    count: int  # bytes of the body so far
    hasher: Any  # hashlib's, over these
    exchange: Exchange | None
    path: str | None  # where a store puts the file
    again: bool  # set by a store that raises: ask once more, without what it knew


class Store(Protocol):
    """Keeps responses: as files, in an archive."""

    def prepare(self, request: Request, text: str) -> Request:
        """Return the request to send instead; `text` is the URL as it was given."""

    def open(self, arrival: Arrival, head: Head) -> Copy | None:
        """Begin to keep a response; None if this one is of no interest."""
