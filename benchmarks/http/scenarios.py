"""What is measured, and the goals."""

from collections.abc import Callable
from math import ceil

from attrs import frozen

from benchmarks.http.job import Job
from benchmarks.http.peers import Peers


@frozen
class Goal:
    """`measure` of evserve must be at least, or at most, `times` that of `other`."""

    measure: str  # "rate", "cpu" or "seconds"
    other: str  # a client; "ideal" for what the server's delay allows
    at_least: float | None = None
    at_most: float | None = None


@frozen
class Scenario:
    """A job in full size."""

    name: str
    base: Callable[[Peers], str]
    path: str
    requests: int
    connections: int
    goals: tuple[Goal, ...] = ()
    without: tuple[str, ...] = ()  # clients that would take for ever, or cannot
    ideal: float | None = None  # requests/s

    def job(self, peers: Peers, scale: float) -> Job:
        """Return the job, with `scale` times the requests."""
        base = self.base(peers)
        one = self.requests == 1
        return Job(
            f"{base}/{self.path}",
            1 if one else ceil(self.requests * scale),
            self.connections,
            peers.authority if base.startswith("https:") else "",
            f"{peers.folder}/saved" if one else "",
        )


SCENARIOS = (
    Scenario(
        "1 KiB",
        lambda peers: peers.plain,
        "1k",
        20_000,
        100,
        (
            Goal("cpu", "aiohttp", at_most=0.75),
            Goal("rate", "aiohttp", at_least=1.2),
            Goal("rate", "treq", at_least=4.0),
        ),
    ),
    Scenario("50 KiB", lambda peers: peers.plain, "50k", 5_000, 100),
    Scenario(
        "100 ms",
        lambda peers: peers.delay,
        "",
        2_000,
        500,
        (Goal("rate", "ideal", at_least=0.7),),
        ideal=5_000,
    ),
    Scenario(
        "200 MB",
        lambda peers: peers.plain,
        "200m",
        1,
        1,
        (Goal("seconds", "curl", at_most=1.15),),
    ),
    Scenario(
        "HTTPS kept",
        lambda peers: peers.tls,
        "1k",
        10_000,
        100,
        (Goal("rate", "aiohttp", at_least=1.3),),
    ),
    Scenario("HTTPS new", lambda peers: peers.tls_new, "1k", 1_000, 20),
)
