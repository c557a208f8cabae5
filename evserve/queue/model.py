"""What the core is made of: events, the clients that hold or want them, and the limits.

There may be millions of events, so an Event is a slotted record of shared or small values: about
200 bytes with its numbers, its body not counted.
"""

from enum import Enum
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from attrs import Factory, define, frozen

from evserve.queue.states import State


if TYPE_CHECKING:
    from evserve.queue.tube import Tube

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
