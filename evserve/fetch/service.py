"""`twistd -n evserve fetch`: ties options, engine, sources and sinks together."""

import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.application.service import IService
from twisted.python import usage

from evserve.fetch.fetcher import Fetcher
from evserve.fetch.options import Options
from evserve.fetch.outputs import open_recorder, stores_for
from evserve.fetch.polite.seen import Seen
from evserve.fetch.recorder import Recorder
from evserve.fetch.result import Result
from evserve.fetch.run import Run
from evserve.fetch.running import RunService
from evserve.fetch.setup import make_fetcher
from evserve.fetch.sinks.journal import JournalError
from evserve.fetch.sinks.warc import MissingWarcio
from evserve.fetch.sources.lines import ListSource, Source, StreamSource, open_lines
from evserve.fetch.sources.sitemaps import SitemapSource
from evserve.http.errors import FetchError
from evserve.http.headers import Headers
from evserve.interfaces import IHost


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
