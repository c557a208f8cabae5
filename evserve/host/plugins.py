"""Folders of plugin files that the user names or stands in.

What is loaded runs with the user's rights, so a folder that others can change is refused.
"""

import importlib
import stat
import sys
from pathlib import Path
from types import ModuleType

import twisted.plugins

from evserve.plugin import Broken, PluginError, added_folders


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
