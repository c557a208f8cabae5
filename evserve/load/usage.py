"""What a process and its children have used so far, as /proc tells it (proc(5), Linux)."""

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
    """CPU in seconds since the start, dead children included; resident memory in bytes."""

    cpu: float
    memory: int
    processes: int


def usage_of(pid: int, proc: Path = PROC) -> Usage:
    """Return what `pid` and its living descendants use; raises ProcessLookupError.

    Pages that several processes share, as the workers of a server do, count once for each.
    """
    stats = dict(_stats(proc))
    if pid not in stats:
        raise ProcessLookupError(f"no process {pid}")
    family = _family(pid, {each: int(fields[1]) for each, fields in stats.items()})
    # utime, stime, cutime, cstime are fields 14 to 17, rss is 24; field 3 is the first here.
    cpu = sum(
        _cpu(proc / str(each), [int(tick) for tick in stats[each][11:15]]) for each in family
    )
    pages = sum(int(stats[each][21]) for each in family)
    return Usage(cpu, pages * _PAGE, len(family))


def _cpu(process: Path, ticks: list[int]) -> float:
    """Return the seconds of CPU of a process and its dead children.

    Ticks are 10 ms, and each process has a rest that is left out: with many processes the rests
    are more than a short measurement. Scheduler statistics are exact, but lack ended threads.
    """
    own, children = sum(ticks[:2]), sum(ticks[2:])
    return max(own / _TICK, _on_cpu(process)) + children / _TICK


def _on_cpu(process: Path) -> float:
    """Return for how many seconds the living threads of a process ran; 0 if nobody tells."""
    nanoseconds = 0
    try:
        for thread in (process / "task").iterdir():
            nanoseconds += int((thread / "schedstat").read_bytes().split()[0])
    except OSError:  # one ended just now, or the kernel keeps no such statistics
        return 0.0
    return nanoseconds / 1e9


def shared_once(pid: int, proc: Path = PROC) -> int | None:
    """Return the memory of `pid` and its living descendants, in bytes; None if nobody tells.

    A page that several processes share counts once in all (proportional set size): the children
    of a server that forks would otherwise seem to cost the whole interpreter each.
    """
    stats = {each: int(fields[1]) for each, fields in _stats(proc)}
    sizes = [_proportional(proc / str(each)) for each in _family(pid, stats)]
    known = [size for size in sizes if size is not None]
    return sum(known) if known else None


def _proportional(process: Path) -> int | None:
    try:
        lines = (process / "smaps_rollup").read_bytes().splitlines()
    except OSError:  # it ended just now, it is not ours, or the kernel is older than 4.14
        return None
    sizes = (line.split()[1] for line in lines if line.startswith(b"Pss:"))
    return int(next(sizes, b"0")) * 1024


def _stats(proc: Path) -> Iterator[tuple[int, list[bytes]]]:
    for folder in proc.iterdir():
        if folder.name.isdecimal():
            try:
                text = (folder / "stat").read_bytes()
            except OSError:  # it ended just now
                continue
            # The name is in parentheses and may hold blanks and parentheses itself.
            yield int(folder.name), text.rpartition(b")")[2].split()


def _family(pid: int, parents: dict[int, int]) -> set[int]:
    family = {pid}
    while more := {each for each, parent in parents.items() if parent in family} - family:
        family |= more
    return family


@frozen
class OwnUsage:
    """What this process has used and waited for, in seconds of CPU, and when that was."""

    at: float
    cpu: float
    waited: float  # ready to run, on a machine whose CPUs were busy

    @classmethod
    def now(cls, proc: Path = PROC) -> "OwnUsage":
        """Return the figures of this moment; without Linux's scheduler statistics none waited."""
        try:
            waited = int((proc / "self" / "schedstat").read_bytes().split()[1]) / 1e9
        except OSError:
            waited = 0.0
        return cls(time.perf_counter(), time.process_time(), waited)
