"""What is asked for, and the goals."""

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import evolve, frozen

from benchmarks.goals import Goal
from benchmarks.reactor.measure import Result
from benchmarks.web.pages import HELLO, LARGE, SMALL
from benchmarks.web.systems import FAST, STOCK


@frozen
class Scenario:
    """A request and its answer.

    body: what is sent with a POST.  depth: 0 for a new connection for each request.
    """

    name: str
    path: str
    answer: bytes
    body: bytes = b""
    connections: int = 100
    depth: int = 1

    @property
    def request(self) -> bytes:
        """The whole request."""
        start, length = "GET", ""
        if self.body:
            start, length = "POST", f"Content-Length: {len(self.body)}\r\n"
        return (
            f"{start} {self.path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n".encode() + self.body
        )


SCENARIOS: Final = (
    Scenario("hello", "/hello", HELLO),
    Scenario("resource of 1 KiB", "/1k", SMALL),
    Scenario("file of 1 KiB", "/files/1k.txt", SMALL),
    Scenario("file of 64 KiB", "/files/64k.txt", LARGE),
    Scenario("POST of 64 KiB", "/length", b"65536", LARGE),
    Scenario("klein", "/klein/", HELLO),
    Scenario("WSGI", "/wsgi", HELLO),
    Scenario("new connections", "/hello", HELLO, connections=20, depth=0),
)

LOGGED: Final = " with access log"
"""Ends the name of a scenario whose servers write a log."""

REST_OF_KLEIN: Final = "klein without klein's own part"

GOALS: Final = tuple(
    Goal(scenario + logged, "per_cpu_second", FAST, other, at_least)
    for logged in ("", LOGGED)
    for scenario, other, at_least in (
        ("hello", STOCK, 2.3),
        (REST_OF_KLEIN, STOCK, 2.3),
        ("file of 1 KiB", STOCK, 3.0),
        ("hello", "aiohttp", 1.0),
        ("hello", "uvicorn", 1.0),
    )
)


def rest_of_klein(
    klein: Mapping[str, Sequence[Result]], hello: Mapping[str, Sequence[Result]]
) -> dict[str, list[Result]]:
    """Return what answers of klein cost without klein's own part, on the uvloop reactor.

    Klein's own part is what stock twisted.web takes for klein above what it takes for hello, in
    the same round. No server can save it, so it is left out of both sides of the ratio.
    """
    own = [ours.cost - its.cost for ours, its in zip(klein[STOCK], hello[STOCK], strict=True)]
    return {
        name: [
            evolve(each, cpu=each.cpu - part * each.answers / 1e6)
            for each, part in zip(klein[name], own, strict=True)
        ]
        for name in (STOCK, FAST)
    }
