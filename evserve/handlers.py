"""Handlers: the descriptor a plugin file holds for the `work` service, and how it is found."""

import re
from collections.abc import Callable, Iterable
from math import inf
from types import ModuleType
from typing import Any, cast

from attrs import field, frozen
from twisted.plugin import IPlugin
from zope.interface import implementer

from evserve.importing import Broken, PluginError, import_named
from evserve.interfaces import IHandlerPlugin


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
