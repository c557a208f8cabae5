"""systemd: readiness and watchdog notifications (sd_notify(3)), and socket activation."""

import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from functools import cache
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet import endpoints
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.systemd import ListenFDs

from evserve.host.process import explain


_log = Logger()

_UNNAMED = "unknown"  # for a socket without a name: sd_listen_fds_with_names(3)


@define(eq=False)
class Notifier:
    """Sends states to the socket `address` (`/a/path` or `@abstract`); does nothing without one.

    watchdog: seconds in which systemd expects a sign of life, None if it expects none.
    """

    reactor: Any
    address: str | None = None
    watchdog: float | None = None
    _loop: LoopingCall = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(self._send, "WATCHDOG=1")
        self._loop.clock = self.reactor

    def ready(self, status: str) -> None:
        """Report that all services listen, and start to feed the watchdog."""
        self._send("READY=1", f"STATUS={status}")
        if self.watchdog is not None:
            self._loop.start(self.watchdog / 2)

    def reloading(self) -> None:
        """Report the start of a reload: `Type=notify-reload` waits for this and for `reloaded`."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """Report the end of a reload."""
        self._send("READY=1")

    def stopping(self, status: str) -> None:
        """Report the start of the drain; the watchdog is fed until the process ends."""
        self._send("STOPPING=1", f"STATUS={status}")

    def _send(self, *states: str) -> None:
        if self.address is None:
            return
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(states).encode(), name)
        except OSError as error:
            _log.warn("systemd: cannot notify: {reason}", reason=explain(error))


def notifier_from_environment(
    reactor: Any, environ: MutableMapping[str, str], pid: int
) -> Notifier:
    """Return the notifier that `environ` describes; remove the variables for child processes."""
    address = environ.pop("NOTIFY_SOCKET", None)
    microseconds = environ.pop("WATCHDOG_USEC", "")
    for_this_process = environ.pop("WATCHDOG_PID", str(pid)) == str(pid)
    watched = for_this_process and microseconds.isdecimal() and int(microseconds) > 0
    watchdog = int(microseconds) / 1_000_000 if watched else None
    return Notifier(reactor, address or None, watchdog)


@cache
def inherited_sockets() -> ListenFDs:
    """Return the sockets that systemd passed, and make Twisted's `systemd:` endpoint use them.

    Twisted reads and deletes the variables when it is first imported, and ignores every socket if
    LISTEN_FDNAMES is missing, as with `systemd-socket-activate`.
    """
    sockets = parse_listen_fds(_initial_environment(), os.getpid())
    endpoints._SystemdParser._sddaemon = sockets  # noqa: SLF001 - the only place it looks
    return sockets


def _initial_environment() -> dict[str, str]:
    """Return the environment as it was when the process began, if the kernel tells."""
    try:
        text = Path("/proc/self/environ").read_bytes()
    except OSError:
        return dict(os.environ)
    pairs = (os.fsdecode(entry).partition("=") for entry in text.split(b"\0") if entry)
    return {name: value for name, _, value in pairs}


def parse_listen_fds(environ: Mapping[str, str], pid: int) -> ListenFDs:
    """Return the sockets that `environ` lists for the process `pid`, named or not."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not count.isdecimal():
        return ListenFDs([])
    names = [name for name in environ.get("LISTEN_FDNAMES", "").split(":") if name]
    descriptors = range(3, 3 + int(count))  # they begin at 3: sd_listen_fds(3)
    missing = [_UNNAMED] * (len(descriptors) - len(names))
    return ListenFDs(list(descriptors), [*names, *missing][: len(descriptors)])


def check_inherited_socket(arguments: Mapping[str, str], sockets: ListenFDs) -> None:
    """Raise ValueError unless a `systemd:` endpoint's arguments name a listening socket."""
    index, name = arguments.get("index"), arguments.get("name")
    if (index is None) == (name is None):
        return  # Twisted's own message is good
    descriptors = sockets.inheritedDescriptors()
    if not descriptors:
        raise ValueError("systemd passed no sockets to this process")
    by_name = sockets.inheritedNamedDescriptors()
    if index is not None and not (index.isdecimal() and int(index) < len(descriptors)):
        raise ValueError(f"no socket {index}: systemd passed {len(descriptors)}, counted from 0")
    if name is not None and name not in by_name:
        raise ValueError(f"no socket is named {name!r} (known: {', '.join(by_name)})")
    fileno = by_name[name] if name is not None else descriptors[int(index or 0)]
    with socket.socket(fileno=os.dup(fileno)) as sock:
        stream = sock.type == socket.SOCK_STREAM
        if not (stream and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)):
            raise ValueError(
                "the socket that systemd passed does not listen (remove Accept= from its unit)"
            )
        family = sock.family.name.removeprefix("AF_")
    if family != arguments.get("domain", ""):
        raise ValueError(f"the socket that systemd passed needs domain={family}")
