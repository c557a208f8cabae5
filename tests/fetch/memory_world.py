"""A fetcher on a network in memory, and what happens there."""

from attrs import define, field
from twisted.internet.task import Clock

from evserve.fetch.fetcher import Fetcher
from evserve.fetch.policy import Policy, RetryPolicy
from evserve.fetch.testing import MemoryHTTPClient, Page


def redirect(target):
    return Page(status=302, headers=((b"Location", target.encode()),))


@define(eq=False)
class World:
    """`random` is always 1: no jitter."""

    pages: dict = field(factory=dict)
    policy: Policy = field(factory=lambda: Policy(obey_robots=False, retry=RetryPolicy(2, 1.0)))
    sinks: list = field(factory=list)
    clock: Clock = field(factory=Clock)
    results: list = field(factory=list)
    client: MemoryHTTPClient = field(init=False)
    fetcher: Fetcher = field(init=False)

    def __attrs_post_init__(self):
        self.client = MemoryHTTPClient(self.clock, self.pages)
        self.fetcher = Fetcher(
            self.client,
            self.clock,
            self.policy,
            self.sinks,
            random=lambda: 1.0,
            wall=lambda: 0.0,
        )

    def start(self, *urls):
        for url in urls:
            self.fetcher.start(url, self.results.append)
        self.run(0)

    def run(self, seconds):
        """Let time pass, an eighth of a second at a time."""
        for _ in range(5):
            self.clock.advance(0)
        for _ in range(round(seconds * 8)):
            self.clock.advance(0.125)
            for _ in range(5):
                self.clock.advance(0)

    def fetch(self, url, seconds=30):
        self.start(url)
        self.run(seconds)
        return self.results[-1]
