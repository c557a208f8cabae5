"""The calls of `reserve` that wait: which of them ask next, and who gets what was found."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from evserve.events.errors import QueueError, QueueUnavailable
from evserve.events.event import MAX_MANY, Event
from evserve.events.postgres.calls import Row


SLOW: Final = 0.02
"""Seconds that finding the first event takes when dead rows are in the way."""

SLOW_SCANS: Final = 3
"""So many scans in a row make it certain: one may have been interrupted."""

FULL_SHARE: Final = 0.05
"""The part of the time in which slow scans may begin at the very start."""

KEPT: Final = 64
"""Sets of types from which on those are forgotten for which no call waits."""

Key = tuple[int, int]
_START: Final[Key] = (-1, -1)


class Pace:
    """Whether a scan can begin at the start, or should skip what the last one passed over.

    A long transaction of another program keeps rows that were deleted since, and each scan from
    the start passes over all of them.
    """

    def __init__(self) -> None:
        self._slow = 0
        self._next = 0.0

    def is_due(self, now: float) -> bool:
        """Whether a scan from the start is affordable."""
        return now >= self._next

    def took(self, seconds: float, now: float) -> None:
        """Take the duration of a scan from the start."""
        self._slow = self._slow + 1 if seconds > SLOW else 0
        self._next = now + seconds / FULL_SHARE if self._slow >= SLOW_SCANS else 0.0


class Waiter:
    """One call of `reserve_many`.

    number: counts the calls.  limit: for how many events.  at: when it was made.  now: whether it
    does not wait.
    """

    __slots__ = ("at", "deferred", "limit", "now", "number", "timer")

    def __init__(
        self, number: int, limit: int, at: float, *, now: bool, gone: Callable[..., None]
    ) -> None:
        self.number = number
        self.limit = limit
        self.at = at
        self.now = now
        self.timer: IDelayedCall | None = None
        self.deferred: Deferred[list[Event]] = Deferred(gone)


class Group:
    """The waiters for the same types, in the order in which they came.

    due: whether there may be an event for them.  asking: how many events a statement under way
    asks for.  last: the number of the last waiter when it was sent.
    """

    __slots__ = ("asking", "due", "full", "last", "names", "pace", "sent", "types", "waiters")

    def __init__(self, types: frozenset[str]) -> None:
        self.types = types
        self.names = sorted(types)
        self.waiters: OrderedDict[Waiter, None] = OrderedDict()
        self.last = 0
        self.pace = Pace()
        self.due = True
        self.asking = 0
        self.full = True
        self.sent = 0.0

    @property
    def first(self) -> Waiter:
        """The waiter that came first."""
        return next(iter(self.waiters))


class Waits:
    """All waiters, by the types for which they wait."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._groups: dict[frozenset[str], Group] = {}
        self._of_type: dict[str, set[Group]] = {}
        self._starts: dict[str, Key] = {}
        self._count = 0
        self._most = KEPT

    def add(self, types: frozenset[str], limit: int, timeout: float | None) -> Waiter:
        """Add a call; its group is due."""
        group = self._groups.get(types)
        if group is None:
            if len(self._groups) >= self._most:
                self._forget_unused()
                self._most = max(KEPT, 2 * len(self._groups))
            group = self._groups[types] = Group(types)
            for each in types:
                self._of_type.setdefault(each, set()).add(group)
        found = group

        def gone(_: object) -> None:
            self._leave(found, waiter)

        self._count += 1
        waiter = Waiter(self._count, limit, self._clock.seconds(), now=timeout == 0, gone=gone)
        if timeout:
            waiter.timer = self._clock.callLater(timeout, self._time_out, group, waiter)
        group.waiters[waiter] = None
        group.due = True
        return waiter

    def is_waited_for_with_others(self, event_type: str) -> bool:
        """Whether a call waits for events of a type and of other types."""
        groups = self._of_type.get(event_type, ())
        return any(group.waiters and len(group.types) > 1 for group in groups)

    def wake(self, types: Iterable[str]) -> bool:
        """Let those ask who wait for any of `types`; False if there are none."""
        woken = False
        for each in types:
            for group in self._of_type.get(each, ()):
                if group.waiters:
                    group.due = woken = True
        return woken

    def wake_all(self) -> bool:
        """Let everybody ask; False if there are none."""
        return self.wake(self._of_type)

    def due(self) -> list[Group]:
        """Return the groups that are to ask now, with `asking` set."""
        found = [
            group
            for group in self._groups.values()
            if group.due and group.waiters and not group.asking
        ]
        if len(found) > 1:  # the one that waits for the longest time is served first
            found.sort(key=lambda group: group.first.number)
        now = self._clock.seconds()
        for group in found:
            group.due = False
            group.sent = now
            group.last = self._count
            group.full = group.pace.is_due(now)
            for waiter in group.waiters:
                group.asking += waiter.limit
                if group.asking >= MAX_MANY:
                    group.asking = MAX_MANY
                    break
        return found

    def starts(self, group: Group) -> list[Key]:
        """Return the key from which each type of a group is scanned."""
        if group.full:
            return [_START] * len(group.names)
        return [self._starts.get(each, _START) for each in group.names]

    def lower(self, event_type: str, priority: int = -1) -> None:
        """Forget where scans of a type begin if an event of `priority` may come before."""
        start = self._starts.get(event_type)
        if start is not None and priority < start[0]:
            del self._starts[event_type]

    def serve(
        self, group: Group, rows: list[Row], take: Callable[[Row], Event], *, alone: bool
    ) -> list[Row]:
        """Give the events of `rows` to the waiters; return those that are not wanted any more.

        take: makes the Event of a row.  alone: whether the statement had nothing to wait for, so
        that its time was that of the scan.
        """
        now = self._clock.seconds()
        rows.sort(key=_key)
        asked, group.asking = group.asking, 0
        if group.full and (rows or alone):
            group.pace.took(rows[0][-1] if rows else now - group.sent, now)
        starts = self._starts
        for row in reversed(rows):
            starts[row[1]] = (row[3], row[0])
        if len(rows) >= asked:
            group.due = True  # there may be more, for those who came meanwhile
        waiters, place = group.waiters, 0
        while waiters and place < len(rows):
            waiter, _ = waiters.popitem(last=False)
            found = rows[place : place + waiter.limit]
            place += len(found)
            self._stop(waiter)
            waiter.deferred.callback([take(row) for row in found])
        if len(rows) < asked:
            hurried = [each for each in waiters if each.now and each.number <= group.last]
            if rows or group.full:
                for waiter in hurried:
                    self._answer(group, waiter, [])
            elif hurried:  # only a scan from the start can tell that there is none
                group.pace = Pace()
                group.due = True
        return rows[place:]

    def unasked(self, group: Group) -> None:
        """Let a group ask again whose statement did nothing."""
        group.asking = 0
        group.due = True

    def expire(self, before: float, why: Callable[[], QueueUnavailable]) -> None:
        """Fail the calls made before a time."""
        error = None
        for group in list(self._groups.values()):
            for waiter in [each for each in group.waiters if each.at <= before]:
                error = error or why()
                self._fail(group, waiter, error)

    def oldest(self) -> float | None:
        """Return when the call was made that waits for the longest time."""
        times = [group.first.at for group in self._groups.values() if group.waiters]
        return min(times, default=None)

    def fail(self, error: QueueError) -> None:
        """Fail every call that waits."""
        for group in list(self._groups.values()):
            group.asking = 0
            self.fail_group(group, error)

    def fail_group(self, group: Group, error: QueueError) -> None:
        """Fail the calls of one group."""
        for waiter in list(group.waiters):
            self._fail(group, waiter, error)

    def _fail(self, group: Group, waiter: Waiter, error: QueueError) -> None:
        if self._leave(group, waiter):
            waiter.deferred.errback(error)

    def _answer(self, group: Group, waiter: Waiter, events: list[Event]) -> None:
        if self._leave(group, waiter):  # unless the one before made it go
            waiter.deferred.callback(events)

    def _time_out(self, group: Group, waiter: Waiter) -> None:
        waiter.timer = None
        self._answer(group, waiter, [])

    def _leave(self, group: Group, waiter: Waiter) -> bool:
        """Let a waiter go; False if it has gone."""
        if waiter not in group.waiters:
            return False
        del group.waiters[waiter]
        self._stop(waiter)
        return True

    def _stop(self, waiter: Waiter) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
            waiter.timer = None

    def _forget_unused(self) -> None:
        for types, group in list(self._groups.items()):
            if group.waiters or group.asking:
                continue
            del self._groups[types]
            for each in types:
                groups = self._of_type[each]
                groups.discard(group)
                if not groups:
                    del self._of_type[each]
                    self._starts.pop(each, None)


def _key(row: Row) -> Any:
    return row[3], row[0]
