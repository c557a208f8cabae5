"""CPU and memory of processes, as Linux reports them in /proc (proc(5))."""

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
    """CPU in seconds since the start, ended children included; resident memory in bytes."""

    cpu: float
    memory: int
    processes: int


def usage_of(pid: int, proc: Path = PROC) -> Usage:
    """Return the usage of `pid` and its living descendants; raises ProcessLookupError.

    Pages that several processes share, as the workers of a server do, count once per process.
    """
    stats = dict(_stats(proc))
    if pid not in stats:
        raise ProcessLookupError(f"no process {pid}")
    tree = _process_tree(pid, stats)
    # utime, stime, cutime, cstime are fields 14 to 17, rss is 24; the list begins with field 3.
    cpu = sum(
        _cpu(proc / str(each), [int(ticks) for ticks in stats[each][11:15]]) for each in tree
    )
    pages = sum(int(stats[each][21]) for each in tree)
    return Usage(cpu, pages * _PAGE, len(tree))


def _cpu(process: Path, ticks: list[int]) -> float:
    """Return the seconds of CPU of a process and its ended children.

    Ticks are 10 ms and are rounded down per process: with many processes the error is larger than
    a short measurement. Scheduler statistics are exact, but do not contain ended threads.
    """
    own, children = sum(ticks[:2]), sum(ticks[2:])
    return max(own / _TICK, _scheduled(process)) + children / _TICK


def _scheduled(process: Path) -> float:
    """Return the seconds for which the living threads of a process ran; 0 if unknown."""
    nanoseconds = 0
    try:
        for thread in (process / "task").iterdir():
            nanoseconds += int((thread / "schedstat").read_bytes().split()[0])
    except OSError:  # a thread has just ended, or the kernel keeps no such statistics
        return 0.0
    return nanoseconds / 1e9


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
