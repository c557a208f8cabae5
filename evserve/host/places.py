"""Where `twistd` was told to go and to write.

It would find out only once it logs or leaves the terminal, and say so with a traceback.
"""

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twisted.python.usage import UsageError


def check_places(twistd: Mapping[str, Any]) -> None:
    """Raise UsageError, in one line, if a folder or a file among `twistd`'s options is no use."""
    for option, name, trouble in _troubles(twistd):
        if trouble:
            raise UsageError(f"twistd's --{option} {name}: {os.strerror(trouble)}")


def _troubles(twistd: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield an option, its value and what is wrong with that: an errno, or 0."""
    logfile, chroot = _logfile(twistd), twistd.get("chroot")
    if logfile:
        yield "logfile", logfile, _file_trouble(Path(logfile))
    if chroot:
        yield "chroot", chroot, _folder_trouble(Path(chroot))
        return  # the others are in there, where we cannot look yet
    rundir, pidfile = twistd.get("rundir", "."), twistd.get("pidfile")
    if rundir != ".":
        yield "rundir", rundir, _folder_trouble(Path(rundir))
    if pidfile:  # below the current folder, whatever rundir is
        yield "pidfile", pidfile, _file_trouble(Path(pidfile))


def _logfile(twistd: Mapping[str, Any]) -> str | None:
    """Return the log file that `twistd` is going to open, if any."""
    name: str | None = twistd.get("logfile")
    if name == "-" or twistd.get("syslog") or twistd.get("logger"):
        return None
    return name or (None if twistd.get("nodaemon", True) else "twistd.log")


def _folder_trouble(path: Path) -> int:
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        return error.errno or 0
    if not is_folder:
        return errno.ENOTDIR
    return 0 if os.access(path, os.X_OK) else errno.EACCES


def _file_trouble(path: Path) -> int:
    trouble = _folder_trouble(path.parent)
    if trouble:
        return trouble
    if path.is_dir():
        return errno.EISDIR
    return 0 if os.access(path if path.exists() else path.parent, os.W_OK) else errno.EACCES
