"""The scenarios, and their goals."""

from collections.abc import Callable
from math import ceil

from attrs import frozen

from benchmarks.goals import Goal
from benchmarks.http.job import Job
from benchmarks.http.servers import Servers


@frozen
class Scenario:
    """A job at full size."""

    name: str
    base: Callable[[Servers], str]
    path: str
    requests: int
    connections: int
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
    Scenario("1 KiB", lambda servers: servers.plain, "1k", 20_000, 100),
    Scenario("50 KiB", lambda servers: servers.plain, "50k", 5_000, 100),
    Scenario("100 ms", lambda servers: servers.delay, "", 2_000, 500, ideal=5_000),
    Scenario("200 MB", lambda servers: servers.plain, "200m", 1, 1),
    Scenario("HTTPS kept", lambda servers: servers.tls, "1k", 10_000, 100),
    Scenario("HTTPS new", lambda servers: servers.tls_new, "1k", 1_000, 20),
)

IDEAL = "ideal"
"""Stands for what the delay of the server allows."""

GOALS = (
    Goal("1 KiB", "cpu", "evserve", "aiohttp", at_most=0.65),
    Goal("1 KiB", "rate", "evserve", "aiohttp", at_least=1.2),
    Goal("1 KiB", "rate", "evserve", "treq", at_least=4.0),
    Goal("100 ms", "rate", "evserve", IDEAL, at_least=0.7),
    Goal("200 MB", "seconds", "evserve", "curl", at_most=1.15),
    Goal("HTTPS kept", "rate", "evserve", "aiohttp", at_least=1.3),
)
