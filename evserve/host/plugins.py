"""Folders of plugin files, and `twistd -n evserve services`, which lists the plugins in them.

The code in a plugin file runs with the user's rights, so a folder that others can change is
refused.
"""

import importlib
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import twisted.plugins
from twisted.application.service import IService
from twisted.python import usage

from evserve.host.process import current_folder, exit_without_traceback
from evserve.interfaces import IHost
from evserve.plugin import BrokenPlugin, Catalogue, PluginError, added_folders, load


def add_plugin_folder(name: str, package: ModuleType = twisted.plugins) -> None:
    """Add a folder of plugin files to discovery, and to sys.path for the modules that they name.

    The folder contains `twisted/plugins/` or the plugin files themselves. Raises PluginError if it
    does not exist, or if any user may write to it or replace it.
    """
    try:
        plugins, root = _locate(name)
    except OSError as error:
        raise PluginError(f"{name}: {error.strerror}") from error
    for path, entry in ((added_folders(package), plugins), (sys.path, root)):
        if str(entry) not in path:
            path.append(str(entry))
    importlib.invalidate_caches()


def _locate(name: str) -> tuple[Path, Path]:
    """Return the folder of the plugin files, and the one to import their modules from."""
    folder = Path(name).absolute()
    inner = folder / "twisted" / "plugins"
    plugins = inner if inner.is_dir() else folder
    if not name or not plugins.is_dir():  # an empty name would be the current folder
        raise PluginError(f"no plugin folder {name!r}")
    root = plugins.parents[1] if plugins.parts[-2:] == ("twisted", "plugins") else plugins
    exposed = list(dict.fromkeys((plugins, root)))
    # In a sticky folder such as /tmp any user may write, but not rename what others own.
    if not plugins.parent.stat().st_mode & stat.S_ISVTX:
        exposed.append(plugins.parent)
    for each in exposed:
        if each.stat().st_mode & stat.S_IWOTH:
            raise PluginError(
                f"not loading plugins from {plugins}: {each} is world-writable "
                f"(fix: chmod o-w {each})"
            )
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


def list_plugins(catalogue: Catalogue) -> Iterator[str]:
    """Yield a line for each service, each handler, and each plugin that cannot be used."""
    width = max(map(len, (*catalogue.services, *catalogue.handlers)), default=0)
    broken = list(catalogue.broken)
    for name, found in catalogue.services.items():
        try:
            load(found.plugin)
        except PluginError as error:
            broken.append(BrokenPlugin(name, found.path, str(error)))
        else:
            yield f"{name:{width}}  {found.plugin.description}  [{_relative(found.path)}]"
    if catalogue.handlers:
        yield ""
        yield "Handlers:"
    for pattern, handler in catalogue.handlers.items():
        try:
            handler.plugin.load()
        except PluginError as error:
            broken.append(BrokenPlugin(pattern, handler.path, str(error)))
        else:
            yield f"{pattern:{width}}  {handler.plugin.function}  [{_relative(handler.path)}]"
    if broken:
        yield ""
        yield "Cannot be used:"
    for each in broken:
        yield f"{each.name:{width}}  {each.cause}  [{_relative(each.path)}]"


def _relative(path: str) -> str:
    """Return a path relative to the current folder if it is below that."""
    here = current_folder()
    if here is None or not Path(path).is_relative_to(here):
        return path
    return str(Path(path).relative_to(here))
