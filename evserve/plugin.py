"""Plugins: the descriptors in plugin files, for their authors, and how the host finds them.

A plugin file is imported at every start, whichever service is wanted, so a descriptor contains
only strings, and `load` imports the code behind it. Discovery does not use
`twisted.plugin.getPlugins`, which prints the traceback of a broken file at every start and writes
a pickle beside the files it reads.
"""

import filecmp
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

import twisted.plugins
from attrs import Factory, field, frozen
from twisted.application.service import IService, IServiceMaker
from twisted.plugin import IPlugin
from twisted.python.components import registerAdapter
from twisted.python.reflect import safe_str
from twisted.python.usage import Options
from zope.interface import implementer

from evserve.interfaces import (
    IHandlerPlugin,
    IHost,
    ISchedulePlugin,
    IServicePlugin,
    LoadedService,
)


MAX_TEXT = 2000
"""Characters of an error's text that are shown and recorded."""


class PluginError(Exception):
    """A plugin, or a folder of them, cannot be used; the message is the cause in one line."""


class UntrustedError(PluginError, ImportError):
    """A file or folder of code that another user may change."""


@implementer(IPlugin, IServicePlugin)
@frozen
class ServicePlugin:
    """Names a service: `module` has `Options` and `makeService(options, host) -> IService`.

    name: the sub-command and config table.  module: a dotted name, imported when the service is
    wanted.  description: one line for `--help`.  listens: False for a job that opens no port
    through `host.listen`.  stateless: True allows `--workers`, several processes side by side.
    """

    name: str
    module: str
    description: str
    listens: bool = field(default=True, kw_only=True)
    stateless: bool = field(default=False, kw_only=True)

    def load(self) -> LoadedService:
        module = _import_module(self.module)
        missing = [name for name in ("Options", "makeService") if not hasattr(module, name)]
        if missing:
            raise PluginError(f"{self.module} has no {' and no '.join(missing)}")
        return LoadedService(module.Options, module.makeService)


# An event type as in evserve.events.check_type. Plugin files should not have to import
# evserve.events, nor evserve.events this module.
_PATTERN = re.compile(r"(?!-)[A-Za-z0-9+/;.$_()-]{1,200}\*?|\*")


@implementer(IPlugin, IHandlerPlugin)
@frozen
class Handler:
    """Names the function that the `work` service calls with each event of a type.

    pattern: `image.uploaded`, or `image.*` for every type with that prefix; the most specific
    handler gets the event.  function: a dotted name, imported when the service starts. It is an
    `async def`, which may await Deferreds and anything of asyncio's, returns a Deferred or, with
    `blocking=True`, is a plain function for the thread pool. Returning acknowledges the event;
    raising retries it and finally buries it.
    max_attempts, timeout (seconds; 0 is no limit): override those of the service.
    """

    pattern: str
    function: str
    blocking: bool = field(default=False, kw_only=True)
    max_attempts: int | None = field(default=None, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Raise ValueError now, while the plugin file is imported, for what would fail later."""
        if not (isinstance(self.pattern, str) and _PATTERN.fullmatch(self.pattern)):
            raise ValueError(
                f"{self.pattern!r} is not an event type or a prefix and '*' (such as image.*)"
            )
        if not isinstance(self.function, str):
            # To pass the function itself, a plugin file would import its module at every start.
            raise ValueError(
                f"{self.function!r} is not the name of a function (such as thumbs.make_thumbnail)"
            )
        attempts, timeout = self.max_attempts, self.timeout
        if attempts is not None and not (type(attempts) is int and attempts >= 1):
            raise ValueError(f"max_attempts={attempts!r} is not a whole number above 0")
        if timeout is not None and not (type(timeout) in (int, float) and 0 <= timeout < inf):
            raise ValueError(f"timeout={timeout!r} is not a number of seconds (0 is no limit)")

    def load(self) -> Callable[[Any], object]:
        module, _, name = self.function.rpartition(".")
        if not module:
            raise PluginError(f"{self.function!r} is not MODULE.FUNCTION")
        function = getattr(_import_module(module), name, None)
        if not callable(function):
            raise PluginError(f"{module} has no function {name}")
        return cast("Callable[[Any], object]", function)


_MAX_NAME = 200 - len("schedule/")  # it becomes the name of a sequence


@implementer(IPlugin, ISchedulePlugin)
@frozen
class Schedule:
    """Has the `work` service put an event of a type at each tick.

    expression: five fields as in a crontab, read as Debian's cron reads them, or six, the first
    of which is seconds; cronsim's documentation has the syntax.  timezone: a name of the IANA
    database, such as Europe/Berlin.  name: what the position is stored under, the event type
    unless several schedules put one type.  body: by default JSON, `{"schedule": NAME, "tick":
    "2026-11-21T03:00:00+01:00"}`.  missed: of the ticks that passed while no worker ran, "last"
    puts the last one at the next start, "skip" puts none.
    """

    expression: str
    event_type: str
    timezone: str = field(default="UTC", kw_only=True)
    name: str = field(default=Factory(lambda self: self.event_type, takes_self=True), kw_only=True)
    body: bytes | None = field(default=None, kw_only=True)
    priority: int = field(default=1024, kw_only=True)
    ttr: int = field(default=60, kw_only=True)
    missed: str = field(default="last", kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Raise ValueError for what does not need the expression to be parsed."""
        for value in (self.event_type, self.name):
            if not (isinstance(value, str) and _PATTERN.fullmatch(value) and value[-1] != "*"):
                raise ValueError(f"{value!r} is not an event type (such as report.nightly)")
        if len(self.name) > _MAX_NAME:
            raise ValueError(f"a name of {len(self.name)} characters: at most {_MAX_NAME}")
        if not (isinstance(self.expression, str) and isinstance(self.timezone, str)):
            raise ValueError(f"the expression and time zone of {self.name!r} are not text")
        if not (self.body is None or isinstance(self.body, bytes)):
            raise ValueError(f"body={self.body!r} is not bytes")
        for name, number, least in (("priority", self.priority, 0), ("ttr", self.ttr, 1)):
            if not (type(number) is int and least <= number < 2**32):
                raise ValueError(f"{name}={number!r} is not a whole number from {least}")
        if self.missed not in ("last", "skip"):
            raise ValueError(f"missed={self.missed!r} is neither 'last' nor 'skip'")

    def load(self) -> Callable[[float], datetime | None]:
        # Imported here, because a plugin file is imported at every start.
        from zoneinfo import ZoneInfo

        from cronsim import CronSim

        try:
            zone = UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)
        except (LookupError, ValueError, OSError) as error:
            raise PluginError(
                f"{self.timezone!r} is not a time zone (such as Europe/Berlin; a system without "
                "time zones needs the package tzdata)"
            ) from error

        def next_tick(after: float) -> datetime | None:
            # An hour comes twice when clocks are set back: the first may be before `after`.
            ticks = CronSim(self.expression, datetime.fromtimestamp(after, zone))
            return next((tick for tick in ticks if tick.timestamp() > after), None)

        try:
            first = next_tick(0)
        except Exception as error:  # of whatever class: the parser takes anything
            raise PluginError(
                f"{self.expression!r} is not a crontab expression: {error}"
            ) from error
        if first is None:
            raise PluginError(f"{self.expression!r} never comes")
        return next_tick


@implementer(IPlugin, IServicePlugin)
@frozen
class ServiceMakerPlugin:
    """Adapts any `twistd` plugin to a service, which keeps its own options and ports.

    In a plugin file it makes a service of evserve alone that is written like a `twistd` plugin.
    replaces: the module of the `twistd` plugin of the same name that it takes the place of.
    """

    maker: IServiceMaker
    replaces: str = field(default="", kw_only=True)
    listens: bool = field(default=False, init=False)
    stateless: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        return str(self.maker.tapname)

    @property
    def description(self) -> str:
        return str(self.maker.description)

    @property
    def module(self) -> str:
        # Only Twisted's own ServiceMaker has a module.
        return str(getattr(self.maker, "module", type(self.maker).__module__))

    def load(self) -> LoadedService:
        _import_module(self.module)

        def make_service(options: Options, host: IHost) -> IService:
            service: IService = self.maker.makeService(options)
            return service

        return LoadedService(self.maker.options, make_service)


registerAdapter(ServiceMakerPlugin, IServiceMaker, IServicePlugin)


@frozen
class FoundService:
    """A service plugin, and the file that contains it."""

    plugin: IServicePlugin
    path: str


@frozen
class FoundHandler:
    """A handler plugin, and the file that contains it."""

    plugin: IHandlerPlugin
    path: str


@frozen
class FoundSchedule:
    """A schedule plugin and the file that contains it."""

    plugin: ISchedulePlugin
    path: str


@frozen
class BrokenPlugin:
    """A plugin, or a whole plugin file, that cannot be used, and why."""

    name: str  # empty for a folder or a file that was refused
    path: str
    cause: str


@frozen
class Catalogue:
    """The result of discovery: services, handlers by pattern, schedules, and unusable plugins."""

    services: dict[str, FoundService]
    broken: tuple[BrokenPlugin, ...]
    handlers: dict[str, FoundHandler] = field(factory=dict)
    schedules: dict[str, FoundSchedule] = field(factory=dict)

    def find(self, name: str) -> IServicePlugin:
        """Return a service plugin; raises PluginError if it is broken, KeyError if unknown."""
        if name in self.services:
            return self.services[name].plugin
        for broken in self.broken:
            if name in (broken.name, Path(broken.path).stem):
                raise PluginError(f"{name!r} cannot be used: {broken.cause} ({broken.path})")
        raise KeyError(name)


def load(plugin: IServicePlugin) -> LoadedService:
    """Load `plugin` and make its options once; raises PluginError with the cause in one line."""
    try:
        loaded = plugin.load()
        loaded.options()
    except (PluginError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginError(one_line(error)) from error
    if not callable(loaded.make_service):
        raise PluginError("makeService is not callable")
    return loaded


def discover(package: ModuleType = twisted.plugins) -> Catalogue:
    """Import the plugin files of `package`, and only those, and list their plugins.

    The first plugin on the path gets a name, but an evserve plugin precedes a `twistd` plugin.
    """
    broken: list[BrokenPlugin] = []
    found: list[FoundService] = []
    handlers: dict[str, FoundHandler] = {}
    schedules: dict[str, FoundSchedule] = {}
    for module, path in _plugin_modules(package, broken):
        for name, value in vars(module).items():
            try:
                service = _as_service(value)
                if service is not None:
                    found.append(FoundService(service, path))
                if IHandlerPlugin.providedBy(value):
                    handler = FoundHandler(value, path)
                    _claim(handlers, "pattern", value.pattern, handler, broken)
                if ISchedulePlugin.providedBy(value):
                    schedule = FoundSchedule(value, path)
                    _claim(schedules, "schedule name", value.name, schedule, broken)
            except Exception as error:  # from an attribute of a plugin
                broken.append(BrokenPlugin(name, path, one_line(error)))
    found.sort(key=lambda each: isinstance(each.plugin, ServiceMakerPlugin))
    replaced = {
        (each.plugin.name, each.plugin.replaces)
        for each in found
        if isinstance(each.plugin, ServiceMakerPlugin)
    }
    services: dict[str, FoundService] = {}
    for each in found:
        if (each.plugin.name, each.plugin.module) not in replaced:
            _claim(services, "name", each.plugin.name, each, broken)
    return Catalogue(
        dict(sorted(services.items())),
        tuple(broken),
        dict(sorted(handlers.items())),
        dict(sorted(schedules.items())),
    )


_Found = TypeVar("_Found", FoundService, FoundHandler, FoundSchedule)


def _claim(
    taken: dict[str, _Found], what: str, name: str, found: _Found, broken: list[BrokenPlugin]
) -> None:
    """Add `found` to `taken` by its name, or to `broken` if another plugin has that name."""
    first = taken.setdefault(name, found)
    if first.plugin is not found.plugin:
        broken.append(
            BrokenPlugin(name, found.path, f"the {what} {name!r} is taken by {first.path}")
        )


def _as_service(value: object) -> IServicePlugin | None:
    """Return `value` as a service plugin, None if it is not one; raises ValueError if unusable."""
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


def added_folders(package: ModuleType = twisted.plugins) -> list[str]:
    """Return the list of the folders that evserve searches and Twisted does not.

    Twisted would write its cache there and print a traceback for each broken file whenever it
    looks for its own plugins, as some services and endpoints make it do.
    """
    folders: list[str] = vars(package).setdefault("evserve_folders", [])
    return folders


def _plugin_modules(
    package: ModuleType, broken: list[BrokenPlugin]
) -> Iterator[tuple[ModuleType, str]]:
    """Import each plugin file once; add to `broken` those that cannot be imported."""
    seen: dict[str, str] = {}
    for name, path in _plugin_files([*package.__path__, *added_folders(package)]):
        first = seen.setdefault(name, path)
        if first != path:
            # The same file in a checkout and in an installed copy is no conflict.
            if not _same_content(first, path):
                broken.append(BrokenPlugin(name, path, f"shadowed by {first}"))
            continue
        search_path = package.__path__
        package.__path__ = [*search_path, *added_folders(package)]
        try:
            module = _import_module(f"{package.__name__}.{name}")
        except PluginError as error:
            # Its services are unknown, so a refused file is nameless like a folder.
            shown = "" if isinstance(error, UntrustedError) else name
            broken.append(BrokenPlugin(shown, path, str(error)))
            continue
        finally:
            package.__path__ = search_path
        yield module, path


def _plugin_files(folders: Iterable[str]) -> Iterator[tuple[str, str]]:
    for folder in dict.fromkeys(folders):
        for info in pkgutil.iter_modules([folder]):
            if not info.ispkg:
                yield info.name, str(Path(folder, f"{info.name}.py"))


def _same_content(first: str, second: str) -> bool:
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:  # one is compiled, or may not be read
        return False


def _import_module(module: str) -> ModuleType:
    """Import `module`; raises PluginError for anything it raises, `sys.exit` included.

    KeyboardInterrupt passes: the user pressed Ctrl-C.
    """
    try:
        return importlib.import_module(module)
    except (KeyboardInterrupt, UntrustedError):
        raise
    except BaseException as error:
        raise PluginError(one_line(error)) from error


def one_line(error: BaseException) -> str:
    """Return the type and message of `error` in one line, with the place of a SyntaxError.

    It has at most MAX_TEXT characters, all of them printable.
    """
    if isinstance(error, SyntaxError):
        place = f" ({error.filename}, line {error.lineno})" if error.filename else ""
        return printable(f"SyntaxError: {error.msg}{place}")
    text = safe_str(error)  # the str() of a plugin's exception may raise
    words = " ".join(text[: 2 * MAX_TEXT].split())
    return printable(f"{type(error).__name__}: {words}" if words else type(error).__name__)


def printable(text: str) -> str:
    """Return the first MAX_TEXT characters of `text`, those that do not print as escapes.

    What a plugin or a client passes may be large, and may control the terminal that shows the log.
    """
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}..."
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
