"""Where events survive: the seam between the engine and what keeps its journal.

The engine hands batches to a Writer, one at a time, and reads bodies back by id. A Store is
called by the writer only, except for `body`.
"""

from collections.abc import Callable
from enum import Enum
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Protocol, TypeAlias

from attrs import Factory, define, field, frozen
from twisted.logger import Logger

from evserve.queue.core import Book, Change
from evserve.queue.model import Event, Move, State


class Outcome(Enum):
    """What became of a change."""

    COMMITTED = 1
    FULL = 2  # rolled back for want of space
    BROKEN = 3  # the store failed and takes no more


class Ticket(Protocol):
    """Somebody who waits for a commit."""

    def settle(self, outcome: Outcome) -> None:
        """Hear what became of it; called once, in the order in which tickets were staged."""
        ...


# id, tube, state, priority, delay, ttr, created, due, key, body
PutRow: TypeAlias = tuple[int, str, int, int, float, int, float, float, str | None, bytes | None]
# id, state, priority, delay, due, reserves, timeouts, releases, buries, kicks
UpdateRow: TypeAlias = tuple[int, int, int, float, float, int, int, int, int, int]


@frozen
class Binding:
    """A binding made (`bound`) or undone."""

    source: str
    target: str
    bound: bool


@frozen
class Written:
    """What became of a batch: of its puts, and of everything else in it."""

    puts: Outcome
    rest: Outcome
    seconds: float = 0.0


Entry: TypeAlias = tuple[Ticket, tuple[Change, ...]]

# One commit holds about as many rows; more would make those at its beginning wait for nothing.
BATCH_ROWS: Final = 256


@define(eq=False, repr=False)
class Batch:
    """The rows of one commit, and the tickets in the order in which they are settled."""

    entries: list[Entry] = Factory(list)
    puts: list[PutRow] = Factory(list)
    updates: list[UpdateRow] = Factory(list)
    deletes: list[int] = Factory(list)
    bindings: list[Binding] = Factory(list)

    @property
    def rows(self) -> int:
        """How many rows the commit writes."""
        return len(self.puts) + len(self.updates) + len(self.deletes) + len(self.bindings)

    def add(self, ticket: Ticket, changes: tuple[Change, ...]) -> None:
        """Write the rows of `changes` down, for `ticket`."""
        for change in changes:
            if change.origin is None:
                self.puts.append(_put_row(change.event))
            elif change.target is None:
                self.deletes.append(change.event.id)
            else:
                self.updates.append(_update_row(change))
        self.entries.append((ticket, changes))

    def add_counters(self, event: Event) -> None:
        """Write down how `event` stands; a reservation does not outlive the server."""
        state, due = event.state, event.due
        if state is State.RESERVED:
            state, due = State.READY, 0.0
        counts = (event.reserves, event.timeouts, event.releases, event.buries, event.kicks)
        self.updates.append((event.id, int(state), event.pri, event.delay, due, *counts))


def _put_row(event: Event) -> PutRow:
    return (
        event.id,
        event.tube.name,
        int(event.state),
        event.pri,
        event.delay,
        event.ttr,
        event.created,
        event.due,
        event.key,
        event.body,
    )


def _update_row(change: Change) -> UpdateRow:
    event, move = change.event, change.move
    target = State.READY if move is Move.TOUCH else change.target
    assert target is not None
    return (
        event.id,
        int(target),
        change.pri,
        change.delay,
        change.due,
        event.reserves,
        event.timeouts,
        event.releases + (move is Move.RELEASE or move is Move.POSTPONE),
        event.buries + (move is Move.BURY),
        event.kicks + (move is Move.KICK),
    )


class StoreError(Exception):
    """A store cannot be opened or read; the message is one line that names it and the cause."""


class Store(Protocol):
    """Keeps what batches say."""

    durable: bool

    def load(self, book: Book) -> None:
        """Fill `book` with what was kept; raises StoreError."""
        ...

    def write(self, batch: Batch) -> Written:
        """Commit `batch`, all of it or, when there is no room, all but its puts, or nothing."""
        ...

    def tidy(self) -> None:
        """Do some housekeeping; called when a batch has been answered."""
        ...

    def body(self, event_id: int) -> bytes:
        """Return the body of a committed event; raises StoreError."""
        ...

    def close(self) -> None:
        """Let go of everything; nothing is called afterwards."""
        ...


# Called in the reactor's thread when a batch has been written.
Done: TypeAlias = Callable[[Batch, Written], None]


class Writer(Protocol):
    """Has batches written somewhere that does not stop the reactor."""

    def submit(self, batch: Batch, done: Done) -> None:
        """Write `batch`, then call `done`; the next comes only after that."""
        ...

    def stop(self) -> None:
        """Finish what was submitted and close the store; blocks until that is done."""
        ...


@define
class MemoryStore:
    """Keeps nothing: the core is the only copy."""

    durable: bool = False

    def load(self, book: Book) -> None:
        """See Store."""

    def write(self, batch: Batch) -> Written:
        """See Store."""
        return Written(Outcome.COMMITTED, Outcome.COMMITTED)

    def tidy(self) -> None:
        """See Store."""

    def body(self, event_id: int) -> bytes:
        """See Store; the core holds every body, so nobody asks."""
        raise StoreError(f"event {event_id} has no body in memory")

    def close(self) -> None:
        """See Store."""


@define
class InlineWriter:
    """Writes in the caller's thread: for stores that do not wait, and for tests."""

    store: Store

    def submit(self, batch: Batch, done: Done) -> None:
        """See Writer."""
        done(batch, self.store.write(batch))

    def stop(self) -> None:
        """See Writer."""
        self.store.close()


_log = Logger()


@define(eq=False, repr=False)
class ThreadWriter:
    """See Writer. `call` runs a function in the reactor's thread: `reactor.callFromThread`."""

    store: Store
    call: Callable[..., Any]
    _jobs: "SimpleQueue[tuple[Batch, Done] | None]" = field(factory=SimpleQueue, init=False)
    _thread: Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._thread = Thread(target=self._run, name="evserve-queue-writer", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch, done: Done) -> None:
        """See Writer."""
        self._jobs.put((batch, done))

    def stop(self) -> None:
        """See Writer."""
        self._jobs.put(None)
        self._thread.join()
        self.store.close()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch, done = job
            self.call(done, batch, self._write(batch))
            self._tidy()

    def _write(self, batch: Batch) -> Written:
        try:
            return self.store.write(batch)
        except Exception:
            # The thread must live on to say so, or clients wait for ever.
            _log.failure("the store failed in a way it does not know")
            return Written(Outcome.BROKEN, Outcome.BROKEN)

    def _tidy(self) -> None:
        try:
            self.store.tidy()
        except Exception:
            _log.failure("the store could not be tidied")
