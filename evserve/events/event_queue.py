"""EventQueue: what producers and consumers can ask of a queue, whichever engine serves it.

Delivery is at least once. An event lives until it is acknowledged: a consumer that dies, loses
its connection or overruns the TTR gives it back, and it is delivered again. So handlers must
tolerate an event that comes twice.
"""

from collections.abc import Callable, Collection
from enum import Flag, auto
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, fail

from evserve.events.errors import QueueError
from evserve.events.event import (
    DEFAULT_PRIORITY,
    DEFAULT_TTR,
    Event,
    Handled,
    State,
    Stored,
)


P = ParamSpec("P")
T = TypeVar("T")


def never_raising(method: Callable[P, Deferred[T]]) -> Callable[P, Deferred[T]]:
    """Decorate a method of an engine: a QueueError that it raises becomes a failed Deferred."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        try:
            return method(*args, **kwargs)
        except QueueError as error:
            return fail(error)

    return call


class Capability(Flag):
    """Features that an engine may lack; their methods then fail with Unsupported.

    A server behind the engine may still lack what evserve adds to beanstalkd: KEYS, TRUNCATE,
    FAN_OUT, SEQUENCES, HISTORY and DRAIN fail with Unsupported there.
    """

    DURABLE = auto()
    """An event whose `put` has fired survives the end of this process."""

    LIST_TYPES = auto()
    """`types` works, so consumers can follow patterns such as `image.*`."""

    FAN_OUT = auto()
    """`bind`, `unbind` and `bindings` work."""

    KEYS = auto()
    """`put` takes a `key`."""

    TRUNCATE = auto()
    """`truncate` works."""

    SEQUENCES = auto()
    """`advance` and `position` work, so each tick of a schedule can be put exactly once."""

    HISTORY = auto()
    """`ack` and `bury` take `keep`, and `history` lists what was kept."""

    TRANSACTIONS = auto()
    """`put` takes a `connection`, and `Event.transaction` works."""

    SHARED = auto()
    """Other processes use the queue at the same time, so that pauses and drains reach them."""

    DRAIN = auto()
    """`drain` works."""


@frozen
class Depth:
    """How many events of one type are in each state.

    paused: seconds until the type's pause ends.
    """

    ready: int = 0
    reserved: int = 0
    delayed: int = 0
    buried: int = 0
    paused: float = 0


class EventQueue(Protocol):
    """A queue of events, to be used from the reactor's thread.

    No method but `open` raises: every failure comes through the Deferred, as a QueueError. Any
    call may fail with QueueUnavailable (a file cannot be opened, there is no connection, or it
    was lost before the reply, so that the outcome is unknown) or QueueClosed; each method names
    its other errors. While there is no connection a call waits for one, a few seconds at most.
    Nothing is sent twice.

    Puts take effect in the order of their calls, and a waiting `reserve` delays no other call; for
    any other order, wait for the first call's Deferred before making the second. Delays are in
    seconds; an engine that counts whole seconds rounds them up.

    Arguments are checked in event.py for all engines: a number of any class counts as that number,
    and anything else of a wrong type or size fails with BadEvent, before anything is done.
    """

    @property
    def capabilities(self) -> Capability:
        """The optional features that this engine has."""

    def open(self) -> None:
        """Open a queue that is a file, as the running reactor or the first call does otherwise.

        A service calls it in `startService`, to fail then; a program before it locks the file in a
        transaction, if the reactor does not run yet. Raises QueueError.
        """

    def put(
        self,
        event_type: str,
        body: bytes,
        *,
        priority: int = DEFAULT_PRIORITY,
        delay: float = 0,
        ttr: int = DEFAULT_TTR,
        key: str | None = None,
        connection: Any = None,
    ) -> Deferred[str]:
        """Store an event; fires with its id once it is as durable as the engine makes it.

        priority: 0 (most urgent) to MAX_NUMBER.  delay: seconds before it is ready.  ttr: whole
        seconds, at least 1.

        key: a name, valid like a type, under which the type has one event at most. While it has
        one, in any state, nothing is stored and the result is that event's id.

        connection: the caller's connection to the database that the queue is in. The event is
        then part of the transaction that is open there: it exists exactly if that commits (see
        transaction.py).

        Fails with BadEvent, QueueFull, or Unsupported without KEYS or TRANSACTIONS.
        """

    def reserve(
        self, types: Collection[str], timeout: float | None = None
    ) -> Deferred[Event | None]:
        """Reserve the next ready event of any of `types`, which are names, not patterns.

        The next event is the one with the lowest priority, then the oldest, over all of `types`.
        The caller must settle the event, with `ack`, `retry` or `bury`, within its TTR, or
        `touch` it.

        timeout: seconds to wait for an event; the result is None when there was none. 0 does not
        wait, None waits as long as the connection lives. On one connection, waiting callers are
        served first come, first served.

        Cancelling the Deferred ends the wait; an event that was already on its way is ready again.
        Fails with BadEvent for an invalid or empty collection of types, or an invalid timeout.
        """

    def reserve_many(
        self, types: Collection[str], limit: int, timeout: float | None = None
    ) -> Deferred[list[Event]]:
        """Reserve up to `limit` events, 1 to 1,000, that are ready when the first one is.

        Like `reserve` otherwise; the list is empty when there was none. Each event is settled by
        itself.
        """

    def reserve_event(self, event_id: str) -> Deferred[Event | None]:
        """Reserve one event that is ready, delayed or buried, before its turn; None if it is not.

        The state in which it was is forgotten.
        """

    def ack(self, event: Event, *, result: bytes = b"", keep: float = 0) -> Deferred[None]:
        """Remove the reserved `event`: the work is done.

        keep: seconds that the history keeps the event, with `result`, up to MAX_RESULT bytes; 0
        keeps nothing. Both happen in one commit, but an engine whose disk is full may keep
        nothing, so that what is done can leave the queue.

        An event that its transaction has removed (see Event.transaction) need not be acknowledged:
        this only keeps it, once, and does nothing without `keep`.

        Fails with NotReserved, BadEvent, Unsupported with `keep` but without HISTORY, or with
        QueueFull if the queue has no room even for that; the event is then still reserved, or can
        still be kept.
        """

    def retry(self, event: Event, delay: float = 0) -> Deferred[None]:
        """Give the reserved `event` back, to be ready after `delay` seconds.

        It keeps its place by priority and age. Fails with NotReserved or BadEvent.
        """

    def bury(self, event: Event, reason: str, *, keep: float = 0) -> Deferred[None]:
        """Set the reserved `event` aside until an operator kicks it.

        keep: seconds that the history keeps a copy with `reason`, as in `ack`.

        `reason`, one line, is kept in a record, an event of the type ERRORS (see error_record). It
        is put first, so that no event is buried without one. Burying an event of the type ERRORS
        leaves no record: a handler of records that fails would make them endlessly.
        Fails with NotReserved, BadEvent, Unsupported as `ack` does, or QueueFull if there was no
        room for the record.
        """

    def touch(self, event: Event) -> Deferred[None]:
        """Restart the TTR of the reserved `event`. Fails with NotReserved."""

    def kick(self, event_type: str, limit: int) -> Deferred[int]:
        """Make up to `limit` buried events of a type ready; delayed ones if none is buried.

        The oldest come first; the result is their number. Fails with BadEvent.
        """

    def peek(self, event_type: str, state: State = State.READY) -> Deferred[Stored | None]:
        """Show the next event of a type in READY, DELAYED or BURIED; None if there is none.

        Next is the one that would be reserved, whose delay ends, or that would be kicked. Fails
        with BadEvent.
        """

    def find(self, event_id: str) -> Deferred[Stored | None]:
        """Show the event with that id; None if there is none."""

    def delete(self, event_id: str) -> Deferred[bool]:
        """Remove an event; False if there is none, or a consumer has reserved it."""

    def truncate(self, event_type: str) -> Deferred[int]:
        """Remove the events of a type that are not reserved; the result is their number.

        Fails with BadEvent, or Unsupported without TRUNCATE.
        """

    def pause(self, event_type: str, seconds: int) -> Deferred[None]:
        """Reserve nothing from a type for so many seconds; 0 ends a pause. Fails with BadEvent."""

    def drain(self, *, on: bool) -> Deferred[None]:
        """Refuse every put with QueueFull from now on, or accept them again.

        What is in the queue can still be reserved and settled. Fails with Unsupported without
        DRAIN.
        """

    def depth(self, event_type: str) -> Deferred[Depth]:
        """Count the events of a type; zeros for a type without events. Fails with BadEvent."""

    def types(self) -> Deferred[list[str]]:
        """List the types that exist, at least those with events, in no particular order.

        Fails with Unsupported without LIST_TYPES.
        """

    def bind(self, source: str, target: str) -> Deferred[None]:
        """From now on, copy every event put under the type `source` to `target` as well.

        The binding is as durable as the events; binding twice has no further effect. Copies go
        one step: an event copied to `target` is not copied on from there. Fails with BadEvent, or
        Unsupported without FAN_OUT.
        """

    def unbind(self, source: str, target: str) -> Deferred[None]:
        """End a binding; it is no error if there is none. Fails like `bind`."""

    def bindings(self) -> Deferred[list[tuple[str, str]]]:
        """List the bindings, as pairs of source and target, sorted."""

    def position(self, sequence: str) -> Deferred[int | None]:
        """Return the number that `sequence` has reached; None if it was never advanced."""

    def advance(
        self,
        sequence: str,
        number: int,
        event_type: str | None = None,
        body: bytes = b"",
        *,
        priority: int = DEFAULT_PRIORITY,
        ttr: int = DEFAULT_TTR,
    ) -> Deferred[bool]:
        """Move `sequence` forward to `number` and, in the same commit, put an event.

        The result is False, and nothing is done, if the sequence has reached `number` before. So
        of any number of processes that put the same numbered event, one succeeds, and a call whose
        outcome is unknown may be repeated. Without `event_type` nothing is put.

        sequence: a name, valid like a type.  number: 0 to 2**63 - 1.  Fails with BadEvent,
        QueueFull, or Unsupported without SEQUENCES.
        """

    def history(self, event_type: str | None = None, limit: int = 100) -> Deferred[list[Handled]]:
        """List what `keep` kept, of one type or of all, the last settled first.

        limit: 1 to MAX_MANY.  An engine may list fewer, but one at least, when their bodies
        and results are more than 4 MiB. Fails with BadEvent, or Unsupported without HISTORY.
        """

    def close(self) -> Deferred[None]:
        """Give back reserved events, end every wait with QueueClosed, and close the engine.

        Closing twice has no further effect.
        """
