"""The job of a client process, and its outcome."""

import re
import time
from pathlib import Path

from attrs import define, field, frozen

from benchmarks.json_line import JsonLine


@frozen
class Job(JsonLine):
    """Fetch `url` `requests` times over `connections`, or once, with the body saved to `save`."""

    url: str
    requests: int
    connections: int
    authority: str = ""  # path of the certificate to trust
    save: str = ""  # path


@frozen
class Outcome(JsonLine):
    """Seconds of wall time and of CPU, bytes of peak memory, number of failed requests."""

    seconds: float
    cpu: float
    memory: int
    failed: int


@define(eq=False)
class Run:
    """A job in progress: gives out URLs, counts failures, and measures from `begin` on."""

    job: Job
    failed: int = field(default=0, init=False)
    _given: int = field(default=0, init=False)
    _wall: float = field(default=0.0, init=False)
    _cpu: float = field(default=0.0, init=False)

    def begin(self) -> None:
        """Start the clocks. Imports and set-up are not measured."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def next_url(self) -> str | None:
        """Return another URL, different from all before, or None at the end."""
        self._given += 1
        return f"{self.job.url}?{self._given}" if self._given <= self.job.requests else None

    def outcome(self) -> Outcome:
        """Stop the clocks."""
        seconds = time.perf_counter() - self._wall
        return Outcome(seconds, time.process_time() - self._cpu, peak_memory(), self.failed)


def peak_memory() -> int:
    """Return the peak of this process in bytes. getrusage would include its parent's."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(match[1]) * 1024 if match else 0
