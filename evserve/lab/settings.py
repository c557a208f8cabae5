"""What is held equal for all models, and how many connections this machine allows."""

import resource
from collections.abc import Sequence

from attrs import field, frozen

from evserve.lab.results import Settings
from evserve.load.conversations import LINE_BREAK, make_line
from evserve.load.plan import Plan


COUNTS = (1, 10, 100, 1_000, 3_000, 10_000)
SECONDS = 0.8
MOST_ACTIVE = 10
MESSAGE = 64  # bytes, the line break included
_SPARE = 256  # files that a server and the generator have open besides


@frozen
class Measure:
    """How each model is measured at each number of connections."""

    counts: tuple[int, ...] = COUNTS
    seconds: float = SECONDS
    warm_up: float = field(default=0.15, kw_only=True)  # seconds
    # A server that takes longer to serve everybody once is one that broke; so is one that is
    # silent for `stall` seconds while there is something to answer.
    ready_within: float = field(default=12.0, kw_only=True)
    stall: float = field(default=1.5, kw_only=True)

    def active(self, connections: int) -> int:
        """Return how many of so many connections talk."""
        return min(connections, MOST_ACTIVE)

    def plan(self, port: int, pid: int, connections: int, active: int) -> Plan:
        """Return what to do to a server."""
        line = make_line(MESSAGE)
        return Plan(
            f"tcp:127.0.0.1:{port}:timeout={self.ready_within:g}",
            active,
            len(line + LINE_BREAK),
            seconds=self.seconds,
            warm_up=self.warm_up,
            idle=connections - active,
            line=line,
            expected=line.upper(),
            pid=pid,
            timeout=self.stall,
            ready_within=self.ready_within,
        )

    def settings(self) -> Settings:
        """Return what the report says about this."""
        return Settings(
            self.counts, MOST_ACTIVE, MESSAGE, 1, self.seconds, self.warm_up, self.ready_within
        )


def open_files_limit() -> int:
    """Return how many files a process may have open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 2**30 if hard == resource.RLIM_INFINITY else hard


def allowed(counts: Sequence[int], limit: int) -> tuple[tuple[int, ...], str | None]:
    """Return those `counts` that `limit` open files allow, and one line on those it does not."""
    fit = tuple(count for count in counts if count + _SPARE <= limit)
    over = [f"{count:,}" for count in counts if count not in fit]
    if not over:
        return fit, None
    return fit, f"left out {', '.join(over)} connections: 'ulimit -Hn' allows {limit:,} open files"
