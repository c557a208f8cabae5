"""Telling systemd how it goes: sd_notify(3) without a library, and silence without systemd."""

import os
import socket
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


UNNAMED = "unknown"  # what sd_listen_fds_with_names(3) calls a socket without a name


def listed(environ: Mapping[str, str], pid: int) -> ListenFDs:
    """Return the sockets that `environ` lists for the process `pid`, named or not."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not count.isdecimal():
        return ListenFDs([])
    names = [name for name in environ.get("LISTEN_FDNAMES", "").split(":") if name]
    descriptors = range(3, 3 + int(count))  # sd_listen_fds(3): they begin at 3
    missing = [UNNAMED] * (len(descriptors) - len(names))
    return ListenFDs(list(descriptors), [*names, *missing][: len(descriptors)])


def initial_environment() -> dict[str, str]:
    """Return the environment as it was when the process began, where the kernel tells."""
    try:
        text = Path("/proc/self/environ").read_bytes()
    except OSError:
        return dict(os.environ)
    pairs = (os.fsdecode(entry).partition("=") for entry in text.split(b"\0") if entry)
    return {name: value for name, _, value in pairs}


@cache
def passed_sockets() -> ListenFDs:
    """Return the sockets passed to this process, and let Twisted's endpoint know of them."""
    found = listed(initial_environment(), os.getpid())
    endpoints._SystemdParser._sddaemon = found  # noqa: SLF001 - it asks nobody else
    return found


def check_passed(arguments: Mapping[str, str], passed: ListenFDs) -> None:
    """Raise ValueError, in one line, unless a `systemd:` endpoint names a socket it can use."""
    index, name = arguments.get("index"), arguments.get("name")
    if (index is None) == (name is None):
        return  # Twisted says so itself
    descriptors = passed.inheritedDescriptors()
    if not descriptors:
        raise ValueError("systemd passed no sockets to this process")
    by_name = passed.inheritedNamedDescriptors()
    if index is not None and not (index.isdecimal() and int(index) < len(descriptors)):
        raise ValueError(f"no socket {index}: systemd passed {len(descriptors)}, counted from 0")
    if name is not None and name not in by_name:
        raise ValueError(f"no socket is named {name!r} (there are: {', '.join(by_name)})")
    fileno = by_name[name] if name is not None else descriptors[int(index or 0)]
    _check_socket(fileno, arguments.get("domain", ""))


def _check_socket(fileno: int, domain: str) -> None:
    with socket.socket(fileno=os.dup(fileno)) as sock:
        stream = sock.type == socket.SOCK_STREAM
        if not (stream and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)):
            raise ValueError("the socket that systemd passed does not listen (leave out Accept=)")
        family = sock.family.name.removeprefix("AF_")
    if family != domain:
        raise ValueError(f"the socket that systemd passed needs domain={family}")


@define(eq=False)
class Notifier:
    """Sends states to `address` (`/a/path` or `@abstract`), or nowhere without one.

    watchdog: seconds within which systemd wants to hear again, None if it does not care.
    """

    reactor: Any
    address: str | None = None
    watchdog: float | None = None
    _loop: LoopingCall = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(self.send, "WATCHDOG=1")
        self._loop.clock = self.reactor

    def ready(self, status: str) -> None:
        """Say that everything listens, and from now on that the process is alive."""
        self.send("READY=1", f"STATUS={status}")
        if self.watchdog is not None:
            self._loop.start(self.watchdog / 2)

    def stopping(self, status: str) -> None:
        """Say that the end has begun; the watchdog is fed until it has come."""
        self.send("STOPPING=1", f"STATUS={status}")

    def send(self, *states: str) -> None:
        """Send states; what systemd does not take is logged, and nobody waits for it."""
        if self.address is None:
            return
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(states).encode(), name)
        except OSError as error:
            _log.warn("cannot notify systemd: {reason}", reason=explain(error))


def take_notifier(reactor: Any, environ: MutableMapping[str, str], pid: int) -> Notifier:
    """Return a notifier for what `environ` says; take that out, it is not for child processes."""
    address = environ.pop("NOTIFY_SOCKET", None)
    microseconds = environ.pop("WATCHDOG_USEC", "")
    for_us = environ.pop("WATCHDOG_PID", str(pid)) == str(pid)
    watched = for_us and microseconds.isdecimal() and int(microseconds) > 0
    watchdog = int(microseconds) / 1_000_000 if watched else None
    return Notifier(reactor, address or None, watchdog)
