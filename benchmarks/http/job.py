"""What a client process is asked to do, and what it reports."""

import json
import re
import time
from pathlib import Path

from attrs import asdict, define, field, frozen


@frozen
class Job:
    """Fetch `url` `requests` times over `connections`; a `save` path takes the body of one."""

    url: str
    requests: int
    connections: int
    authority: str = ""  # the path of the certificate to trust
    save: str = ""

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Return what `to_json` wrote."""
        return cls(**json.loads(text))


@frozen
class Outcome:
    """Seconds of wall time and CPU, bytes of peak memory, how many failed."""

    seconds: float
    cpu: float
    memory: int
    failed: int

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        """Return what `to_json` wrote."""
        return cls(**json.loads(text))


@define(eq=False)
class Run:
    """A job under way: hands out URLs, counts, and measures from `begin` on."""

    job: Job
    failed: int = field(default=0, init=False)
    _given: int = field(default=0, init=False)
    _wall: float = field(default=0.0, init=False)
    _cpu: float = field(default=0.0, init=False)

    def begin(self) -> None:
        """Start the clocks: imports and set-up are nobody's requests."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def next_url(self) -> str | None:
        """Return the next URL, different from all before, or None when there are enough."""
        self._given += 1
        return f"{self.job.url}?{self._given}" if self._given <= self.job.requests else None

    def outcome(self) -> Outcome:
        """Stop the clocks."""
        seconds = time.perf_counter() - self._wall
        return Outcome(seconds, time.process_time() - self._cpu, peak_memory(), self.failed)


def peak_memory() -> int:
    """Return this process's peak in bytes; getrusage would count what its parent held."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(match[1]) * 1024 if match else 0
