"""Folders of plugin files, and `twistd -n evserve services`, which lists the plugins in them.

The code in these folders runs with the user's rights, so what another user may change is refused:
a folder when it is added, and a file, whether plugin or module, when it is imported.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import twisted.plugins
from twisted.application.service import IService
from twisted.python import usage

from evserve.host.process import current_folder, exit_without_traceback
from evserve.interfaces import IHost, ISchedulePlugin
from evserve.plugin import (
    BrokenPlugin,
    Catalogue,
    PluginError,
    UntrustedError,
    added_folders,
    load,
)
from evserve.trust import check_imports, check_trusted


def add_plugin_folder(name: str, package: ModuleType = twisted.plugins) -> None:
    """Add a folder of plugin files to discovery, and to sys.path for the modules that they name.

    The folder contains `twisted/plugins/` or the plugin files themselves. Raises PluginError if it
    does not exist, or if another user may write to it or replace it.
    """
    try:
        plugins, root = _locate(name)
    except OSError as error:
        raise PluginError(f"{name}: {error.strerror}") from error
    for path, entry in ((added_folders(package), plugins), (sys.path, root)):
        if str(entry) not in path:
            path.append(str(entry))
    check_imports(root)


def _locate(name: str) -> tuple[Path, Path]:
    """Return the folder of the plugin files, and the one to import their modules from."""
    folder = Path(name).absolute()
    inner = folder / "twisted" / "plugins"
    plugins = inner if inner.is_dir() else folder
    if not name or not plugins.is_dir():  # an empty name would be the current folder
        raise PluginError(f"no plugin folder {name!r}")
    root = plugins.parents[1] if plugins.parts[-2:] == ("twisted", "plugins") else plugins
    try:
        check_trusted(plugins)
        check_trusted(root)
    except UntrustedError as error:
        raise PluginError(f"not loading plugins from {plugins}: {error}") from error
    return plugins, root


def add_current_folder() -> tuple[BrokenPlugin, ...]:
    """Add `./twisted/plugins` if it exists; return it, with the cause, if it is refused."""
    try:
        plugins = Path.cwd() / "twisted" / "plugins"
        if plugins.is_dir():
            add_plugin_folder(".")
    except PluginError as error:
        return (BrokenPlugin("", str(plugins), str(error)),)
    except OSError:  # the current folder was removed, or may not be read
        pass
    return ()


class Options(usage.Options):
    """No options."""


def makeService(options: Options, host: IHost) -> IService:
    """Print the list and exit."""
    host_options: Any = options.parent
    with exit_without_traceback():
        print("\n".join(list_plugins(host_options.catalogue)))
    raise SystemExit(0)


# Of a plugin: its name, what is shown, how it is loaded, and its file.
_Row: TypeAlias = tuple[str, str, Callable[[], object], str]


def list_plugins(catalogue: Catalogue) -> Iterator[str]:
    """Yield a line for each service, handler and schedule, and each plugin that cannot be used."""
    services, handlers, schedules = catalogue.services, catalogue.handlers, catalogue.schedules
    width = max(map(len, (*services, *handlers, *schedules)), default=0)
    broken = list(catalogue.broken)
    sections: dict[str, list[_Row]] = {
        "": [
            (name, found.plugin.description, partial(load, found.plugin), found.path)
            for name, found in services.items()
        ],
        "Handlers:": [
            (pattern, found.plugin.function, found.plugin.load, found.path)
            for pattern, found in handlers.items()
        ],
        "Schedules:": [
            (name, _explain(found.plugin), found.plugin.load, found.path)
            for name, found in schedules.items()
        ],
    }
    for title, rows in sections.items():
        if title and rows:
            yield ""
            yield title
        for name, text, load_plugin, path in rows:
            try:
                load_plugin()
            except PluginError as error:
                broken.append(BrokenPlugin(name, path, str(error)))
            else:
                yield f"{name:{width}}  {text}  [{_relative(path)}]"
    if broken:
        yield ""
        yield "Cannot be used:"
    for each in broken:
        yield f"{each.name:{width}}  {each.cause}  [{_relative(each.path)}]"


def _explain(schedule: ISchedulePlugin) -> str:
    return f"{schedule.expression} {schedule.timezone}, puts {schedule.event_type}"


def _relative(path: str) -> str:
    """Return a path relative to the current folder if it is below that."""
    here = current_folder()
    if here is None or not Path(path).is_relative_to(here):
        return path
    return str(Path(path).relative_to(here))
