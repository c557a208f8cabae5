"""Three slow pages take the time of the slowest, although one thread fetches all of them.

A small server in the same process delays each page. The fetcher requests all three, then the one
thread waits for the first answer. All the time is spent waiting, and any number of waits can
happen at the same time.

    python three_slow_pages.py
"""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from evserve.fetch import Fetcher, Policy, Result
from evserve.http.client import Client
from evserve.http.settings import Settings


WAITS = (0.3, 0.6, 0.9)  # seconds


class SlowPage(Resource):
    """A page that is complete after some seconds."""

    def __init__(self, reactor: Any, seconds: float) -> None:
        Resource.__init__(self)
        self.reactor, self.seconds = reactor, seconds

    def render_GET(self, request: Request) -> int:
        """Answer later; the reactor serves others meanwhile."""
        print(f"server: asked for a page of {self.seconds} s")
        request.write(b"at last\n")
        self.reactor.callLater(self.seconds, request.finish)
        return NOT_DONE_YET


def start_server(reactor: Any) -> Any:
    """Serve a page for each of WAITS on any free port; return the port."""
    root = Resource()
    for number, seconds in enumerate(WAITS):
        root.putChild(b"%d" % number, SlowPage(reactor, seconds))
    return reactor.listenTCP(0, Site(root), interface="127.0.0.1")


async def fetch_all(reactor: Any) -> None:
    """Fetch the pages at the same time, and print how long it took."""
    port = start_server(reactor)
    client = Client(reactor, Settings())
    fetcher = Fetcher(client, reactor, Policy())
    began = reactor.seconds()

    def show(result: Result) -> None:
        took = reactor.seconds() - began
        print(f"{took:.2f} s: {result.url} status {result.status_code}")

    for number in range(len(WAITS)):
        fetcher.add(f"http://127.0.0.1:{port.getHost().port}/{number}", show)
    await fetcher.run()
    took = reactor.seconds() - began
    print(f"all together: {took:.2f} s; sequential: {sum(WAITS):.2f} s")
    fetcher.close()
    await port.stopListening()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(fetch_all(reactor)))
