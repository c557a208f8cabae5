"""Folders of plugin files that the user names or stands in.

What is loaded runs with the user's rights, so a folder that others can change is refused.
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

from evserve.host.process import ending_quietly
from evserve.interfaces import IHost
from evserve.plugin import Broken, Catalogue, PluginError, added_folders, load


def current_folder() -> Path | None:
    """Return the current folder; None if it was removed under us."""
    try:
        return Path.cwd()
    except OSError:
        return None


def add_plugin_folder(name: str, package: ModuleType = twisted.plugins) -> None:
    """Let discovery see the plugin files of a folder, and let Python see the modules they name.

    The folder either holds `twisted/plugins/` or is itself such a folder of plugin files.
    Raises PluginError if it does not exist or if everybody may write to it, or put another in its
    place.
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
    """Return where the plugin files are, and what Python has to search for their modules."""
    folder = Path(name).absolute()
    inner = folder / "twisted" / "plugins"
    plugins = inner if inner.is_dir() else folder
    if not name or not plugins.is_dir():  # an empty name would be the current folder
        raise PluginError(f"no plugin folder {name!r}")
    root = plugins.parents[1] if plugins.parts[-2:] == ("twisted", "plugins") else plugins
    for guarded in dict.fromkeys((plugins, root)):
        _refuse_world_writable(guarded, plugins)
    # In a folder like /tmp everybody may write, but nobody may rename what is another's.
    if not plugins.parent.stat().st_mode & stat.S_ISVTX:
        _refuse_world_writable(plugins.parent, plugins)
    return plugins, root


def _refuse_world_writable(guarded: Path, plugins: Path) -> None:
    if guarded.stat().st_mode & stat.S_IWOTH:
        raise PluginError(
            f"not loading plugins from {plugins}: everybody may write to {guarded} "
            f"(mend: chmod o-w {guarded})"
        )


def add_current_folder() -> tuple[Broken, ...]:
    """Add `./twisted/plugins` if there is one; return it, with the cause, if it is refused."""
    try:
        plugins = Path.cwd() / "twisted" / "plugins"
        if plugins.is_dir():
            add_plugin_folder(".")
    except PluginError as error:
        return (Broken("", str(plugins), str(error)),)
    except OSError:  # the current folder is gone, or not ours to look at
        pass
    return ()


class Options(usage.Options):
    """No options of its own."""


def makeService(options: Options, host: IHost) -> IService:
    """Print the table and end: there is nothing to serve."""
    host_options: Any = options.parent
    with ending_quietly():  # what reaches the host as an error is blamed on this service
        print("\n".join(table(host_options.catalogue)))
    raise SystemExit(0)


def table(catalogue: Catalogue) -> Iterator[str]:
    """Yield a line for each service, each handler, and each plugin that cannot be used."""
    width = max(map(len, (*catalogue.services, *catalogue.handlers)), default=0)
    broken = list(catalogue.broken)
    for name, found in catalogue.services.items():
        try:
            load(found.plugin)
        except PluginError as error:
            broken.append(Broken(name, found.path, str(error)))
        else:
            yield f"{name:{width}}  {found.plugin.description}  [{_shown(found.path)}]"
    if catalogue.handlers:
        yield ""
        yield "Handlers:"
    for pattern, handler in catalogue.handlers.items():
        try:
            handler.plugin.load()
        except PluginError as error:
            broken.append(Broken(pattern, handler.path, str(error)))
        else:
            yield f"{pattern:{width}}  {handler.plugin.function}  [{_shown(handler.path)}]"
    if broken:
        yield ""
        yield "Cannot be used:"
    for each in broken:
        yield f"{each.name:{width}}  {each.cause}  [{_shown(each.path)}]"


def _shown(path: str) -> str:
    """Return a path below the current folder without the folder."""
    here = current_folder()
    if here is None or not Path(path).is_relative_to(here):
        return path
    return str(Path(path).relative_to(here))
