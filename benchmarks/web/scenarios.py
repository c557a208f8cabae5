"""What is asked for, and the goals."""

from typing import Final

from attrs import frozen

from benchmarks.goals import Goal
from benchmarks.web.pages import HELLO, LARGE, SMALL
from benchmarks.web.systems import FAST, STOCK
from benchmarks.web.turns import LOGGED


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

GOALS: Final = tuple(
    Goal(scenario + logged, "per_cpu_second", FAST, other, at_least)
    for logged in ("", LOGGED)
    for scenario, other, at_least in (
        ("hello", STOCK, 2.3),
        ("file of 1 KiB", STOCK, 3.0),
        ("hello", "aiohttp", 1.0),
        ("hello", "uvicorn", 1.0),
    )
)
