"""A run as a service: it ends the process when everything is fetched, and in good order before."""

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.application.service import IService, Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from evserve.fetch.fetcher import Fetcher
from evserve.fetch.interfaces import Store
from evserve.fetch.job import Result
from evserve.fetch.output.journal import JournalError
from evserve.fetch.output.recorder import Recorder, line_on, open_recorder, size, stores_for
from evserve.fetch.output.warc import MissingWarcio
from evserve.fetch.policy import Manners, RetryPolicy
from evserve.fetch.scheduler import Seen
from evserve.fetch.sources import ListSource, SitemapSource, Source, StreamSource, open_lines
from evserve.http.client import Client
from evserve.http.cookies import Cookies
from evserve.http.errors import BadURL, FetchError
from evserve.http.messages import Headers, check_headers
from evserve.http.proxies import Proxies, named_proxy, proxies_from
from evserve.http.settings import MOST_SECONDS, Settings, Timeouts
from evserve.http.url import parse_url
from evserve.interfaces import IHost


def count(text: str) -> int:
    """Return a whole number of at least 1."""
    if not re.fullmatch(r"0*[1-9]\d{0,8}", text, re.ASCII):
        raise ValueError("not a whole number from 1 to 999999999")
    return int(text)


def times(text: str) -> int:
    """Return a whole number, 0 included."""
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise ValueError("not a whole number up to 999999999")
    return int(text)


def seconds(text: str) -> float:
    """Return a duration in seconds, 0 or more."""
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text, re.ASCII):
        raise ValueError("not a number of seconds (such as 2 or 0.5)")
    if float(text) > MOST_SECONDS:
        raise ValueError(f"more than {MOST_SECONDS} seconds")
    return float(text)


def limit(text: str) -> float:
    """Return a duration in seconds that is more than 0."""
    value = seconds(text)
    if not value:
        raise ValueError("not a number of seconds above 0")
    return value


def user_agent(text: str) -> str:
    """Return what may stand in a User-Agent header."""
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", text):
        raise ValueError("not a name such as mybot/1.0 (ASCII, no line breaks)")
    return text


def header(text: str) -> tuple[bytes, bytes]:
    """Return the name and the value of `Name: value`; raises ValueError."""
    name, colon, value = text.partition(":")
    line = name.encode(errors="replace"), value.strip().encode(errors="surrogateescape")
    if not colon:
        raise ValueError("not a header (Name: value)")
    try:
        check_headers([line])
    except FetchError:
        raise ValueError("not a header that can be sent (Name: value)") from None
    return line


class Options(usage.Options):
    """See `longdesc`."""

    synopsis = "[options] URL..."
    longdesc = (
        "Fetches URLs, many at once, and prints a line for each. Obeys robots.txt, Retry-After "
        "and the limits below. Ends with status 0 if all were fetched, 1 if some were not."
    )
    optParameters: list[list[Any]] = [
        ["input", "i", None, "Read URLs from this file, one a line; - is standard input"],
        ["output", "o", None, "Write a JSON object a line to this file; - is standard output"],
        ["save", None, None, "Save what is fetched as files in this folder"],
        ["warc", None, None, "Write a WARC 1.1 archive to this file (.gz: compressed)"],
        ["journal", None, None, "Remember in this file what is done; the next run goes on"],
        ["queue", None, None, "Take fetch.url events from this queue, until stopped"],
        ["results-tube", None, None, "Put results into the queue as events of this type"],
        ["concurrency", None, 100, "Requests at once", count],
        ["per-origin", None, 4, "Requests at once to one origin", count],
        ["delay", None, 0.0, "Seconds between two requests to one origin", seconds],
        ["retries", None, 2, "How often to try again what may pass", times],
        ["timeout", None, 300.0, "Seconds for a URL, retries and redirects included", limit],
        ["connect-timeout", None, 15.0, "Seconds for a connection to be made", limit],
        ["idle-timeout", None, 30.0, "Seconds of silence", limit],
        ["max-redirects", None, 20, "Redirects to follow", times],
        ["max-size", None, None, "Fail what is longer than this many bytes", count],
        ["user-agent", None, "evserve", "Who to say we are; robots.txt may know it", user_agent],
        ["proxy", None, None, "Proxy URL, instead of http_proxy and https_proxy"],
    ]
    optFlags = [
        ["no-robots", None, "Do not ask for robots.txt"],
        ["cookies", None, "Keep cookies during the run"],
        ["allow-private", None, "With --queue: fetch from private addresses too"],
    ]

    def __init__(self) -> None:
        usage.Options.__init__(self)
        self["urls"] = []
        self["sitemap"] = []
        self["header"] = []

    def opt_sitemap(self, url: str) -> None:
        """Fetch the pages of this sitemap, or index of them (may be repeated)"""  # noqa: D400 - shown by --help
        self["sitemap"].append(url)

    def opt_header(self, text: str) -> None:
        """Send this header, Name: value (may be repeated)"""  # noqa: D400 - shown by --help
        try:
            self["header"].append(header(text))
        except ValueError as error:
            raise usage.UsageError(f"--header {text!r}: {error}") from error

    def parseArgs(self, *urls: str) -> None:
        """Take the URLs."""
        self["urls"] += urls

    def postOptions(self) -> None:
        """Refuse what cannot be meant."""
        given = self["urls"] or self["input"] is not None or self["sitemap"]
        if self["queue"] == "" or "" in self["sitemap"]:
            name = "queue" if self["queue"] == "" else "sitemap"
            raise usage.UsageError(f"--{name} '': not a URL")
        if not given and not self["queue"]:
            raise usage.UsageError("nothing to fetch: give URLs, -i FILE, --sitemap or --queue")
        if given and self["queue"]:
            raise usage.UsageError("--queue says what to fetch: leave out URLs, -i and --sitemap")
        if self["journal"] and self["queue"]:
            raise usage.UsageError("--queue remembers what is done: leave out --journal")
        if self["results-tube"] and not self["queue"]:
            raise usage.UsageError("--results-tube needs --queue")
        self._check_proxy()
        self._check_files()

    def _check_proxy(self) -> None:
        # Not with a coercion: its message would show the value, and with it a password.
        try:
            if self["proxy"] is not None:
                named_proxy(self["proxy"])
        except FetchError as error:
            raise usage.UsageError(f"--proxy: {error}") from None

    def _check_files(self) -> None:
        """Refuse names that are empty, and files that would be written over one another."""
        taken: dict[str, str] = {}
        for name in ("input", "output", "warc", "journal", "save"):
            path = self[name]
            if path == "":
                raise usage.UsageError(f"--{name} '': not the name of a file")
            if path in (None, "-"):
                continue
            other = taken.setdefault(os.path.realpath(path), name)
            if other != name and not os.path.realpath(path).startswith("/dev/"):
                raise usage.UsageError(f"--{other} and --{name} are the same file: {path}")


__all__ = ["Options", "makeService"]


def makeService(options: usage.Options, host: IHost) -> IService:
    """Return the service; raises UsageError and OSError for what a person can mend."""
    try:
        recorder = open_recorder(options, host)
        fetcher = make_fetcher(options, host, stores_for(options, host, recorder))
    except (FetchError, JournalError, MissingWarcio) as error:
        raise usage.UsageError(str(error)) from error
    if options["queue"]:
        from evserve.fetch.queueing import queue_service

        return queue_service(options, host, fetcher, recorder)
    sources = list(_sources(options, host, fetcher, recorder))
    seen = Seen() if recorder.journal is None else recorder.journal.seen
    run = Run(fetcher, sources, recorder.record, seen, Headers(options["header"]))
    return RunService(host, fetcher, run, recorder)


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

        yield SitemapSource(fetcher, list(reversed(options["sitemap"])), failed)


_log = Logger(namespace="evserve.fetch")


def make_fetcher(options: usage.Options, host: IHost, stores: Sequence[Store]) -> Fetcher:
    """Return the fetcher that the options describe; raises ProxyFailed."""
    reactor: Any = host.reactor
    timeouts = Timeouts(options["connect-timeout"], options["idle-timeout"], options["timeout"])
    cookies = Cookies() if options["cookies"] else None
    client = Client(reactor, _settings(options, timeouts), cookies)
    manners = Manners(
        total=options["concurrency"],
        per_origin=options["per-origin"],
        delay=options["delay"],
        user_agent=options["user-agent"],
        robots=not options["no-robots"],
        retry=RetryPolicy(options["retries"]),
        max_redirects=options["max-redirects"],
    )
    return Fetcher(client, reactor, manners, stores, timeouts)


def _settings(options: usage.Options, timeouts: Timeouts) -> Settings:
    proxies = _proxies(options["proxy"])
    # A person may well mean the machine on the next desk. Whoever puts events into a queue
    # is somebody else, perhaps a stranger.
    allow_private = bool(options["allow-private"] or not options["queue"])
    if not allow_private and (proxies.http or proxies.https):
        _log.warn(
            "the proxy looks names up, so only the proxy can refuse names of private addresses"
        )
    return Settings(
        per_origin=options["per-origin"],
        connections=options["concurrency"],
        timeouts=timeouts,
        max_body=options["max-size"],
        user_agent=options["user-agent"].encode("ascii"),
        allow_private=allow_private,
        proxies=proxies,
    )


def _proxies(given: str | None) -> Proxies:
    if given is None:
        return proxies_from(os.environ)
    proxy = named_proxy(given)
    return Proxies(proxy, proxy)


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


_log = Logger(namespace="evserve.fetch")
_REFRESH = 0.2  # seconds; what the eye takes for moving


@define(eq=False, slots=False)
class RunService(Service):
    """Runs once, from the start of the service."""

    _host: IHost
    _fetcher: Fetcher
    _run: Run
    recorder: Recorder
    _began: float = field(default=0.0, init=False)
    _running: "Deferred[None] | None" = field(default=None, init=False)
    _is_broken: bool = field(default=False, init=False)
    _ending: "Deferred[None] | None" = field(default=None, init=False)
    _bar: LoopingCall | None = field(default=None, init=False)

    def startService(self) -> None:
        """Begin once the reactor runs."""
        Service.startService(self)
        self.recorder.broken = self._broken
        self._host.reactor.callWhenRunning(self._begin)

    def stopService(self) -> "Deferred[None]":
        """Give up what is not done, close the files, sum up."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._running is not None and self._ending is None:
            self._running.cancel()
            _log.info("stopped before everything was fetched")
            self._host.finish(1)
        self.recorder.is_over = True  # what is given up now is for the next run to fetch
        self._fetcher.close()
        with self.recorder.patience(self._host.reactor):
            await self._end()
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
        running.addErrback(self._unforeseen)

    async def _fetch(self) -> None:
        await self._run.fetch_all()
        await self._end()
        if not self._is_broken:
            self._host.finish(1 if self.recorder.summary.total.failed else 0)

    def _end(self) -> "Deferred[None]":
        """Keep what there is and sum up, once; fire when that is done."""
        if self._ending is None:
            self._ending = Deferred.fromCoroutine(self._keep_and_sum_up())
        return self._ending

    async def _keep_and_sum_up(self) -> None:
        if self._bar is not None and self._bar.running:
            self._bar.stop()
        self.recorder.screen.stop()
        await self.recorder.settle()
        if not self._is_broken:
            await self.recorder.sum_up(self._host.reactor.seconds() - self._began)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        self._running = None
        if isinstance(failure.value, OSError):
            self._broken(failure.value)
        else:
            failure.raiseException()

    def _unforeseen(self, failure: Failure) -> None:
        self._running = None
        _log.failure("the run failed", failure)
        self._host.fail(f"the run failed: {failure.getErrorMessage()}")

    def _broken(self, error: OSError) -> None:
        self._is_broken = True
        if error.errno == errno.EPIPE:
            self._host.finish(1)  # `| head` has seen enough
        else:
            self._host.fail(line_on(error))

    def _draw(self) -> None:
        run, total = self._run, self.recorder.summary.total
        expected = total.count + run.pending if run.is_fed else None
        note = f"{size(total.received)}, {total.failed} failed"
        self.recorder.screen.move(total.count, expected, note)
