"""A run: URLs from their sources, each once, a window of them under way at a time."""

from collections.abc import Callable, Sequence

from attrs import define, field
from twisted.internet.defer import Deferred

from evserve.fetch.fetcher import Fetcher
from evserve.fetch.polite.seen import Seen
from evserve.fetch.result import Result
from evserve.fetch.sources.lines import Source
from evserve.http.errors import BadURL
from evserve.http.headers import Headers
from evserve.http.url import parse_url


# URLs that wait or are under way. Enough for every origin of a mixed list to have its share.
WINDOW = 2000


@define(eq=False)
class Run:
    """Feeds the fetcher as fast as it fetches.

    record: told the key and the result of each URL, and what to call when that is kept.
    seen: keys that need not be fetched.
    """

    _fetcher: Fetcher
    _sources: Sequence[Source]
    _record: Callable[[str, Result, Callable[[bool], object]], object]
    _seen: Seen = field(factory=Seen)
    _headers: Headers = field(factory=Headers)
    _window: int = WINDOW
    pending: int = field(default=0, init=False)
    skipped: int = field(default=0, init=False)  # because they were seen
    is_fed: bool = field(default=False, init=False)  # nothing more comes from the sources
    _low: int | None = field(default=None, init=False)  # pending URLs at which to go on
    _going_on: "Deferred[None] | None" = field(default=None, init=False)

    async def fetch_all(self) -> None:
        """Fetch everything; raises OSError if a source cannot be read."""
        for source in self._sources:
            while batch := await source.batch():
                await self._feed(batch)
        self.is_fed = True
        await self._until(0)

    async def _feed(self, batch: list[str]) -> None:
        for text in batch:
            if self.pending >= self._window:
                await self._until(self._window // 2)
            self._submit(text)

    def _submit(self, text: str) -> None:
        try:
            url = parse_url(text)
        except BadURL as error:
            if self._is_new(text):
                self._record(text, Result(text, error=f"BadURL: {error}"), self._kept)
            return
        key = url.identity
        if self._is_new(key):
            self._fetcher.start_parsed(
                text,
                url,
                lambda result: self._record(key, result, self._kept),
                headers=self._headers,
            )

    def _is_new(self, key: str) -> bool:
        """Count a URL; whether it is to be fetched."""
        if not self._seen.add(key):
            self.skipped += 1
            return False
        self.pending += 1
        return True

    def _kept(self, is_kept: bool) -> None:
        self.pending -= 1
        if self._going_on is not None and self._low is not None and self.pending <= self._low:
            going_on, self._going_on = self._going_on, None
            going_on.callback(None)

    async def _until(self, low: int) -> None:
        """Wait until no more than `low` URLs are pending."""
        if self.pending > low:
            self._low, self._going_on = low, Deferred()
            await self._going_on
