"""When the core wants to be called next: one heap of times for clients and tubes.

An owner is in the heap only for times earlier than all those it already has there: a consumer
that reserves and deletes a million events within one time to run costs one entry, not a million.
A ring says "look at your deadlines", no more, so an entry that has become pointless does no harm.
"""

from heapq import heapify, heappop, heappush
from itertools import count
from typing import TypeAlias

from attrs import Factory, define

from evserve.queue.model import SLACK, Client
from evserve.queue.tube import Tube


Owner: TypeAlias = Client | Tube


@define(eq=False, repr=False)
class Alarms:
    """A heap of (time, tie-breaker, owner)."""

    _heap: list[tuple[float, int, Owner]] = Factory(list)
    _serial: "count[int]" = Factory(count)
    _dead: int = 0

    @property
    def next(self) -> float | None:
        """The earliest time at which somebody is to be rung."""
        return self._heap[0][0] if self._heap else None

    def set(self, owner: Owner, when: float) -> None:
        """Ring `owner` at `when` or before."""
        scheduled = owner.scheduled
        if scheduled and scheduled[-1] <= when:
            return
        scheduled.append(when)
        heappush(self._heap, (when, next(self._serial), owner))

    def pop_due(self, now: float, most: int) -> list[Owner]:
        """Take out those to ring by `now`, each once, at most `most` entries at a time."""
        due: dict[Owner, None] = {}
        while self._heap and self._heap[0][0] <= now and most:
            owner = heappop(self._heap)[2]
            most -= 1
            if owner.scheduled:
                owner.scheduled.pop()
                due[owner] = None
            else:
                self._dead -= 1
        return list(due)

    def forget(self, owner: Owner) -> None:
        """Stop ringing `owner`; its entries are swept out when they are many."""
        self._dead += len(owner.scheduled)
        owner.scheduled = []
        if 2 * self._dead > len(self._heap) + SLACK:
            self._heap = [entry for entry in self._heap if entry[2].scheduled]
            heapify(self._heap)
            self._dead = 0
