"""The scenarios, and their goals."""

from collections.abc import Callable
from math import ceil

from attrs import frozen

from benchmarks.http.job import Job
from benchmarks.http.servers import Servers


@frozen
class Goal:
    """The bounds of evserve's `measure`, as multiples of that of `other`."""

    measure: str  # "rate", "cpu" or "seconds"
    other: str  # a client, or "ideal" for what the delay of the server allows
    at_least: float | None = None
    at_most: float | None = None


@frozen
class Scenario:
    """A job at full size."""

    name: str
    base: Callable[[Servers], str]
    path: str
    requests: int
    connections: int
    goals: tuple[Goal, ...] = ()
    without: tuple[str, ...] = ()  # clients to leave out
    ideal: float | None = None  # requests/s

    def job(self, servers: Servers, scale: float) -> Job:
        """Return the job, with `scale` times the requests."""
        base = self.base(servers)
        is_single = self.requests == 1
        return Job(
            f"{base}/{self.path}",
            1 if is_single else ceil(self.requests * scale),
            self.connections,
            servers.authority if base.startswith("https:") else "",
            f"{servers.folder}/saved" if is_single else "",
        )


SCENARIOS = (
    Scenario(
        "1 KiB",
        lambda servers: servers.plain,
        "1k",
        20_000,
        100,
        (
            Goal("cpu", "aiohttp", at_most=0.65),
            Goal("rate", "aiohttp", at_least=1.2),
            Goal("rate", "treq", at_least=4.0),
        ),
    ),
    Scenario("50 KiB", lambda servers: servers.plain, "50k", 5_000, 100),
    Scenario(
        "100 ms",
        lambda servers: servers.delay,
        "",
        2_000,
        500,
        (Goal("rate", "ideal", at_least=0.7),),
        ideal=5_000,
    ),
    Scenario(
        "200 MB",
        lambda servers: servers.plain,
        "200m",
        1,
        1,
        (Goal("seconds", "curl", at_most=1.15),),
    ),
    Scenario(
        "HTTPS kept",
        lambda servers: servers.tls,
        "1k",
        10_000,
        100,
        (Goal("rate", "aiohttp", at_least=1.3),),
    ),
    Scenario("HTTPS new", lambda servers: servers.tls_new, "1k", 1_000, 20),
)
