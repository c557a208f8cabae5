"""What the core holds: states and their transitions, events, clients, tubes, limits.

There may be millions of events, so an Event is a slotted record of shared or small values: about
200 bytes, its body not counted.
"""

from collections import OrderedDict, deque
from enum import Enum, IntEnum
from heapq import heapify, heappop, heappush
from typing import Final

from attrs import Factory, define, frozen

from evserve.events import State


# A priority below this counts as urgent in the statistics, as in beanstalkd.
URGENT_PRIORITY: Final = 1024
# A consumer may not wait while one of its reservations ends within this many seconds.
SAFETY_MARGIN: Final = 1.0
# A heap with stale entries is rebuilt when they outnumber the others by this much.
STALE_SLACK: Final = 64
# SQLite's own limit on a row is 10**9 bytes.
MAX_JOB_SIZE: Final = 512 * 1024 * 1024
# Bytes of bodies that stay in memory beside a store on disk, so that it need not be read.
RESIDENT_BYTES: Final = 64 * 1024 * 1024


class Action(IntEnum):
    """What can happen to an event."""

    PUT = 0
    DELAY = 1  # put or release with a delay
    RESERVE = 2
    DELETE = 3
    RELEASE = 4
    BURY = 5
    TOUCH = 6
    KICK = 7
    RETURN = 8  # the TTR or the delay ends, or the consumer disconnects


# The life of an event. `None` is an event that does not exist: not yet, or no longer. An event
# whose change is not committed yet is RESERVED without an owner, so that no client sees or takes
# it.
TRANSITIONS: Final[dict[State | None, dict[Action, State | None]]] = {
    None: {Action.PUT: State.READY, Action.DELAY: State.DELAYED},
    State.READY: {Action.RESERVE: State.RESERVED, Action.DELETE: None},
    State.RESERVED: {
        Action.RELEASE: State.READY,
        Action.DELAY: State.DELAYED,
        Action.BURY: State.BURIED,
        Action.TOUCH: State.RESERVED,
        Action.RETURN: State.READY,
        Action.DELETE: None,
    },
    State.DELAYED: {
        Action.RESERVE: State.RESERVED,
        Action.KICK: State.READY,
        Action.RETURN: State.READY,
        Action.DELETE: None,
    },
    State.BURIED: {Action.RESERVE: State.RESERVED, Action.KICK: State.READY, Action.DELETE: None},
}


class Refusal(Enum):
    """Why a command did not do what it asked for; the value is its reply on the wire."""

    NOT_FOUND = b"NOT_FOUND\r\n"
    TIMED_OUT = b"TIMED_OUT\r\n"
    DEADLINE_SOON = b"DEADLINE_SOON\r\n"
    OUT_OF_MEMORY = b"OUT_OF_MEMORY\r\n"
    INTERNAL_ERROR = b"INTERNAL_ERROR\r\n"


@define(eq=False, repr=False, weakref_slot=False)
class Event:
    """A body of bytes on its way from a producer to a consumer (beanstalkd: job).

    `due` is when the reservation or the delay ends; for a buried event, when it was buried.
    `reserved_at` is when it was reserved the last time, since the start. All times are in seconds.
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
    reserved_at: float = 0.0


@define(eq=False, repr=False, weakref_slot=False)
class Wait:
    """A client's unanswered reserve: how many events it takes, and until when it waits."""

    max_events: int
    until: float | None


@define(eq=False, repr=False)
class Client:
    """One connection, or one user of an embedded queue (beanstalkd: conn).

    It puts into `use` and reserves from `watch`. `deadlines` is a heap of (time, event id) of its
    reservations, some of them stale; `scheduled` belongs to DeadlineHeap.
    """

    use: "Tube"
    watch: "dict[str, Tube]"
    reserved: dict[int, Event] = Factory(dict)
    deadlines: list[tuple[float, int]] = Factory(list)
    scheduled: list[float] = Factory(list)
    wait: Wait | None = None
    closed: bool = False
    is_producer: bool = False
    is_worker: bool = False

    def add_reserved(self, event: Event) -> None:
        """Add `event`, whose `due` is set, to the reservations; or its new `due`."""
        self.reserved[event.id] = event
        heappush(self.deadlines, (event.due, event.id))

    def remove_reserved(self, event: Event) -> None:
        """Remove `event` from the reservations; its deadline stays in the heap as stale."""
        del self.reserved[event.id]
        if len(self.deadlines) > 2 * len(self.reserved) + STALE_SLACK:
            self.deadlines = [(held.due, held.id) for held in self.reserved.values()]
            heapify(self.deadlines)

    def soonest(self) -> Event | None:
        """Return the reserved event whose TTR ends first."""
        while self.deadlines:
            due, event_id = self.deadlines[0]
            event = self.reserved.get(event_id)
            if event is not None and event.due == due:
                return event
            heappop(self.deadlines)
        return None

    def deadline_soon(self, now: float) -> bool:
        """Whether a reservation ends within SAFETY_MARGIN."""
        event = self.soonest()
        return event is not None and event.due - SAFETY_MARGIN <= now


@frozen
class Limits:
    """Bounds on what the queue keeps; None is no bound. Sizes are in bytes, of bodies.

    resident: how much of the bodies stays in memory beside the store; None keeps all of them.
    """

    max_job_size: int = 65535
    max_bytes: int | None = None
    max_events: int | None = None
    max_tube_events: int | None = None
    resident: int | None = None


# The key of a ready event in its heap is one integer, (priority << 64) + id: half the memory of
# a tuple, compared in one step, and invisible to the garbage collector.
_ID_BITS: Final = 64
_ID_MASK: Final = (1 << _ID_BITS) - 1


@define(eq=False, repr=False)
class Tube:
    """A named queue (an event type): its events by state, its clients, its counters.

    `events` is the index of all tubes' events by id. `pending` counts puts that are not committed
    yet, `waiting` holds clients in the order in which they began to wait.

    Heaps are lazy: an event that leaves a state other than from the top of its heap leaves a
    stale entry behind, recognised by comparing it with the event. Stale entries are removed once
    they outnumber the live ones, so every operation is O(log n) on average.
    """

    name: str
    events: dict[int, Event]
    ready: int = 0
    urgent: int = 0
    reserved: int = 0
    delayed: int = 0
    buried: OrderedDict[int, Event] = Factory(OrderedDict)
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
    def event_count(self) -> int:
        """How many committed events are in the tube, in any state."""
        return self.ready + self.reserved + self.delayed + len(self.buried)

    @property
    def is_unused(self) -> bool:
        """Whether nothing refers to the tube, so that it can be deleted."""
        users = self.using or self.watching
        return not (users or self.pending or self.event_count or self.pause)

    def add_ready(self, event: Event) -> None:
        """File a ready event."""
        event.state = State.READY
        self.ready += 1
        if event.pri < URGENT_PRIORITY:
            self.urgent += 1
        heappush(self.ready_heap, (event.pri << _ID_BITS) + event.id)

    def load_ready(self, event: Event) -> None:
        """Append a ready event to the heap; `build_ready_heap` must follow."""
        self.ready_heap.append((event.pri << _ID_BITS) + event.id)

    def build_ready_heap(self) -> None:
        """Order and count what `load_ready` appended: one pass, however many events."""
        heapify(self.ready_heap)
        self.ready = len(self.ready_heap)
        self.urgent = sum(key >> _ID_BITS < URGENT_PRIORITY for key in self.ready_heap)

    def first_ready_key(self) -> int:
        """Return the heap key of the next ready event: smaller is sooner, across all tubes.

        There must be one.
        """
        heap = self.ready_heap
        while not self._is_live(heap[0]):
            heappop(heap)
        return heap[0]

    def first_ready(self) -> Event | None:
        """Return the next ready event."""
        return self.events[self.first_ready_key() & _ID_MASK] if self.ready else None

    def pop_ready(self) -> Event:
        """Take out the next ready event; there must be one."""
        event = self.events[self.first_ready_key() & _ID_MASK]
        heappop(self.ready_heap)
        self.ready -= 1
        if event.pri < URGENT_PRIORITY:
            self.urgent -= 1
        return event

    def remove_ready(self, event: Event) -> None:
        """Take out any ready event; the caller changes its state."""
        self.ready -= 1
        if event.pri < URGENT_PRIORITY:
            self.urgent -= 1
        if len(self.ready_heap) > 2 * self.ready + STALE_SLACK:
            live = {key for key in self.ready_heap if self._is_live(key)}
            live.discard((event.pri << _ID_BITS) + event.id)
            self.ready_heap = list(live)
            heapify(self.ready_heap)

    def _is_live(self, key: int) -> bool:
        event = self.events.get(key & _ID_MASK)
        return event is not None and event.state is State.READY and event.pri == key >> _ID_BITS

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

    def remove_delayed(self, event: Event) -> None:
        """Take out any delayed event; the caller changes its state."""
        self.delayed -= 1
        if len(self.delay_heap) > 2 * self.delayed + STALE_SLACK:
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

    def add_arrival(self, event: Event) -> None:
        """Note the order of arrival, for the age of the oldest event and for truncation."""
        self.arrivals.append(event.id)
        if len(self.arrivals) > 2 * self.event_count + STALE_SLACK:
            self.arrivals = deque(each for each in self.arrivals if each in self.events)

    def oldest(self) -> Event | None:
        """Return the event that was put first."""
        while self.arrivals:
            event = self.events.get(self.arrivals[0])
            if event is not None:
                return event
            self.arrivals.popleft()
        return None
