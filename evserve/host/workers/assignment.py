"""What a worker is told at its start: who it is, and which descriptors it inherits."""

import json
import os
from collections.abc import Mapping, MutableMapping
from functools import cache
from typing import Any

from attrs import frozen

from evserve.host.logs import logs_to_terminal


VARIABLE = "EVSERVE_WORKER"
REPORTS = 3  # the worker writes to this descriptor
ORDERS = 4  # and reads from this; its end means that the parent is gone
FIRST_SOCKET = 5

# These speak to one process: a worker that answered systemd would confuse it.
_PARENT_ONLY = (
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
)

Socket = tuple[str, str]  # the name of a service, and one of its endpoints as the user wrote it


@frozen
class Assignment:
    """The number of a worker (from 1) and its descriptors by socket."""

    number: int
    sockets: Mapping[Socket, int]

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the worker: the parent's, and this assignment."""
        rows = [[*key, fileno] for key, fileno in self.sockets.items()]
        kept = {name: value for name, value in environ.items() if name not in _PARENT_ONLY}
        return {**kept, VARIABLE: json.dumps([self.number, rows])}


def take(environ: MutableMapping[str, str]) -> Assignment | None:
    """Return and remove the assignment in an environment; None in a process that has none."""
    text = environ.pop(VARIABLE, None)
    if text is None:
        return None
    number, rows = json.loads(text)
    return Assignment(number, {(service, written): fileno for service, written, fileno in rows})


@cache
def current() -> Assignment | None:
    """Return the assignment of this process, if it is a worker."""
    return take(os.environ)


def become_worker(twistd: MutableMapping[str, Any], options: MutableMapping[str, Any]) -> None:
    """Take from `twistd` what the parent has done: leaving the terminal, switching users.

    A log file cannot be written by several processes: the parent takes down what workers say.
    """
    if not logs_to_terminal(twistd):
        options["log-format"] = "text"
    twistd.update(nodaemon=True, pidfile="", uid=None, gid=None, chroot=None)
    twistd.update(logfile=None, syslog=False, logger=None)
