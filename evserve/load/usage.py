"""CPU and memory of processes and of the machine, as Linux reports them in /proc (proc(5))."""

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen


PROC = Path("/proc")
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = resource.getpagesize()


@frozen
class Usage:
    """CPU in seconds since the start, ended children included; resident memory in bytes.

    `waited` is for how many seconds the living threads were ready to run while all CPUs were busy;
    0 without Linux's scheduler statistics.
    """

    cpu: float
    memory: int
    processes: int
    waited: float = 0.0


def usage_of(pid: int, proc: Path = PROC) -> Usage:
    """Return the usage of `pid` and its living descendants; raises ProcessLookupError.

    Pages that several processes share, as the workers of a server do, count once per process.
    """
    stats = dict(_stats(proc))
    if pid not in stats:
        raise ProcessLookupError(f"no process {pid}")
    tree = _process_tree(pid, stats)
    # utime, stime, cutime, cstime are fields 14 to 17, rss is 24; the list begins with field 3.
    cpu = waited = 0.0
    for each in tree:
        # Ticks are 10 ms and are rounded down per process: with many processes the error is larger
        # than a short measurement. Scheduler statistics are exact, but lack ended threads.
        own, children = (sum(map(int, stats[each][n : n + 2])) / _TICK for n in (11, 13))
        ran, waited_here = _scheduled(proc / str(each))
        cpu += max(own, ran) + children
        waited += waited_here
    pages = sum(int(stats[each][21]) for each in tree)
    return Usage(cpu, pages * _PAGE, len(tree), waited)


def _scheduled(process: Path) -> tuple[float, float]:
    """Return for how many seconds the living threads ran and waited for a CPU; 0 if unknown."""
    ran = waited = 0
    try:
        for thread in (process / "task").iterdir():
            fields = (thread / "schedstat").read_bytes().split()
            ran, waited = ran + int(fields[0]), waited + int(fields[1])
    except OSError:  # a thread has just ended, or the kernel keeps no such statistics
        return 0.0, 0.0
    return ran / 1e9, waited / 1e9


def proportional_set_size(pid: int, proc: Path = PROC) -> int | None:
    """Return the memory of `pid` and its living descendants in bytes; None if unknown.

    A page that several processes share counts once in total (PSS); otherwise each child of a
    forking server would seem to cost a whole interpreter.
    """
    tree = _process_tree(pid, dict(_stats(proc)))
    sizes = [size for each in tree if (size := _pss(proc / str(each))) is not None]
    return sum(sizes) if sizes else None


def _pss(process: Path) -> int | None:
    try:
        lines = (process / "smaps_rollup").read_bytes().splitlines()
    except OSError:  # it has just ended, belongs to another user, or Linux is older than 4.14
        return None
    sizes = (line.split()[1] for line in lines if line.startswith(b"Pss:"))
    return int(next(sizes, b"0")) * 1024


def _stats(proc: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the pid of each process and the fields of its `stat` file, from the third on."""
    for folder in proc.iterdir():
        if folder.name.isdecimal():
            try:
                text = (folder / "stat").read_bytes()
            except OSError:  # it has just ended
                continue
            # The name stands in parentheses and may contain blanks and parentheses itself.
            yield int(folder.name), text.rpartition(b")")[2].split()


def _process_tree(pid: int, stats: dict[int, list[bytes]]) -> set[int]:
    """Return `pid` and its descendants."""
    parents = {each: int(fields[1]) for each, fields in stats.items()}
    tree = {pid}
    while more := {each for each, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree


@frozen
class GeneratorUsage:
    """The CPU time of this process and the time that it waited for a CPU, in seconds."""

    at: float  # time of the reading
    cpu: float
    waited: float  # ready to run, while all CPUs were busy

    @classmethod
    def now(cls, proc: Path = PROC) -> "GeneratorUsage":
        """Return the current figures; `waited` is 0 without Linux's scheduler statistics."""
        try:
            waited = int((proc / "self" / "schedstat").read_bytes().split()[1]) / 1e9
        except OSError:
            waited = 0.0
        return cls(time.perf_counter(), time.process_time(), waited)

    def busy_share(self, end: "GeneratorUsage") -> float:
        """Return the share of the time up to `end` in which this process ran or waited."""
        elapsed = end.at - self.at
        busy = end.cpu - self.cpu + end.waited - self.waited
        return busy / elapsed if elapsed > 0 else 0.0


@frozen
class MachineUsage:
    """What all programs of this machine used since it started, in seconds of CPU."""

    at: float  # time of the reading
    cpu: float
    stolen: float  # by the hypervisor, for other machines

    @classmethod
    def now(cls, proc: Path = PROC) -> "MachineUsage":
        """Return the current figures; they are 0 where there is no /proc/stat."""
        try:
            fields = (proc / "stat").read_bytes().split(maxsplit=9)
        except OSError:
            return cls(time.perf_counter(), 0.0, 0.0)
        # Interrupts do not count: most of them handle the load itself, over loopback.
        user, nice, system, stolen = (int(fields[number]) / _TICK for number in (1, 2, 3, 8))
        return cls(time.perf_counter(), user + nice + system, stolen)

    def lost_share(
        self,
        end: "MachineUsage",
        *ours: tuple[Usage, Usage] | tuple["GeneratorUsage", "GeneratorUsage"],
    ) -> float:
        """Return the share of the time up to `end` that other programs took from `ours`.

        ours: what our processes used at both ends. They also wait for each other, and programs on
        other cores take nothing from them: what was lost is at most what others used, and at most
        what ours waited, which is unknown of threads that have ended.
        """
        elapsed = end.at - self.at
        cpu = sum(after.cpu - before.cpu for before, after in ours)
        waited = sum(after.waited - before.waited for before, after in ours)
        others = max(0.0, end.cpu - self.cpu - cpu)
        lost = min(others, max(0.0, waited)) + end.stolen - self.stolen
        return min(1.0, lost / elapsed) if elapsed > 0 else 0.0


def listen_overflows(proc: Path = PROC) -> int:
    """Return how many connections the kernel has dropped because a listen queue was full.

    It counts for the whole network namespace (ListenOverflows of `nstat`); 0 if unknown.
    """
    try:
        lines = (proc / "net" / "netstat").read_text().splitlines()
    except OSError:
        return 0
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        found = dict(zip(names.split(), values.split(), strict=False))
        if "ListenOverflows" in found:
            return int(found["ListenOverflows"])
    return 0
