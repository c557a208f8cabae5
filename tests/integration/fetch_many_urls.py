"""Fetches the URLs of a file from an engine in memory; prints how many MiB that took."""

import re
import sys
from pathlib import Path

from twisted.internet.task import Clock

from evserve.fetch.fetcher import Fetcher
from evserve.fetch.policy import Policy
from evserve.fetch.service import Crawl
from evserve.fetch.sources import FileSource
from evserve.http.headers import Head, Headers


HEAD = Head(200, b"OK", "1.1", Headers(), 2, None)


class Engine:
    """Answers when it is told to."""

    def __init__(self):
        self.waiting = []

    def fetch(self, request, receiver):
        self.waiting.append((request, receiver))
        return self

    def proxy_for(self, origin):
        return None

    def answer(self):
        waiting, self.waiting = self.waiting, []
        for request, receiver in waiting:
            receiver.started(HEAD, request.url)
            receiver.received(b"ok")
            receiver.finished(None)


def rss():
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def main(path):
    from twisted.internet.defer import Deferred

    engine = Engine()
    fetcher = Fetcher(engine, Clock(), Policy(obey_robots=False))
    rows = 0

    def record(_key, _result, kept):
        nonlocal rows
        rows += 1
        kept(True)

    before = rss()
    crawl = Crawl(fetcher, [FileSource(Path(path))], record)
    done = Deferred.fromCoroutine(crawl.run())
    while not done.called:
        engine.answer()
    print(rows, round(rss() - before, 1))


main(sys.argv[1])
