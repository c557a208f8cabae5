"""EventQueue: what a producer or consumer may ask of a queue, whichever engine answers.

Delivery is at least once. An event lives until it is acknowledged: a consumer that dies, loses
its connection or overruns the TTR gives it back, and it is delivered again. So handlers must be
able to see an event twice.
"""

from collections.abc import Collection
from enum import Flag, auto
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

from evserve.events.event import DEFAULT_PRIORITY, DEFAULT_TTR, Event


class Capability(Flag):
    """What not every engine can do. Asking for what it lacks fails with Unsupported."""

    DURABLE = auto()
    """An event whose `put` was answered survives the end of this process."""

    LIST_TYPES = auto()
    """`types` works, so consumers can follow patterns such as `image.*`."""

    FAN_OUT = auto()
    """`bind` and `unbind` work. A server may still lack them; then they say Unsupported."""


@frozen
class Depth:
    """How many events of one type are in each state."""

    ready: int = 0
    reserved: int = 0
    delayed: int = 0
    buried: int = 0


class EventQueue(Protocol):
    """A queue of events, used from the reactor's thread.

    No method raises: every failure comes through the Deferred, as a QueueError. Any call may fail
    with QueueUnavailable (no connection, or lost before the reply: nobody knows whether it
    happened) and QueueClosed; the others are named at each method. While there is no connection a
    call waits for one, a few seconds at most. Nothing is sent twice.

    Puts take effect in the order they were made, and a waiting `reserve` holds up nobody; for any
    other order, wait for the first call's Deferred before making the second. Delays are in
    seconds; an engine that counts whole seconds rounds them up.
    """

    @property
    def capabilities(self) -> Capability:
        """What this engine can do beyond the rest of this class."""
        ...

    def put(
        self,
        event_type: str,
        body: bytes,
        *,
        priority: int = DEFAULT_PRIORITY,
        delay: float = 0,
        ttr: int = DEFAULT_TTR,
    ) -> Deferred[str]:
        """Store an event; the result is its id, once it is as safe as the engine makes it.

        priority: 0 (most urgent) to MAX_NUMBER.  delay: seconds before it is ready.  ttr: whole
        seconds, at least 1.  Fails with BadEvent or QueueFull.
        """
        ...

    def reserve(
        self, types: Collection[str], timeout: float | None = None
    ) -> Deferred[Event | None]:
        """Take the next ready event of any of `types`, which are names, not patterns.

        Next is the lowest priority, then the oldest, over all of `types`. The caller must settle
        the event, with `ack`, `retry` or `bury`, within its TTR, or `touch` it.

        timeout: seconds to wait for an event; the result is None when there was none. 0 answers
        at once, None waits as long as the connection lives. Waiting callers are served first
        come, first served, as far as one connection can see.

        Cancelling the Deferred ends the wait; an event that was just coming is ready again.
        Fails with BadEvent for a bad or empty set of types.
        """
        ...

    def ack(self, event: Event) -> Deferred[None]:
        """Remove the reserved `event`: the work is done. Fails with NotReserved."""
        ...

    def retry(self, event: Event, delay: float = 0) -> Deferred[None]:
        """Give the reserved `event` back, to be ready after `delay` seconds.

        It keeps its place by priority and age. Fails with NotReserved or BadEvent.
        """
        ...

    def bury(self, event: Event, reason: str) -> Deferred[None]:
        """Set the reserved `event` aside until somebody kicks it.

        `reason`, one line, is kept as an event of type ERRORS (see error_record), which is put
        first: no event is buried without one. Burying an event of that very type leaves no
        record, or a failing reader of the records would make them without end.
        Fails with NotReserved, or QueueFull if the record found no room.
        """
        ...

    def touch(self, event: Event) -> Deferred[None]:
        """Begin the TTR of the reserved `event` again, now. Fails with NotReserved."""
        ...

    def kick(self, event_type: str, limit: int) -> Deferred[int]:
        """Make up to `limit` buried events of a type ready again; if none is, delayed ones.

        The result says how many, oldest first. Fails with BadEvent.
        """
        ...

    def depth(self, event_type: str) -> Deferred[Depth]:
        """Count the events of a type; zeros for one that nobody used. Fails with BadEvent."""
        ...

    def types(self) -> Deferred[list[str]]:
        """List the types that exist, at least those with events, in no particular order.

        Fails with Unsupported without LIST_TYPES.
        """
        ...

    def bind(self, source: str, target: str) -> Deferred[None]:
        """From now on, copy every event put under the type `source` to `target` as well.

        The binding is as durable as the events, and making it twice is making it once. Copies go
        one step: an event copied to `target` is not copied on from there. Fails with BadEvent, or
        Unsupported without FAN_OUT.
        """
        ...

    def unbind(self, source: str, target: str) -> Deferred[None]:
        """End a binding; no error if there is none. Fails like `bind`."""
        ...

    def close(self) -> Deferred[None]:
        """Give back what is reserved, end every wait with QueueClosed, let go of the engine.

        Closing twice is closing once.
        """
        ...
