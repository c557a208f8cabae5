"""Plugins: the descriptors a plugin file holds, and how they are found.

A plugin file is imported at every start, whichever service is asked for, so a descriptor holds
nothing but strings; `load` imports the service behind it when it is wanted. Discovery is our own
rather than `twisted.plugin.getPlugins` because that prints the traceback of a broken file at every
start and writes a pickle beside the files it reads.
"""

import filecmp
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import twisted.plugins
from attrs import field, frozen
from twisted.application.service import IService, IServiceMaker
from twisted.plugin import IPlugin
from twisted.python.components import registerAdapter
from twisted.python.reflect import safe_str
from twisted.python.usage import Options
from zope.interface import implementer

from evserve.interfaces import IHandlerPlugin, IHost, IServicePlugin, LoadedService


class PluginError(Exception):
    """A plugin, or a folder of them, cannot be used; the message is the cause in one line."""


def one_line(error: BaseException) -> str:
    """Say in one line what `error` is: its type, its message and, of a SyntaxError, the place."""
    if isinstance(error, SyntaxError):
        place = f" ({error.filename}, line {error.lineno})" if error.filename else ""
        return f"SyntaxError: {error.msg}{place}"
    text = " ".join(safe_str(error).split())  # a plugin's own exception may fail at that, too
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def import_named(module: str) -> ModuleType:
    """Import `module`, turning whatever it raises, `sys.exit` included, into PluginError.

    KeyboardInterrupt is the exception: somebody pressed Ctrl-C.
    """
    try:
        return importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(one_line(error)) from error


@frozen
class Broken:
    """A plugin, or a whole plugin file, that cannot be offered, and why."""

    name: str
    path: str
    cause: str


# A type as in evserve.events.check_type, which must not be imported here: plugin files need no
# events, and evserve.events needs no plugins.
_PATTERN = re.compile(r"(?!-)[A-Za-z0-9+/;.$_()-]{1,200}\*?|\*")


def _check_pattern(instance: object, attribute: object, pattern: Any) -> None:
    if not (isinstance(pattern, str) and _PATTERN.fullmatch(pattern)):
        raise ValueError(
            f"{pattern!r} is no event type, nor the beginning of one and '*' (as in 'image.*')"
        )


def _check_function(instance: object, attribute: object, function: Any) -> None:
    if not isinstance(function, str):
        # The function itself would have its module imported by every command, `echo` too.
        raise ValueError(
            f"{function!r} is not the name of a function (such as 'thumbs.make_thumbnail')"
        )


def _check_attempts(instance: object, attribute: object, attempts: Any) -> None:
    if attempts is not None and not (type(attempts) is int and attempts >= 1):
        raise ValueError(f"max_attempts={attempts!r} is not a whole number above 0")


def _check_timeout(instance: object, attribute: object, timeout: Any) -> None:
    if timeout is not None and not (type(timeout) in (int, float) and 0 <= timeout < inf):
        raise ValueError(f"timeout={timeout!r} is not a number of seconds (0 is no limit)")


@implementer(IPlugin, IHandlerPlugin)
@frozen
class Handler:
    """Names the function that the `work` service calls with each event of a type.

    pattern: `image.uploaded`, or `image.*` for every type that begins so; the most specific
    handler gets the event.  function: a dotted name, imported when the service starts. It is an
    `async def`, returns a Deferred or, with `blocking=True`, is a plain function for the thread
    pool. Returning acknowledges the event; raising retries it and, in the end, buries it.
    max_attempts, timeout (seconds; 0 is no limit): instead of the service's.
    """

    pattern: str = field(validator=_check_pattern)
    function: str = field(validator=_check_function)
    blocking: bool = field(default=False, kw_only=True)
    max_attempts: int | None = field(default=None, kw_only=True, validator=_check_attempts)
    timeout: float | None = field(default=None, kw_only=True, validator=_check_timeout)

    def load(self) -> Callable[[Any], object]:
        """See IHandlerPlugin."""
        module, _, name = self.function.rpartition(".")
        if not module:
            raise PluginError(f"{self.function!r} is not MODULE.FUNCTION")
        function = getattr(import_named(module), name, None)
        if not callable(function):
            raise PluginError(f"{module} has no function {name}")
        return cast("Callable[[Any], object]", function)


@frozen
class FoundHandler:
    """A handler, and the file that holds it."""

    plugin: IHandlerPlugin
    path: str


def find_handlers(
    modules: Iterable[tuple[ModuleType, str]], broken: list[Broken]
) -> dict[str, FoundHandler]:
    """List the handlers; the first on the path wins a pattern, the next goes to `broken`."""
    handlers: dict[str, FoundHandler] = {}
    found = ((value, path) for module, path in modules for value in vars(module).values())
    for value, path in found:
        if not _is_handler(value):
            continue
        first = handlers.setdefault(value.pattern, FoundHandler(value, path))
        if first.plugin is not value:
            cause = f"events {value.pattern!r} are handled by {first.path}"
            broken.append(Broken(value.pattern, path, cause))
    return dict(sorted(handlers.items()))


def _is_handler(value: object) -> bool:
    try:
        return bool(IHandlerPlugin.providedBy(value))
    except Exception:  # reported when it was looked at as a service
        return False


__all__ = [
    "Broken",
    "Catalogue",
    "Found",
    "FoundHandler",
    "Handler",
    "PluginError",
    "ServiceMakerPlugin",
    "ServicePlugin",
    "added_folders",
    "discover",
    "load",
    "one_line",
]


@implementer(IPlugin, IServicePlugin)
@frozen
class ServicePlugin:
    """Names a service: `module` has `Options` and `makeService(options, host) -> IService`.

    name: the sub-command and config table.  module: a dotted name, imported when the service is
    asked for.  description: one line for `--help`.  listens: False for a job that opens no port
    through `host.listen`.  stateless: True allows `--workers`, several processes side by side.
    """

    name: str
    module: str
    description: str
    listens: bool = field(default=True, kw_only=True)
    stateless: bool = field(default=False, kw_only=True)

    def load(self) -> LoadedService:
        """See IServicePlugin."""
        module = import_named(self.module)
        missing = [name for name in ("Options", "makeService") if not hasattr(module, name)]
        if missing:
            raise PluginError(f"{self.module} has no {' and no '.join(missing)}")
        return LoadedService(module.Options, module.makeService)


@implementer(IServicePlugin)
@frozen
class ServiceMakerPlugin:
    """Any `twistd` plugin as a service: it keeps its own options and ports."""

    maker: IServiceMaker
    listens: bool = field(default=False, init=False)
    stateless: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        """The name `twistd` knows it by."""
        return str(self.maker.tapname)

    @property
    def description(self) -> str:
        """The line `twistd --help` shows."""
        return str(self.maker.description)

    @property
    def module(self) -> str:
        """The module named by a stock `ServiceMaker`, or where a home-made one lives."""
        return str(getattr(self.maker, "module", type(self.maker).__module__))

    def load(self) -> LoadedService:
        """See IServicePlugin."""
        import_named(self.module)

        def make_service(options: Options, host: IHost) -> IService:
            service: IService = self.maker.makeService(options)
            return service

        return LoadedService(self.maker.options, make_service)


registerAdapter(ServiceMakerPlugin, IServiceMaker, IServicePlugin)


@frozen
class Found:
    """A plugin that can be asked for, and the file that holds it."""

    plugin: IServicePlugin
    path: str


@frozen
class Catalogue:
    """What discovery found: services by name, handlers by pattern, and what was left out."""

    services: dict[str, Found]
    broken: tuple[Broken, ...]
    handlers: dict[str, FoundHandler] = field(factory=dict)

    def find(self, name: str) -> IServicePlugin:
        """Return the plugin called `name`; raises PluginError with the cause if it is broken."""
        if name in self.services:
            return self.services[name].plugin
        for broken in self.broken:
            if name in (broken.name, Path(broken.path).stem):
                raise PluginError(f"{name!r} cannot be used: {broken.cause} ({broken.path})")
        raise KeyError(name)


def added_folders(package: ModuleType = twisted.plugins) -> list[str]:
    """Return the list of folders that evserve searches and Twisted does not.

    Twisted would write its cache there, and print a traceback for each broken file whenever it
    looks for plugins of its own, which some services and endpoints make it do.
    """
    folders: list[str] = vars(package).setdefault("evserve_folders", [])
    return folders


def discover(package: ModuleType = twisted.plugins) -> Catalogue:
    """Import the plugin files of `package`, and only those, and list what they hold.

    The first on the path wins a name, but an evserve plugin outranks a `twistd` plugin.
    """
    broken: list[Broken] = []
    modules = list(_plugin_modules(package, broken))
    found = [each for module, path in modules for each in _services_of(module, path, broken)]
    found.sort(key=lambda each: isinstance(each.plugin, ServiceMakerPlugin))
    services: dict[str, Found] = {}
    for each in found:
        first = services.setdefault(each.plugin.name, each)
        if first.plugin is not each.plugin:
            cause = f"the name {each.plugin.name!r} is taken by {first.path}"
            broken.append(Broken(each.plugin.name, each.path, cause))
    handlers = find_handlers(modules, broken)
    return Catalogue(dict(sorted(services.items())), tuple(broken), handlers)


def _services_of(module: ModuleType, path: str, broken: list[Broken]) -> Iterator[Found]:
    """Yield the services that a plugin file describes; what cannot be read goes to `broken`."""
    for name, value in vars(module).items():
        try:
            plugin = _as_service(value)
        except Exception as error:
            broken.append(Broken(name, path, one_line(error)))
        else:
            if plugin is not None:
                yield Found(plugin, path)


def _as_service(value: object) -> IServicePlugin | None:
    """Return a service, adapted if need be; raises ValueError on one that nobody could ask for."""
    if not IPlugin.providedBy(value):
        return None
    if not (IServicePlugin.providedBy(value) or IServiceMaker.providedBy(value)):
        return None
    plugin: IServicePlugin = IServicePlugin(value)
    if plugin.module == "evserve.host.command":
        return None
    if not (isinstance(plugin.name, str) and re.fullmatch(r"[^\s-]\S*", plugin.name)):
        raise ValueError(f"{plugin.name!r} cannot be the name of a service")
    if not isinstance(plugin.description, str):
        raise ValueError(f"{plugin.name!r} has no description")
    return plugin


def load(plugin: IServicePlugin) -> LoadedService:
    """Load `plugin` and prove that its options can be made; raises PluginError in one line."""
    try:
        loaded = plugin.load()
        loaded.options()
    except (PluginError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginError(one_line(error)) from error
    if not callable(loaded.make_service):
        raise PluginError("its makeService is not a function")
    return loaded


def _plugin_modules(package: ModuleType, broken: list[Broken]) -> Iterator[tuple[ModuleType, str]]:
    """Import each plugin file once; what cannot be imported goes to `broken`."""
    seen: dict[str, str] = {}
    for name, path in _plugin_files([*package.__path__, *added_folders(package)]):
        first = seen.setdefault(name, path)
        if first != path:
            # A checkout and an installed copy of the same plugin hide nothing.
            if not _same(first, path):
                broken.append(Broken(name, path, f"hidden by the file of that name in {first}"))
            continue
        try:
            yield _import_plugin(package, name), path
        except PluginError as error:
            broken.append(Broken(name, path, str(error)))


def _import_plugin(package: ModuleType, name: str) -> ModuleType:
    path = package.__path__
    package.__path__ = [*path, *added_folders(package)]
    try:
        return import_named(f"{package.__name__}.{name}")
    finally:
        package.__path__ = path


def _same(first: str, second: str) -> bool:
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:  # one is no source file, or may not be read
        return False


def _plugin_files(folders: Iterable[str]) -> Iterator[tuple[str, str]]:
    for folder in dict.fromkeys(folders):
        for info in pkgutil.iter_modules([folder]):
            if not info.ispkg:
                yield info.name, str(Path(folder, f"{info.name}.py"))
