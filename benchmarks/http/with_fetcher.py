"""The whole fetcher (`evserve`), as the command runs it.

It finds duplicate URLs, fetches robots.txt, holds limits and deadlines, hashes bodies, writes a
row of JSON for each URL, and renames a saved file when it is complete.
"""

import os
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.application.reactors import installReactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from benchmarks.http import job as bench
from benchmarks.http.with_client import make_client
from evserve.fetch.fetcher import Fetcher
from evserve.fetch.output.files import FileSink
from evserve.fetch.output.recorder import Recorder, Terminal
from evserve.fetch.output.rows import DirectWriter, RowFile
from evserve.fetch.policy import Policy
from evserve.fetch.result import Result
from evserve.fetch.service import Crawl


_BATCH = 500


def run(job: bench.Job) -> bench.Outcome:
    """Run on the uvloop reactor, evserve's default."""
    return _run(job, "uvloop")


def run_epoll(job: bench.Job) -> bench.Outcome:
    """Run on Twisted's own reactor."""
    return _run(job, "epoll")


@define(eq=False)
class _Source:
    """Gives the URLs as a file of them would."""

    run: bench.Run

    async def next_batch(self) -> list[str]:
        urls: list[str] = []
        while len(urls) < _BATCH and (url := self.run.next_url()) is not None:
            urls.append(url)
        return urls


@define(eq=False)
class _Crawl:
    run: bench.Run
    reactor: Any
    fetcher: Fetcher
    recorder: Recorder = field(init=False)

    def __attrs_post_init__(self) -> None:
        null = open(os.devnull, "wb", buffering=0)  # noqa: PTH123, SIM115 # open to the end
        terminal = Terminal(DirectWriter(null), lines=False)
        rows = RowFile(terminal.writer)
        self.recorder = Recorder(self.reactor, terminal, terminal.print_lines, rows=rows)

    def begin(self) -> None:
        self.run.begin()
        crawl = Crawl(self.fetcher, [_Source(self.run)], self._record)
        Deferred.fromCoroutine(crawl.run()).addBoth(self._over)

    def _record(self, key: str, result: Result, kept: Any) -> None:
        self.run.failed += result.error is not None
        self.recorder.record(key, result, kept)

    def _over(self, result: "Failure | None") -> None:
        if result is not None:
            result.printTraceback()
            self.run.failed += 1
        self.fetcher.close()
        self.reactor.stop()


def _run(job: bench.Job, name: str) -> bench.Outcome:
    installReactor(name)
    from twisted.internet import reactor

    client = make_client(job, reactor)
    policy = Policy(concurrency=job.connections, per_origin=job.connections)
    sinks = [FileSink(Path(f"{job.save}.d"), client.deadlines.clock)] if job.save else []
    crawl = _Crawl(bench.Run(job), reactor, Fetcher(client, client.deadlines.clock, policy, sinks))
    started: Any = reactor
    started.callWhenRunning(crawl.begin)
    started.run()
    return crawl.run.outcome()
