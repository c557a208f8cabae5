"""`--sitemap URL`: the pages that a site says it has."""

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred

from evserve.fetch.fetcher import Fetcher
from evserve.fetch.job import Job
from evserve.fetch.polite.seen import Seen
from evserve.fetch.result import Result
from evserve.fetch.seam import Arrival
from evserve.fetch.sources.sitemap_parser import BadSitemap, SitemapParser
from evserve.http.errors import BadURL, FetchError
from evserve.http.headers import Head
from evserve.http.request import Request
from evserve.http.url import parse_url


_SUCCESS = range(200, 300)


class SitemapFailed(FetchError):  # noqa: N818 - named as in `errors`: it goes into the row
    """What was fetched is no sitemap."""


@define(eq=False)
class _Reading:
    """A Store and its Copy: feeds a body to a parser."""

    parser: SitemapParser = field(factory=SitemapParser)

    def prepare(self, request: Request, text: str) -> Request:
        return request

    def open(self, arrival: Arrival, head: Head) -> "_Reading | None":
        self.parser = SitemapParser()
        return self if head.status in _SUCCESS else None

    def write(self, data: bytes) -> None:
        try:
            self.parser.feed(data)
        except BadSitemap as error:
            raise SitemapFailed(str(error)) from None

    def close(self, error: Exception | None) -> None:
        if error is None:
            try:
                self.parser.finish()
            except BadSitemap as trouble:
                raise SitemapFailed(str(trouble)) from None


@define(eq=False)
class SitemapSource:
    """The URLs of a sitemap, or of all sitemaps of an index, one sitemap at a time.

    failed: told the result of a sitemap that could not be read.
    """

    _fetcher: Fetcher
    _waiting: list[str]
    _failed: Callable[[Result], object]
    _seen: Seen = field(factory=Seen)

    async def batch(self) -> list[str]:
        """See Source."""
        while self._waiting:
            url = self._waiting.pop()
            if self._seen.add(url):
                pages = await self._read(url)
                if pages:
                    return pages
        return []

    async def _read(self, url: str) -> list[str]:
        reading = _Reading()
        try:
            request = Request(parse_url(url), follow=False)
        except BadURL as error:
            self._failed(Result(url, error=f"BadURL: {error}"))
            return []
        done: Deferred[Result] = Deferred()
        # The site itself names these for robots to read.
        self._fetcher.submit(Job(url, request, done.callback, (reading,), heeds_robots=False))
        result = await done
        if result.error is not None:
            self._failed(result)
            return []
        self._waiting += reversed(reading.parser.sitemaps)
        return reading.parser.pages
