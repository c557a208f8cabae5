"""What is asked for, and the goals."""

from functools import partial
from typing import Final

from benchmarks.asgi.pages import CHUNK, CHUNKS, HELLO, JSON
from benchmarks.asgi.probe import probe_websocket
from benchmarks.goals import Goal
from benchmarks.web.probe import probe
from benchmarks.web.scenarios import Scenario
from benchmarks.web.turns import LOGGED


SYSTEMS: Final = ("uvicorn", "evserve")
NEEDS: Final = ("starlette", "uvicorn", "uvloop", "websockets")  # modules

_MANY: Final = 64  # connections
_ONE: Final = ", 1 connection"

SCENARIOS: Final = tuple(
    Scenario(name + suffix, path, answer, body, connections)
    for connections, suffix in ((_MANY, ""), (1, _ONE))
    for name, path, answer, body in (
        ("hello", "/hello", HELLO, b""),
        ("JSON of Starlette", "/users/7?full=1", JSON, b""),
        ("POST of 16 KiB", "/length", b"16384", b"x" * 16384),
        ("1 MiB in pieces of 64 KiB", "/stream", CHUNK * CHUNKS, b""),
    )
)

PROBES: Final = {
    **{each.name: partial(probe, scenario=each) for each in SCENARIOS},
    "websocket": partial(probe_websocket, connections=_MANY),
    f"websocket{_ONE}": partial(probe_websocket, connections=1),
}
"""By the names of scenarios, what asks a server once."""

GOALS: Final = tuple(
    Goal(scenario + suffix + logged, measure, "evserve", "uvicorn", at_least, at_most)
    for scenario in ("hello", "JSON of Starlette")
    for suffix in ("", _ONE)
    for logged in ("", LOGGED)
    for measure, at_least, at_most in (("cost", None, 1.1), ("rate", 0.91, None))
)
