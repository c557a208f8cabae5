"""Which handler gets an event. Pure: names and patterns, no queue."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import define, field, frozen

from evserve.events import ERRORS, Event


@frozen
class Route:
    """A handler, loaded: what it wants, what to call, and its own limits, if any."""

    pattern: str
    function: Callable[[Event], Any]
    blocking: bool = False
    max_attempts: int | None = None
    timeout: float | None = None

    @property
    def is_prefix(self) -> bool:
        """Whether the pattern stands for every type that begins like it."""
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
    def exact(self) -> frozenset[str]:
        """The types that are wanted by name, whether they exist or not."""
        return frozenset(self._exact)

    @property
    def patterns(self) -> list[str]:
        """The patterns for which existing types have to be looked up."""
        return [route.pattern for _, route in self._prefixes]

    def find(self, event_type: str) -> Route | None:
        """Return the most specific handler for a type: its own, else the longest prefix.

        No prefix catches the records of given-up events: `*` would otherwise swallow what an
        operator should see. A handler may ask for them by name.
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
