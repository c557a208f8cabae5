"""Routes: which handler gets an event; how handlers and schedules are loaded from plugins."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import define, field, frozen
from twisted.logger import Logger

from evserve.events import ERRORS, Event
from evserve.plugin import BrokenPlugin, Catalogue, PluginError
from evserve.work.schedules import LoadedSchedule, load_schedules


_log = Logger()


@frozen
class Route:
    """A loaded handler: the types it wants, the function, and limits of its own, if any."""

    pattern: str
    function: Callable[[Event], Any]
    blocking: bool = False
    max_attempts: int | None = None
    timeout: float | None = None

    @property
    def is_prefix(self) -> bool:
        """Whether the pattern matches every type that begins like it."""
        return self.pattern.endswith("*")


@define
class Routes:
    """All handlers; of those that match a type, the most specific gets the event."""

    _routes: Sequence[Route] = field(alias="routes")
    _exact: dict[str, Route] = field(init=False)
    _prefixes: list[tuple[str, Route]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._exact = {each.pattern: each for each in self._routes if not each.is_prefix}
        prefixes = [(each.pattern[:-1], each) for each in self._routes if each.is_prefix]
        self._prefixes = sorted(prefixes, key=lambda pair: -len(pair[0]))

    @property
    def is_empty(self) -> bool:
        """Whether there are no handlers."""
        return not self._routes

    @property
    def exact(self) -> frozenset[str]:
        """The types that handlers name, whether they exist or not."""
        return frozenset(self._exact)

    @property
    def patterns(self) -> list[str]:
        """The patterns for which existing types have to be looked up."""
        return [route.pattern for _, route in self._prefixes]

    def find(self, event_type: str) -> Route | None:
        """Return the handler that names the type, else the one with the longest prefix, else None.

        No prefix matches the records of buried events, because `*` would hide them from the
        operator. A handler may name their type.
        """
        if event_type in self._exact:
            return self._exact[event_type]
        if event_type == ERRORS:
            return None
        return next(
            (route for prefix, route in self._prefixes if event_type.startswith(prefix)), None
        )

    def wanted(self, existing: Iterable[str]) -> frozenset[str]:
        """Return the types to reserve, given those that exist."""
        return self.exact | {each for each in existing if self.find(each) is not None}


class NoHandlersError(Exception):
    """No handler and no schedule can be used; the message is one line with the reason."""


def load_plugins(catalogue: Catalogue) -> tuple[Routes, list[LoadedSchedule]]:
    """Import the handlers and load the schedules of a catalogue.

    Each that cannot be used is one line in the log, and the others go on. Raises NoHandlersError
    if there are no others.
    """
    schedules, unusable = load_schedules(catalogue)
    broken = [*catalogue.broken, *unusable]
    routes = []
    for found in catalogue.handlers.values():
        plugin = found.plugin
        try:
            function = plugin.load()
        except PluginError as error:
            broken.append(BrokenPlugin(plugin.pattern, found.path, str(error)))
            continue
        routes.append(
            Route(plugin.pattern, function, plugin.blocking, plugin.max_attempts, plugin.timeout)
        )
    if not (routes or schedules) and broken:
        causes = "; ".join(f"{each.name}: {each.cause} ({each.path})" for each in broken)
        raise NoHandlersError(f"no handler and no schedule can be used: {causes}")
    if not (routes or schedules):
        raise NoHandlersError(
            "no handlers found: put a file into twisted/plugins/ that names them, such as "
            'Handler("image.uploaded", "thumbs.make_thumbnail")'
        )
    for each in broken:
        _log.error("plugin {each.name} cannot be used: {each.cause} ({each.path})", each=each)
    return Routes(routes), schedules
