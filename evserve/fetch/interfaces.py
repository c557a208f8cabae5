"""The seams of the fetcher: HTTP clients below it, sources before it, sinks behind it.

| seam         | implementations                                                            |
|--------------|----------------------------------------------------------------------------|
| `HTTPClient` | `evserve.http.Client`, `agents.AgentClient`, `testing.MemoryHTTPClient`    |
| `Source`     | `ListSource`, `FileSource` and `StreamSource` in `sources`; `SitemapSource` |
| `Sink`       | `output.files.FileSink`, `output.warc.WARCSink`; `robots`, `sitemaps`: their own |
"""

from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred

from evserve.http.headers import Head
from evserve.http.proxy import Proxy
from evserve.http.request import Receiver, Request
from evserve.http.url import Origin


if TYPE_CHECKING:  # a job has sinks, and a sink gets the job
    from evserve.fetch.job import Job


class Exchange(Protocol):
    """A request in flight."""

    def pause(self) -> None:
        """Deliver no more of the body until `resume`."""

    def resume(self) -> None:
        """Continue to deliver the body."""

    def cancel(self, error: Exception | None = None) -> None:
        """End the request; the receiver's `finished` gets `error`."""


class HTTPClient(Protocol):
    """Sends single requests; it follows no redirects and retries nothing."""

    def fetch(self, request: Request, receiver: Receiver) -> Exchange:
        """Send `request`; `receiver.finished` is called once, perhaps before this returns.

        A client that does not see the bytes of a connection ignores `request.tap`.
        """

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """Return the proxy that requests to `origin` go through."""

    def close(self) -> None:
        """Cancel all requests in flight and close every connection."""


class Source(Protocol):
    """Where URLs come from."""

    async def next_batch(self) -> list[str]:
        """Return the next URLs, an empty list at the end; raises OSError."""
        ...


class ResponseWriter(Protocol):
    """Stores one response for a sink."""

    def write(self, data: bytes) -> None:
        """Store the next part of the body; an exception fails the URL."""

    def close(self, error: Exception | None) -> "Deferred[None] | None":
        """End the response, which is complete if `error` is None. Called once.

        The URL waits for the Deferred; its failure, or an exception, fails the URL.
        """


class Sink(Protocol):
    """Where responses go."""

    def prepare(self, request: Request, url: str) -> Request:
        """Return the request to send instead; `url` is the URL as it was given."""

    def open(self, job: "Job", head: Head) -> ResponseWriter | None:
        """Return a writer for a response that begins; None to ignore it.

        An exception fails the URL, or repeats the request if the sink sets `job.resends`.
        """
