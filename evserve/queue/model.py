"""What the core is made of: events, the clients that hold or want them, and the limits.

There may be millions of events, so an Event is a slotted record of shared or small values: about
200 bytes with its numbers, its body not counted.
"""

from collections import OrderedDict, deque
from enum import Enum, IntEnum
from heapq import heapify, heappop, heappush
from typing import Final

from attrs import Factory, define, frozen


class State(IntEnum):
    """Where an event is; the numbers are those in the store."""

    READY = 0
    RESERVED = 1
    DELAYED = 2
    BURIED = 3


class Move(IntEnum):
    """What can happen to an event."""

    PUT = 0
    POSTPONE = 1  # put or release with a delay
    RESERVE = 2
    DELETE = 3
    RELEASE = 4
    BURY = 5
    TOUCH = 6
    KICK = 7
    RETURN = 8  # the time to run or the delay is over, or the consumer has left


# `None` is an event that is not there: not yet, or no more.
MOVES: Final[dict[State | None, dict[Move, State | None]]] = {
    None: {
        Move.PUT: State.READY,
        Move.POSTPONE: State.DELAYED,
    },
    State.READY: {
        Move.RESERVE: State.RESERVED,
        Move.DELETE: None,
    },
    State.RESERVED: {
        Move.RELEASE: State.READY,
        Move.POSTPONE: State.DELAYED,
        Move.BURY: State.BURIED,
        Move.TOUCH: State.RESERVED,
        Move.RETURN: State.READY,
        Move.DELETE: None,
    },
    State.DELAYED: {
        Move.RESERVE: State.RESERVED,
        Move.KICK: State.READY,
        Move.RETURN: State.READY,
        Move.DELETE: None,
    },
    State.BURIED: {
        Move.RESERVE: State.RESERVED,
        Move.KICK: State.READY,
        Move.DELETE: None,
    },
}


URGENT: Final = 1024
# A consumer is not made to wait while one of its reservations ends within this many seconds.
SAFETY_MARGIN: Final = 1.0
# A heap with stale entries is rebuilt when they outnumber the others by this much.
SLACK: Final = 64


class Refusal(Enum):
    """Why a command did not do what was asked."""

    NOT_FOUND = b"NOT_FOUND\r\n"
    TIMED_OUT = b"TIMED_OUT\r\n"
    DEADLINE_SOON = b"DEADLINE_SOON\r\n"
    OUT_OF_MEMORY = b"OUT_OF_MEMORY\r\n"


@define(eq=False, repr=False, weakref_slot=False)
class Event:
    """A body of bytes on its way from a producer to a consumer.

    `due`, a time, ends the reservation or the delay; of a buried event it is when it was buried.
    `body` is None when only the store has it.
    """

    id: int
    tube: "Tube"
    pri: int
    delay: float
    ttr: int
    created: float
    size: int
    body: bytes | None
    key: str | None = None
    state: State = State.READY
    due: float = 0.0
    owner: "Client | None" = None
    reserves: int = 0
    timeouts: int = 0
    releases: int = 0
    buries: int = 0
    kicks: int = 0


@define(eq=False, repr=False, weakref_slot=False)
class Wait:
    """A client's unanswered reserve: how many events it takes, and until when it waits."""

    wanted: int
    until: float | None


@define(eq=False, repr=False)
class Client:
    """One connection, or one user of the embedded engine.

    It puts into `use` and reserves from `watch`. `deadlines` is a heap of (time, event id) of its
    reservations, some of them stale; `scheduled` belongs to Alarms.
    """

    use: "Tube"
    watch: "dict[str, Tube]"
    reserved: dict[int, Event] = Factory(dict)
    deadlines: list[tuple[float, int]] = Factory(list)
    scheduled: list[float] = Factory(list)
    wait: Wait | None = None
    closed: bool = False
    produces: bool = False
    works: bool = False

    def hold(self, event: Event) -> None:
        """Take `event`, whose `due` is set, among the reservations."""
        self.reserved[event.id] = event
        heappush(self.deadlines, (event.due, event.id))

    def let_go(self, event: Event) -> None:
        """Give `event` up; its deadline is forgotten lazily."""
        del self.reserved[event.id]
        if len(self.deadlines) > 2 * len(self.reserved) + SLACK:
            self.deadlines = [(held.due, held.id) for held in self.reserved.values()]
            heapify(self.deadlines)

    def soonest(self) -> Event | None:
        """Return the reserved event whose time to run ends first."""
        while self.deadlines:
            due, event_id = self.deadlines[0]
            event = self.reserved.get(event_id)
            if event is not None and event.due == due:
                return event
            heappop(self.deadlines)
        return None

    def deadline_soon(self, now: float) -> bool:
        """Whether a reservation is within its last second."""
        event = self.soonest()
        return event is not None and event.due - SAFETY_MARGIN <= now


@frozen
class Limits:
    """Bounds on what is kept; None is no bound. Sizes are in bytes, of bodies.

    resident: how much of the bodies may stay in memory beside the store; None keeps them all.
    """

    max_job_size: int = 65535
    max_bytes: int | None = None
    max_events: int | None = None
    max_tube_events: int | None = None
    resident: int | None = None


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
