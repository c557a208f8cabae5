"""Where the figures come from: the machine, its limits and the versions of what took part."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evserve.lab.results import Machine
from evserve.lab.settings import open_files_limit


_PACKAGES = ("evserve", "Twisted", "uvloop", "gevent", "greenlet", "liburing")
_UNKNOWN = "unknown"


def this_machine(reactor: Any, proc: Path = Path("/proc")) -> Machine:
    """Return what is known of this machine."""
    return Machine(
        cpu=_field(proc / "cpuinfo", "model name") or platform.machine() or _UNKNOWN,
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=_memory(proc),
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        reactor=type(reactor).__name__,
        packages=_versions(),
        open_files_limit=open_files_limit(),
        load_average=round(os.getloadavg()[0], 2),
    )


def _field(path: Path, name: str) -> str | None:
    """Return the first value of a `name: value` line, None without one."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return None
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in pairs if key.strip() == name), None)


def _memory(proc: Path) -> int:
    text = _field(proc / "meminfo", "MemTotal") or "0 kB"
    return int(text.split()[0]) * 1024


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
