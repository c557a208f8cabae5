"""The same `add(url, callback)` and `run()` on evserve, which adds robots.txt, limits and retries.

python with_evserve.py URL...
"""

import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from evserve.fetch import Fetcher, Policy, Result
from evserve.http.client import Client
from evserve.http.settings import Settings


def show(result: Result) -> None:
    """Print what has arrived; `result.text()` is the page."""
    if result.status_code is None:
        print(f"{result.url} failed: {result.error!r}")
    else:
        print(f"{result.url} {len(result.body)} bytes received, status {result.status_code}")


async def crawl(reactor: Any, *urls: str) -> None:
    """Fetch all pages, up to 100 at once from one origin, which is our own."""
    began = time.perf_counter()
    client = Client(reactor, Settings(per_origin=100))
    fetcher = Fetcher(client, reactor, Policy(per_origin=100))
    for url in urls:
        fetcher.add(url, show)
    await fetcher.run()
    print(f"evserve: {time.perf_counter() - began:.2f} s")
    fetcher.close()


react(lambda *words: Deferred.fromCoroutine(crawl(*words)), sys.argv[1:])
