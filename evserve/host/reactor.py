"""The reactor of the process: uvloop's, unless `twistd` was told another or has one already."""

import sys
from collections.abc import Mapping
from typing import Any

import twisted.internet
from attrs import define, field
from twisted.internet import main

from evserve.host.process import raise_file_limit
from evserve.host.workers.messages import current_assignment
from evserve.plugin import one_line


_LEAST_FILES = 48  # open files: without a free descriptor libuv aborts the process
_MODULE = "twisted.internet.reactor"
_install_reactor: Any = main.installReactor


@define(eq=False)
class DefaultReactor:
    """Installs the uvloop reactor if the process may choose one, and can import uvloop.

    problem: why the process runs on another reactor although none was asked for, or empty.
    """

    problem: str = field(init=False, default="")
    _ours: Any = field(init=False, default=None)

    def install(self, twistd: Mapping[str, Any] | None) -> None:
        """Install it; until `settle`, a plugin may install another instead.

        twistd: the options of `twistd` or `twist`; None in a program that parses evserve's options
        by itself, and has a reactor of its own.
        """
        if twistd is None or "reactor" in twistd:
            return
        if sys.platform != "linux" and not twistd.get("nodaemon", True):
            return  # the kqueue of uvloop's loop would not outlive the fork of a daemon
        installed = sys.modules.get(_MODULE)
        if installed is not None:
            by = "".join(f" by {path}" for path in _importers(installed)[:1])
            self.problem = (
                f"{type(installed).__name__} was installed{by} before evserve's own "
                "(twistd --reactor=uvloop comes first)"
            )
            return
        assignment = current_assignment()
        if assignment is not None and not assignment.uvloop:
            return  # the supervisor says why
        if raise_file_limit() < _LEAST_FILES:
            return  # a service that listens will say so
        from evserve.reactor import install_new_reactor

        try:
            install_new_reactor()
        except Exception as error:  # of any class: uvloop may be broken
            if not (isinstance(error, ModuleNotFoundError) and error.name == "uvloop"):
                self.problem = f"uvloop cannot be used: {one_line(error)}"
        else:
            self._ours = sys.modules[_MODULE]
            main.installReactor = self._replace

    def settle(self) -> None:
        """From now on, as ever in Twisted, a second reactor is an error."""
        main.installReactor = _install_reactor

    def _replace(self, reactor: Any) -> None:
        """Install a reactor for a plugin that does so itself, as `twistd` lets it."""
        if getattr(reactor, "_asyncioEventloop", None) is self._ours.loop:
            # By asyncioreactor.install(get_event_loop()): ours is one too, on that loop.
            sys.modules[_MODULE] = self._ours
            return
        self.settle()
        if not _importers(self._ours):
            sys.modules.pop(_MODULE, None)  # unless the plugin has done so
            path = sys._getframe(2).f_code.co_filename  # noqa: SLF001 - public in all but name
            self.problem = (
                f"{type(reactor).__name__} was installed by {path} in place of the default"
            )
        _install_reactor(reactor)


def runs_on_uvloop(reactor: object) -> bool:
    """Return whether a reactor is an UvloopReactor, without importing uvloop."""
    core: Any = sys.modules.get("evserve.reactor.core")
    return core is not None and isinstance(reactor, core.UvloopReactor)


def _importers(reactor: object) -> list[str]:
    """Return the files of the modules that have imported the reactor by name."""
    return [
        str(getattr(module, "__file__", name))
        for name, module in list(sys.modules.items())
        if module not in (twisted.internet, reactor)
        and any(value is reactor for value in getattr(module, "__dict__", {}).values())
    ]
