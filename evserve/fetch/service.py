"""`twistd -n evserve fetch`: options, and the service that runs a crawl."""

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import define, field
from twisted.application.service import IService, Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure
from typing_extensions import override

from evserve.fetch.fetcher import Fetcher
from evserve.fetch.interfaces import Sink, Source
from evserve.fetch.output.journal import JournalError
from evserve.fetch.output.recorder import (
    OnKept,
    Recorder,
    format_size,
    open_recorder,
    open_sinks,
    write_error_message,
)
from evserve.fetch.output.warc import MissingWarcio
from evserve.fetch.policy import Policy, RetryPolicy, check_page_headers
from evserve.fetch.result import Result
from evserve.fetch.scheduler import DuplicateFilter
from evserve.fetch.sitemaps import SitemapSource
from evserve.fetch.sources import ListSource, StreamSource, open_lines
from evserve.http.client import Client
from evserve.http.cookies import Cookies
from evserve.http.errors import BadURL, FetchError
from evserve.http.headers import Headers, check_headers
from evserve.http.proxy import Proxies, named_proxy, proxies_from
from evserve.http.request import Request
from evserve.http.settings import Settings, Timeouts
from evserve.http.url import parse_url
from evserve.interfaces import IHost
from evserve.options import MAX_TIMER_SECONDS, integer_between, positive_integer, seconds_up_to


# URLs that wait or are in flight. Enough for every origin of a mixed list to get its share.
WINDOW = 2000
_REFRESH = 0.2  # seconds between two drawings of the progress bar
_log = Logger(namespace="evserve.fetch")
_MAX_COUNT: Final = 999_999_999
_positive_count = integer_between(1, _MAX_COUNT)
_count = integer_between(0, _MAX_COUNT)
_seconds = seconds_up_to(MAX_TIMER_SECONDS)
_positive_seconds = seconds_up_to(MAX_TIMER_SECONDS, positive=True)


def _user_agent(text: str) -> str:
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", text):
        raise ValueError("not a name such as mybot/1.0 (ASCII, no line breaks)")
    return text


class Options(usage.Options):
    """The options of `fetch`."""

    synopsis = "[options] URL..."
    longdesc = (
        "Fetches URLs, many at once, and prints a line for each. Obeys robots.txt, Retry-After "
        "and the limits below. The exit status is 0 if all URLs were fetched and 1 otherwise."
    )
    optParameters: list[list[Any]] = [
        ["input", "i", None, "Read URLs from this file, one per line; - is standard input"],
        ["output", "o", None, "Write one JSON object per line to this file; - is standard output"],
        ["save", None, None, "Save bodies as files in this folder"],
        ["warc", None, None, "Write a WARC 1.1 archive to this file (.gz: compressed)"],
        ["journal", None, None, "Record finished URLs in this file, so that the next run resumes"],
        ["queue", None, None, "Take fetch.url events from this queue, until stopped"],
        ["results-tube", None, None, "Put results into the queue as events of this type"],
        ["concurrency", None, 100, "Requests at once", _positive_count],
        ["per-origin", None, 4, "Requests at once to one origin", _positive_count],
        ["delay", None, 0.0, "Seconds between two requests to one origin", _seconds],
        ["retries", None, 2, "Retries for transient failures", _count],
        ["timeout", None, 300.0, "Seconds per URL, with all retries", _positive_seconds],
        ["connect-timeout", None, 15.0, "Seconds for connecting", _positive_seconds],
        ["idle-timeout", None, 30.0, "Seconds without data", _positive_seconds],
        ["max-redirects", None, 20, "Redirects to follow", _count],
        ["max-size", None, None, "Bytes of a body; longer ones fail", positive_integer],
        ["user-agent", None, "evserve", "User-Agent header, and name in robots.txt", _user_agent],
        ["proxy", None, None, "Proxy URL, instead of http_proxy and https_proxy"],
    ]
    optFlags = [
        ["no-robots", None, "Ignore robots.txt"],
        ["cookies", None, "Keep cookies during the run"],
        ["allow-private", None, "With --queue: fetch from private addresses too"],
    ]

    def __init__(self) -> None:
        usage.Options.__init__(self)
        self["urls"] = []
        self["sitemap"] = []
        self["header"] = []

    def opt_sitemap(self, url: str) -> None:
        """Fetch the pages of this sitemap or sitemap index (repeatable)"""  # noqa: D400 - shown by --help
        self["sitemap"].append(url)

    def opt_header(self, text: str) -> None:
        """Send this header, Name: value (repeatable)"""  # noqa: D400 - shown by --help
        name, colon, value = text.partition(":")
        line = name.encode(errors="replace"), value.strip().encode(errors="surrogateescape")
        if not colon:
            raise usage.UsageError(f"--header {text!r}: not a header (Name: value)")
        try:
            check_headers([line])
        except FetchError:
            problem = "not a header that can be sent (Name: value)"
            raise usage.UsageError(f"--header {text!r}: {problem}") from None
        self["header"].append(line)

    def _check_headers(self) -> None:
        """Refuse headers that would be changed on the way."""
        headers = Headers(self["header"])
        try:
            check_page_headers(headers)
        except FetchError as error:
            raise usage.UsageError(f"--{error}") from None  # which begins with "header NAME"
        for name in ("Range", "If-Range"):
            if self["save"] and name in headers:
                raise usage.UsageError(
                    f"--header {name}: --save fetches whole files (leave one out)"
                )
        for option in ("save", "warc"):
            if self[option] and headers.get("accept-encoding") not in (None, "identity"):
                problem = f"--{option} requests bodies uncompressed (leave one out)"
                raise usage.UsageError(f"--header Accept-Encoding: {problem}")

    def parseArgs(self, *urls: str) -> None:
        self["urls"] += urls

    @override
    def postOptions(self) -> None:
        given = self["urls"] or self["input"] is not None or self["sitemap"]
        if self["queue"] == "" or "" in self["sitemap"]:
            name = "queue" if self["queue"] == "" else "sitemap"
            raise usage.UsageError(f"--{name} '': not a URL")
        if not given and not self["queue"]:
            raise usage.UsageError("nothing to fetch (give URLs, -i FILE, --sitemap or --queue)")
        if given and self["queue"]:
            raise usage.UsageError("--queue: takes no other URLs (leave out -i, --sitemap, URLs)")
        if self["journal"] and self["queue"]:
            raise usage.UsageError("--queue: takes no journal (leave out --journal)")
        if self["results-tube"] and not self["queue"]:
            raise usage.UsageError("--results-tube: needs --queue")
        # Not in the parser of the value: its message would show the value, with a password.
        try:
            if self["proxy"] is not None:
                named_proxy(self["proxy"])
        except FetchError as error:
            raise usage.UsageError(f"--proxy: {error}") from None
        self._check_headers()
        self._check_files()

    def _check_files(self) -> None:
        """Refuse empty names, and files that would overwrite each other."""
        names: dict[str, str] = {}
        for name in ("input", "output", "warc", "journal", "save"):
            path = self[name]
            if path == "":
                raise usage.UsageError(f"--{name} '': not the name of a file")
            if path in (None, "-"):
                continue
            other = names.setdefault(os.path.realpath(path), name)
            if other != name and not os.path.realpath(path).startswith("/dev/"):
                raise usage.UsageError(f"--{other} and --{name} are the same file: {path}")


def makeService(options: usage.Options, host: IHost) -> IService:
    """Return the service; raises UsageError and OSError for mistakes that a user can fix."""
    try:
        recorder = open_recorder(options, host)
        fetcher = _make_fetcher(options, host, open_sinks(options, host, recorder))
    except (FetchError, JournalError, MissingWarcio) as error:
        raise usage.UsageError(str(error)) from error
    if options["queue"]:
        from evserve.fetch.queue import make_consumer

        return make_consumer(options, host, fetcher, recorder)
    sources = list(_sources(options, host, fetcher, recorder))
    duplicates = DuplicateFilter() if recorder.journal is None else recorder.journal.urls
    crawl = Crawl(fetcher, sources, recorder.record, duplicates, Headers(options["header"]))
    return CrawlService(host, fetcher, crawl, recorder)


def _make_fetcher(options: usage.Options, host: IHost, sinks: Sequence[Sink]) -> Fetcher:
    """Return a fetcher on evserve's HTTP client; raises ProxyFailed."""
    reactor: Any = host.reactor
    timeouts = Timeouts(options["connect-timeout"], options["idle-timeout"], options["timeout"])
    if options["proxy"] is None:
        proxies = proxies_from(os.environ)
    else:
        proxy = named_proxy(options["proxy"])
        proxies = Proxies(proxy, proxy)
    # Users may mean a machine in their own network, but events may come from strangers.
    allow_private = bool(options["allow-private"] or not options["queue"])
    if not allow_private and (proxies.http or proxies.https):
        _log.warn(
            "the proxy resolves names, so only the proxy can refuse names of private addresses"
        )
    settings = Settings(
        per_origin=options["per-origin"],
        connections=options["concurrency"],
        timeouts=timeouts,
        user_agent=options["user-agent"].encode("ascii"),
        allow_private=allow_private,
        proxies=proxies,
    )
    policy = Policy(
        concurrency=options["concurrency"],
        per_origin=options["per-origin"],
        delay=options["delay"],
        user_agent=options["user-agent"],
        obey_robots=not options["no-robots"],
        retry=RetryPolicy(options["retries"]),
        max_redirects=options["max-redirects"],
        max_size=options["max-size"],
        max_body=None,  # they go to sinks, in constant memory
    )
    client = Client(reactor, settings, Cookies() if options["cookies"] else None)
    return Fetcher(client, reactor, policy, sinks, timeouts)


def _sources(
    options: usage.Options, host: IHost, fetcher: Fetcher, recorder: Recorder
) -> Iterator[Source]:
    if options["urls"]:
        yield ListSource(options["urls"])
    if options["input"] == "-":
        if sys.stdin is None:
            raise usage.UsageError("-i -: standard input is closed")
        yield StreamSource(host.reactor, sys.stdin.fileno(), "-i -")
    elif options["input"]:
        yield open_lines(Path(options["input"]), host.reactor)
    if options["sitemap"]:

        def failed(result: Result) -> None:
            recorder.record(result.url, result, lambda _: None)

        yield SitemapSource(fetcher, options["sitemap"], failed, Headers(options["header"]))


@define(eq=False)
class Crawl:
    """Feeds the fetcher from the sources, each URL once, as fast as it fetches.

    record: gets the key and the result of each URL, and a callback for when that is kept.
    duplicates: keys of URLs that need not be fetched.  window: pending URLs at most.
    """

    _fetcher: Fetcher
    _sources: Sequence[Source]
    _record: Callable[[str, Result, OnKept], object]
    _duplicates: DuplicateFilter = field(factory=DuplicateFilter)
    _headers: Headers = field(factory=Headers)
    _window: int = WINDOW
    pending: int = field(default=0, init=False)
    at_end: bool = field(default=False, init=False)  # of the sources
    _resume_at: int = field(default=0, init=False)  # pending URLs
    _resumed: "Deferred[None] | None" = field(default=None, init=False)

    async def run(self) -> None:
        """Fetch everything; raises OSError if a source cannot be read."""
        for source in self._sources:
            while batch := await source.next_batch():
                for url in batch:
                    if self.pending >= self._window:
                        await self._wait_until(self._window // 2)
                    self._submit(url)
        self.at_end = True
        await self._wait_until(0)

    def _submit(self, text: str) -> None:
        try:
            url = parse_url(text)
        except BadURL as error:
            if self._is_new(text):
                self._record(text, Result.not_sent(text, error), self._kept)
            return
        key = url.identity
        if self._is_new(key):
            self._fetcher.fetch_page(
                text,
                Request(url, headers=self._headers, follow=False),
                lambda result: self._record(key, result, self._kept),
            )

    def _is_new(self, key: str) -> bool:
        """Whether a URL is no duplicate. If so, count it as pending."""
        is_new = self._duplicates.add(key)
        self.pending += is_new
        return is_new

    def _kept(self, is_kept: bool) -> None:
        self.pending -= 1
        if self._resumed is not None and self.pending <= self._resume_at:
            resumed, self._resumed = self._resumed, None
            resumed.callback(None)

    async def _wait_until(self, pending: int) -> None:
        """Wait until no more than `pending` URLs are pending."""
        if self.pending > pending:
            self._resume_at, self._resumed = pending, Deferred()
            await self._resumed


@define(eq=False, slots=False)
class CrawlService(Service):
    """Runs a crawl when it starts, and ends the process when everything is fetched."""

    _host: IHost
    _fetcher: Fetcher
    _crawl: Crawl
    recorder: Recorder
    _began: float = field(default=0.0, init=False)
    _running: "Deferred[None] | None" = field(default=None, init=False)
    _has_failed: bool = field(default=False, init=False)
    _finishing: "Deferred[None] | None" = field(default=None, init=False)
    _bar: LoopingCall | None = field(default=None, init=False)

    @override
    def startService(self) -> None:
        Service.startService(self)
        self.recorder.on_error = self._on_io_error
        self._host.reactor.callWhenRunning(self._begin)

    @override
    def stopService(self) -> "Deferred[None]":
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._running is not None and self._finishing is None:
            self._running.cancel()
            _log.info("fetch: stopped before everything was fetched")
            self._host.finish(1)
        self.recorder.is_closing = True  # the next run fetches what is cancelled now
        self._fetcher.close()
        with self.recorder.reader_timeout(self._host.reactor):
            await self._finish()
        await self.recorder.close()

    def _begin(self) -> None:
        if not self.running:
            return
        self._began = self._host.reactor.seconds()
        self._bar = LoopingCall(self._draw)
        self._bar.clock = self._host.reactor
        self._bar.start(_REFRESH, now=False)
        running = self._running = Deferred.fromCoroutine(self._fetch())
        running.addErrback(self._failed)

    async def _fetch(self) -> None:
        await self._crawl.run()
        await self._finish()
        if not self._has_failed:
            self._host.finish(1 if self.recorder.summary.total.failed else 0)

    def _finish(self) -> "Deferred[None]":
        """Keep the results and sum up, once; fire when that is done."""
        if self._finishing is None:
            self._finishing = Deferred.fromCoroutine(self._settle_and_sum_up())
        return self._finishing

    async def _settle_and_sum_up(self) -> None:
        if self._bar is not None and self._bar.running:
            self._bar.stop()
        self.recorder.terminal.stop()
        await self.recorder.settle()
        if not self._has_failed:
            await self.recorder.sum_up(self._host.reactor.seconds() - self._began)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        self._running = None
        if isinstance(failure.value, OSError):  # of a source
            self._on_io_error(failure.value)
        else:
            _log.failure("the run failed", failure)
            self._host.fail(f"the run failed: {failure.getErrorMessage()}")

    def _on_io_error(self, error: OSError) -> None:
        self._has_failed = True
        if error.errno == errno.EPIPE:
            self._host.finish(1)  # a reader such as `| head` has left
        else:
            self._host.fail(write_error_message(error))

    def _draw(self) -> None:
        crawl, total = self._crawl, self.recorder.summary.total
        expected = total.count + crawl.pending if crawl.at_end else None
        note = f"{format_size(total.received)}, {total.failed} failed"
        self.recorder.terminal.update_bar(total.count, expected, note)
