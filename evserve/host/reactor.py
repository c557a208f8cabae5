"""The reactor of the process: uvloop's, unless `twistd` was told another or has one already."""

import sys
from collections.abc import Mapping
from typing import Any

from evserve.host.process import raise_file_limit
from evserve.host.workers.messages import current_assignment
from evserve.plugin import one_line


_LEAST_FILES = 48  # open files: without a free descriptor libuv aborts the process


def install_default_reactor(twistd: Mapping[str, Any] | None) -> str:
    """Install the uvloop reactor if this process may choose its reactor and can import uvloop.

    twistd: the options of `twistd` or `twist`; None in a program that parses evserve's options by
    itself, and has a reactor of its own.  Returns why the process runs on another reactor although
    none was asked for, or an empty string.
    """
    if twistd is None or "reactor" in twistd:
        return ""
    if sys.platform != "linux" and not twistd.get("nodaemon", True):
        return ""  # the kqueue of uvloop's loop would not outlive the fork of a daemon
    installed = sys.modules.get("twisted.internet.reactor")
    if installed is not None:
        by = f" by {path}" if (path := _plugin_with(installed)) else ""
        name = type(installed).__name__
        return f"{name} was installed{by} before evserve's own (twistd --reactor=uvloop is first)"
    assignment = current_assignment()
    if assignment is not None and not assignment.uvloop:
        return ""  # the supervisor says why
    if raise_file_limit() < _LEAST_FILES:
        return ""  # a service that listens will say so
    from evserve.reactor import install_new_reactor

    try:
        install_new_reactor()
    except Exception as error:  # of any class: uvloop may be broken
        if isinstance(error, ModuleNotFoundError) and error.name == "uvloop":
            return ""  # it is not installed, as on PyPy
        return f"uvloop cannot be used: {one_line(error)}"
    return ""


def runs_on_uvloop(reactor: object) -> bool:
    """Return whether a reactor is an UvloopReactor, without importing uvloop."""
    core: Any = sys.modules.get("evserve.reactor.core")
    return core is not None and isinstance(reactor, core.UvloopReactor)


def _plugin_with(reactor: object) -> str:
    """Return the path of a plugin file that has imported the reactor by name, or nothing."""
    for name, module in list(sys.modules.items()):
        if name.startswith("twisted.plugins.") and any(
            value is reactor for value in vars(module).values()
        ):
            return str(module.__file__)
    return ""
