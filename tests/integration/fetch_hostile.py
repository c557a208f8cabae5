"""Fetch every case of the hostile server at the port given; print outcomes, times and memory.

A process of its own, so that its memory is that of the client alone.
"""

import json
import re
import sys
from pathlib import Path

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from evserve.http.client import Client
from evserve.http.request import Request
from evserve.http.settings import Settings, Timeouts
from evserve.http.url import parse_url
from tests.http.hostile_server import DRIPPED, SILENT


# Half of what the test allows; the cases that are about a limit have a shorter one.
GENEROUS = Timeouts(connect=120, idle=120, total=120)


class Outcome:
    def __init__(self):
        self.started_at = reactor.seconds()
        self.body = b""
        self.over = Deferred()

    def started(self, head, url):
        pass

    def received(self, data):
        self.body = (self.body + data)[:1000]  # enough to compare, not to hide a leak

    def finished(self, error):
        name = self.body.decode("latin-1") if error is None else type(error).__name__
        self.over.callback((name, reactor.seconds() - self.started_at, str(error or "")))


def peak_memory():
    # getrusage would count what the parent held when it forked.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def timeouts_of(name):
    if name in SILENT:
        return evolve(GENEROUS, idle=0.7)
    return evolve(GENEROUS, total=1.5) if name in DRIPPED else GENEROUS


async def main(port, names):
    client = Client(reactor, Settings(per_origin=200, timeouts=GENEROUS, max_body=64 * 1024**2))
    outcomes = {}
    for name in names:
        outcomes[name] = Outcome()
        url = parse_url(f"http://127.0.0.1:{port}/{name}")
        client.fetch(Request(url, timeouts=timeouts_of(name)), outcomes[name])
    results = {name: await outcome.over for name, outcome in outcomes.items()}
    client.close()
    print(json.dumps({"results": results, "peak": peak_memory()}))
    reactor.stop()


if __name__ == "__main__":
    port, names = sys.argv[1], sys.argv[2:]
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main(port, names)))
    reactor.run()
