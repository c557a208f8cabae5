"""What the core holds: states and their transitions, events, clients, tubes, limits.

There may be millions of events, so an Event is a slotted record of what every event has, and most
are nothing more: about 230 bytes with their places in the core, the body not counted.
"""

from collections import OrderedDict, deque
from enum import Enum, IntEnum
from functools import lru_cache
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


# Priorities, TTRs and sizes are mostly the same few numbers: one object for all that are equal.
shared: Final = lru_cache(maxsize=1024)(int)


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


# To look a member up in its class takes CPython 3.11 longer than a function call, and a command
# needs several, so what runs for each command uses these.
READY: Final = State.READY
RESERVED: Final = State.RESERVED
DELAYED: Final = State.DELAYED
BURIED: Final = State.BURIED
PUT: Final = Action.PUT
DELAY: Final = Action.DELAY
RESERVE: Final = Action.RESERVE
DELETE: Final = Action.DELETE
RELEASE: Final = Action.RELEASE
BURY: Final = Action.BURY
TOUCH: Final = Action.TOUCH
KICK: Final = Action.KICK

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
class Delivery:
    """The delay, the reservation and the counters of an event.

    `due` is when the reservation or the delay ends; for a buried event, when it was buried.
    `reserved_at` is when it was reserved the last time, since the start. All times are in seconds.
    """

    delay: float = 0
    due: float = 0.0
    owner: "Client | None" = None
    reserved_at: float = 0.0
    reserves: int = 0
    timeouts: int = 0
    releases: int = 0
    buries: int = 0
    kicks: int = 0


# That of every event that has only been put, as most of a large queue have. It never changes.
NO_DELIVERY: Final = Delivery()


@define(eq=False, repr=False, weakref_slot=False)
class Event:
    """A body of bytes on its way from a producer to a consumer (beanstalkd: job).

    `created` is in seconds. `body` is None when only the store has it. `delivery` is to be changed
    only where `own_delivery` was called before.
    """

    id: int
    tube: "Tube"
    pri: int
    ttr: int
    created: float
    size: int
    body: bytes | None = None
    key: str | None = None
    state: State = READY
    delivery: Delivery = NO_DELIVERY

    def own_delivery(self) -> Delivery:
        """Return a delivery that is this event's alone."""
        if self.delivery is NO_DELIVERY:
            self.delivery = Delivery()
        return self.delivery


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
        heappush(self.deadlines, (event.delivery.due, event.id))

    def remove_reserved(self, event: Event) -> None:
        """Remove `event` from the reservations; its deadline stays in the heap as stale."""
        del self.reserved[event.id]
        if len(self.deadlines) > 2 * len(self.reserved) + STALE_SLACK:
            self.deadlines = [(held.delivery.due, held.id) for held in self.reserved.values()]
            heapify(self.deadlines)

    def soonest(self) -> Event | None:
        """Return the reserved event whose TTR ends first."""
        while self.deadlines:
            due, event_id = self.deadlines[0]
            event = self.reserved.get(event_id)
            if event is not None and event.delivery.due == due:
                return event
            heappop(self.deadlines)
        return None

    def deadline_soon(self, now: float) -> bool:
        """Whether a reservation ends within SAFETY_MARGIN."""
        event = self.soonest()
        return event is not None and event.delivery.due - SAFETY_MARGIN <= now


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


@define(eq=False, repr=False)
class Tube:
    """A named queue (an event type): its events by state, its clients, its counters.

    `events` is the index of all tubes' events by id. `pending` counts puts that are not committed
    yet, `event_count` those that are, in any state. `waiting` holds clients in the order in which
    they began to wait.

    The ids of ready events are in `ready_ids`, a heap for each of `priorities`, which is a heap
    too: they are the same objects as in the index, so that an event costs its heap one pointer.
    `delay_heap` is of (time, id).

    Heaps are lazy: an event that leaves a state other than from the top of its heap leaves a
    stale entry behind, recognised by comparing it with the event. Stale entries are removed once
    they outnumber the live ones, so every operation is O(log n) on average.
    """

    name: str
    events: dict[int, Event]
    event_count: int = 0
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
    priorities: list[int] = Factory(list)
    ready_ids: dict[int, list[int]] = Factory(dict)
    stale_ready: int = 0
    delay_heap: list[tuple[float, int]] = Factory(list)
    arrivals: deque[int] = Factory(deque)

    @property
    def is_unused(self) -> bool:
        """Whether nothing refers to the tube, so that it can be deleted."""
        users = self.using or self.watching
        return not (users or self.pending or self.event_count or self.pause)

    def add_ready(self, event: Event) -> None:
        """File a ready event."""
        event.state = READY
        pri = event.pri
        self.ready += 1
        if pri < URGENT_PRIORITY:
            self.urgent += 1
        ids = self.ready_ids.get(pri)
        if ids is None:
            self.ready_ids[pri] = [event.id]
            heappush(self.priorities, pri)
        else:
            heappush(ids, event.id)

    def load_ready(self, pri: int, event_id: int) -> None:
        """Append a ready event to its heap; `finish_loading` must follow."""
        self.ready_ids.setdefault(pri, []).append(event_id)

    def finish_loading(self) -> None:
        """Order and count what was loaded: one pass, however many events."""
        for ids in self.ready_ids.values():
            heapify(ids)
        self.priorities = sorted(self.ready_ids)
        self.ready = sum(map(len, self.ready_ids.values()))
        urgent = (pri for pri in self.priorities if pri < URGENT_PRIORITY)
        self.urgent = sum(len(self.ready_ids[pri]) for pri in urgent)
        self.arrivals = deque(sorted(self.arrivals))
        self.event_count = len(self.arrivals)
        self.buried = OrderedDict(
            sorted(self.buried.items(), key=lambda item: item[1].delivery.due)
        )

    def first_ready(self) -> Event | None:
        """Return the next ready event."""
        events = self.events
        while self.ready:
            pri = self.priorities[0]
            ids = self.ready_ids[pri]
            while ids:
                event = events.get(ids[0])
                if event is not None and event.state is READY and event.pri == pri:
                    return event
                heappop(ids)
                self.stale_ready -= 1
            self._remove_first_priority()
        return None

    def pop_ready(self, event: Event) -> None:
        """Take out `event`, which `first_ready` has just returned; the caller changes its state.

        The last heap stays when it is empty: in a short queue every event would make it anew.
        """
        pri = event.pri
        self.ready -= 1
        if pri < URGENT_PRIORITY:
            self.urgent -= 1
        ids = self.ready_ids[pri]
        heappop(ids)
        if not ids and len(self.priorities) > 1:
            self._remove_first_priority()

    def _remove_first_priority(self) -> None:
        del self.ready_ids[heappop(self.priorities)]

    def remove_ready(self, event: Event) -> None:
        """Take out any event that was ready; the caller has changed its state."""
        self.ready -= 1
        if event.pri < URGENT_PRIORITY:
            self.urgent -= 1
        self.stale_ready += 1
        if self.stale_ready > self.ready + STALE_SLACK:
            self._remove_stale_ready()

    def _remove_stale_ready(self) -> None:
        events, heaps = self.events, self.ready_ids
        self.ready_ids = {}
        for pri, ids in heaps.items():
            live = {
                event_id
                for event_id in ids
                if (each := events.get(event_id)) is not None
                and each.state is READY
                and each.pri == pri
            }
            if live:
                self.ready_ids[pri] = sorted(live)
        self.priorities = sorted(self.ready_ids)
        self.stale_ready = 0

    def add_delayed(self, event: Event) -> None:
        """File an event whose delay ends at `delivery.due`."""
        event.state = DELAYED
        self.delayed += 1
        heappush(self.delay_heap, (event.delivery.due, event.id))

    def first_delayed(self) -> Event | None:
        """Return the event whose delay ends first."""
        while self.delayed:
            due, event_id = self.delay_heap[0]
            if (event := self._delayed_until(due, event_id)) is not None:
                return event
            heappop(self.delay_heap)
        return None

    def _delayed_until(self, due: float, event_id: int) -> Event | None:
        """Return the event `event_id` if its delay ends at `due`."""
        event = self.events.get(event_id)
        if event is None or event.state is not DELAYED or event.delivery.due != due:
            return None
        return event

    def remove_delayed(self) -> None:
        """Take out any event that was delayed; the caller has changed its state."""
        self.delayed -= 1
        if len(self.delay_heap) > 2 * self.delayed + STALE_SLACK:
            live = {entry for entry in self.delay_heap if self._delayed_until(*entry) is not None}
            self.delay_heap = sorted(live)

    def add_buried(self, event: Event) -> None:
        """File an event behind those buried before."""
        event.state = BURIED
        self.buried[event.id] = event

    def first_buried(self) -> Event | None:
        """Return the event that was buried first."""
        return next(iter(self.buried.values()), None)

    def add_arrival(self, event_id: int) -> None:
        """Count an event, which the index has, and note its arrival.

        That is for the age of the oldest event and for truncation.
        """
        self.event_count += 1
        self.arrivals.append(event_id)
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
