"""Starting a worker: the same command line once more, with descriptors to inherit."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from evserve.host.plugins import current_folder
from evserve.host.workers.assignment import FIRST_SOCKET, ORDERS, REPORTS, Assignment, Socket
from evserve.host.workers.child import Child


def _same_command() -> list[str]:
    """Return the command line of this process, options of the interpreter included."""
    return [sys.executable, *sys.orig_argv[1:]]


@frozen
class Launcher:
    """Starts workers in the folder where the parent was started, which `--rundir` leaves.

    terminal: whether their standard error is the parent's; if not, the parent reads it.
    """

    reactor: Any
    terminal: bool = True
    command: list[str] = field(factory=_same_command)
    folder: Path | None = field(factory=current_folder)  # None: it is gone, and they start there

    def start(self, child: Child, sockets: Mapping[Socket, int]) -> None:
        """Start a process; `sockets` are the descriptors that it gets copies of."""
        inherited = dict(enumerate(sockets.values(), FIRST_SOCKET))
        assignment = Assignment(child.number, dict(zip(sockets, inherited, strict=True)))
        errors: int | str = 2 if self.terminal else "r"
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            self.reactor.spawnProcess(
                child,
                self.command[0],
                self.command,
                assignment.environment(os.environ),
                None if self.folder is None else str(self.folder),
                childFDs={0: nothing, 1: 1, 2: errors, REPORTS: "r", ORDERS: "w", **inherited},
            )
        finally:
            os.close(nothing)
