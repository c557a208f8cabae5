"""One tube: its events by state, who uses and watches it, and what was counted.

Heaps are lazy: an event that leaves a state other than by the top of its heap leaves a stale
entry behind, recognised by comparing it with the event. Stale entries are swept out once they
outnumber the live ones, so every operation stays O(log n) on average.
"""

from collections import OrderedDict, deque
from heapq import heapify, heappop, heappush
from typing import Final

from attrs import Factory, define

from evserve.queue.model import SLACK, URGENT, Client, Event
from evserve.queue.states import State


# A ready event's place in its heap is one integer, (priority << 64) + id: half the memory of a
# tuple, compared in one step, and invisible to the garbage collector.
ID_BITS: Final = 64
ID_MASK: Final = (1 << ID_BITS) - 1


@define(eq=False, repr=False)
class Tube:
    """A named queue. `events` is the index of all tubes' events by id."""

    name: str
    events: dict[int, Event]
    ready: int = 0
    urgent: int = 0
    reserved: int = 0
    delayed: int = 0
    buried: OrderedDict[int, Event] = Factory(OrderedDict)
    # Puts that are not committed yet.
    pending: int = 0
    keys: dict[str, int] = Factory(dict)
    waiting: OrderedDict[Client, None] = Factory(OrderedDict)
    using: int = 0
    watching: int = 0
    pause: int = 0
    paused_until: float = 0.0
    total: int = 0
    deletes: int = 0
    pauses: int = 0
    scheduled: list[float] = Factory(list)
    ready_heap: list[int] = Factory(list)
    delay_heap: list[tuple[float, int]] = Factory(list)
    arrivals: deque[int] = Factory(deque)

    @property
    def alive(self) -> int:
        """How many events are in the tube, whatever their state."""
        return self.ready + self.reserved + self.delayed + len(self.buried)

    @property
    def unused(self) -> bool:
        """Whether nothing refers to the tube, so that it may go."""
        return not (self.using or self.watching or self.pending or self.alive)

    def add_ready(self, event: Event) -> None:
        """File a ready event."""
        event.state = State.READY
        self.ready += 1
        if event.pri < URGENT:
            self.urgent += 1
        heappush(self.ready_heap, (event.pri << ID_BITS) + event.id)

    @staticmethod
    def place(event: Event) -> int:
        """Return the place of a ready event in the heap."""
        return (event.pri << ID_BITS) + event.id

    def count_ready(self) -> None:
        """Make a heap of the places that were appended to `ready_heap`, and count them."""
        heapify(self.ready_heap)
        self.ready = len(self.ready_heap)
        self.urgent = sum(place >> ID_BITS < URGENT for place in self.ready_heap)

    def first_ready(self) -> int:
        """Return the place of the next ready event: smaller is sooner, across all tubes.

        There must be one.
        """
        heap = self.ready_heap
        while not self._is_live(heap[0]):
            heappop(heap)
        return heap[0]

    def next_ready(self) -> Event | None:
        """Return the next ready event."""
        return self.events[self.first_ready() & ID_MASK] if self.ready else None

    def pop_ready(self) -> Event:
        """Take the next ready event out; there must be one."""
        event = self.events[self.first_ready() & ID_MASK]
        heappop(self.ready_heap)
        self.ready -= 1
        if event.pri < URGENT:
            self.urgent -= 1
        return event

    def drop_ready(self, event: Event) -> None:
        """Take out a ready event that need not be the next; its caller changes its state."""
        self.ready -= 1
        if event.pri < URGENT:
            self.urgent -= 1
        if len(self.ready_heap) > 2 * self.ready + SLACK:
            live = {place for place in self.ready_heap if self._is_live(place)}
            live.discard((event.pri << ID_BITS) + event.id)
            self.ready_heap = list(live)
            heapify(self.ready_heap)

    def _is_live(self, place: int) -> bool:
        event = self.events.get(place & ID_MASK)
        return event is not None and event.state is State.READY and event.pri == place >> ID_BITS

    def add_delayed(self, event: Event) -> None:
        """File an event whose delay ends at `event.due`."""
        event.state = State.DELAYED
        self.delayed += 1
        heappush(self.delay_heap, (event.due, event.id))

    def first_delayed(self) -> Event | None:
        """Return the event whose delay ends first."""
        while self.delayed:
            due, event_id = self.delay_heap[0]
            event = self.events.get(event_id)
            if event is not None and event.state is State.DELAYED and event.due == due:
                return event
            heappop(self.delay_heap)
        return None

    def drop_delayed(self, event: Event) -> None:
        """Take a delayed event out; its caller changes its state."""
        self.delayed -= 1
        if len(self.delay_heap) > 2 * self.delayed + SLACK:
            events = self.events
            live = {
                (due, event_id)
                for due, event_id in self.delay_heap
                if (each := events.get(event_id)) is not None
                and each is not event
                and each.state is State.DELAYED
                and each.due == due
            }
            self.delay_heap = list(live)
            heapify(self.delay_heap)

    def add_buried(self, event: Event) -> None:
        """File an event behind those buried before."""
        event.state = State.BURIED
        self.buried[event.id] = event

    def first_buried(self) -> Event | None:
        """Return the event that was buried first."""
        return next(iter(self.buried.values()), None)

    def arrive(self, event: Event) -> None:
        """Remember the order of arrival, for the age of the oldest and for truncation."""
        self.arrivals.append(event.id)
        if len(self.arrivals) > 2 * self.alive + SLACK:
            self.arrivals = deque(each for each in self.arrivals if each in self.events)

    def oldest(self) -> Event | None:
        """Return the event that has been here longest."""
        while self.arrivals:
            event = self.events.get(self.arrivals[0])
            if event is not None:
                return event
            self.arrivals.popleft()
        return None
