"""The store: what one commit writes (Batch), what keeps it (Store), and what calls that (Writer).

The broker gives batches to a Writer, one at a time, and reads bodies back by id. Only the writer
calls a Store, except for `load`, `body` and `outbox`. The rows of a batch are made in the
reactor's thread, so the writer thread never looks at an event that the core is changing; events
that are being put are in no client's reach, and the store makes their rows.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from attrs import Factory, define, field, frozen
from twisted.logger import Logger
from typing_extensions import override

from evserve.events import State
from evserve.queue.core import Change, Core
from evserve.queue.model import BURY, DELAY, KICK, READY, RELEASE, RESERVED, TOUCH, Event


_log = Logger()

# id, state, priority, delay, due, reserves, timeouts, releases, buries, kicks
UpdateRow: TypeAlias = tuple[int, int, int, float, float, int, int, int, int, int]

# The most entries of one commit: in a larger one, the first would wait needlessly for the last.
BATCH_ROWS: Final = 256
# Bytes of bodies after which a commit takes no more entries: the disk reserve has room for them.
BATCH_BYTES: Final = 1024 * 1024

# Bytes of bodies and results in one answer from the history, which holds up other clients.
_HISTORY_BYTES: Final = 4 * 1024 * 1024
# How much a store in memory keeps of the history: events, and bytes of bodies and results.
_MEMORY_HISTORY: Final = 10_000
_MEMORY_HISTORY_BYTES: Final = 16 * 1024 * 1024


class StoreError(Exception):
    """A store cannot be opened or read; the message is one line that names it and the cause."""


class DamagedEventError(StoreError):
    """The store no longer has the body that was put."""


class Outcome(Enum):
    """What a commit did with a change."""

    COMMITTED = 1
    FULL = 2  # rolled back, the disk is full
    BROKEN = 3  # the store failed and takes no more
    BUSY = 4  # nothing was written, and another attempt may succeed
    DAMAGED = 5  # rolled back, a page that it needs is damaged


# Called once with the outcome, in the order in which changes were submitted.
OnCommit: TypeAlias = Callable[[Outcome], None]


@frozen
class Binding:
    """A binding made (`bound`) or undone."""

    source: str
    target: str
    bound: bool


@frozen
class OutboxRow:
    """An event that another connection to the store's database left in its outbox.

    row: the number of the row.  event_id: the event's id if it was promised one.  put_at: when the
    row was made, in seconds since the epoch.
    """

    row: int
    event_id: int | None
    type: str
    body: bytes
    priority: int
    delay: float
    ttr: int
    key: str | None
    put_at: float


@frozen
class Taken:
    """A row of the outbox taken out, in the commit that puts its event."""

    row: int


@frozen
class Advance:
    """A sequence moves to `number`; with_put: in one commit with the puts of its entry."""

    sequence: str
    number: int
    with_put: bool


class Kept(NamedTuple):
    """A row of the history: an event as its consumer saw it, and what became of it.

    outcome: "done" or "buried".  Times are in seconds; `expires` is when the row may go.  body:
    None when only the store has it.
    """

    id: int
    tube: str
    pri: int
    delay: float
    ttr: int
    created: float
    reserves: int
    timeouts: int
    releases: int
    buries: int
    kicks: int
    outcome: str
    result: bytes
    error: str
    reserved_at: float
    settled_at: float
    expires: float
    body: bytes | None


# What an entry of a batch writes beside its changes.
Record: TypeAlias = Binding | Advance | Kept | Taken


@frozen
class WriteResult:
    """The outcome of a batch: of its puts, and of everything else in it.

    cause: why the outcome is BROKEN, BUSY or DAMAGED.
    """

    puts: Outcome
    rest: Outcome
    seconds: float = 0.0
    cause: str = ""


@define(eq=False, repr=False)
class Batch:
    """The rows of one commit, and in `entries` who waits for it, in order.

    size: the bytes of all bodies and results that it writes; an update writes a body again.
    counters: how many of the updates no command waits for.  is_full: no more entries should be
    added.
    """

    entries: list[tuple[OnCommit, Sequence[Change], Record | None]] = Factory(list)
    puts: list[Change] = Factory(list)
    updates: list[UpdateRow] = Factory(list)
    deletes: list[int] = Factory(list)
    bindings: list[Binding] = Factory(list)
    taken: list[int] = Factory(list)
    advances: list[Advance] = Factory(list)
    kept: list[Kept] = Factory(list)
    size: int = 0
    counters: int = 0
    is_full: bool = False

    def is_divisible(self, result: WriteResult) -> bool:
        """Whether parts of it may be committed although `result` is that of the whole."""
        if Outcome.DAMAGED in (result.puts, result.rest):
            return len(self.entries) > 1 or (self.counters > 0 and len(self.entries) > 0)
        changes = self.rows - len(self.puts) - len(self.taken)
        return result.rest is Outcome.FULL and changes > 1 and len(self.entries) > 1

    @property
    def rows(self) -> int:
        """How many rows the commit writes."""
        own = len(self.puts) + len(self.updates) + len(self.deletes)
        return own + len(self.bindings) + len(self.advances) + len(self.kept) + len(self.taken)

    def add(
        self, on_commit: OnCommit, changes: Sequence[Change], record: Record | None = None
    ) -> None:
        """Add the rows of `changes` and of `record`."""
        for change in changes:
            event = change.event
            if change.origin is None:
                self.size += event.size
                self.puts.append(change)
            elif change.target is None:
                self.deletes.append(event.id)
            else:
                self.size += event.size
                self.updates.append(_update_row(change, change.target))
        if record is not None:
            self._add_record(record, changes)
        self.entries.append((on_commit, changes, record))
        self.is_full = len(self.entries) >= BATCH_ROWS or self.size >= BATCH_BYTES

    def _add_record(self, record: Record, changes: Sequence[Change]) -> None:
        if isinstance(record, Binding):
            self.bindings.append(record)
        elif isinstance(record, Advance):
            self.advances.append(record)
        elif isinstance(record, Taken):
            self.taken.append(record.row)
        else:
            self.kept.append(record)
            size = changes[0].event.size if changes else len(record.body or b"")
            self.size += size + len(record.result)

    def halves(self) -> "tuple[Batch, Batch]":
        """Return two batches with the entries of this one, without its counters."""
        first, second = Batch(), Batch()
        middle = len(self.entries) // 2
        for number, entry in enumerate(self.entries):
            (first if number < middle else second).add(*entry)
        return first, second

    def add_counters(self, event: Event) -> None:
        """Add the row of `event` as it is; a reservation does not outlive the server."""
        state, delivery = event.state, event.delivery
        due = delivery.due
        if state is RESERVED:
            state, due = READY, 0.0
        self.size += event.size
        self.is_full = self.is_full or self.size >= BATCH_BYTES
        self.counters += 1
        self.updates.append(
            (
                event.id,
                int(state),
                event.pri,
                delivery.delay,
                due,
                delivery.reserves,
                delivery.timeouts,
                delivery.releases,
                delivery.buries,
                delivery.kicks,
            )
        )


def _update_row(change: Change, target: State) -> UpdateRow:
    action, delivery = change.action, change.event.delivery
    return (
        change.event.id,
        int(READY if action is TOUCH else target),
        change.pri,
        change.delay,
        change.due,
        delivery.reserves,
        delivery.timeouts,
        delivery.releases + (action is RELEASE or action is DELAY),
        delivery.buries + (action is BURY),
        delivery.kicks + (action is KICK),
    )


class Store(Protocol):
    """Keeps events.

    heartbeat: seconds without a batch after which an empty one is written, to find out whether
    the store is still there; None: never.  has_outbox: whether others may leave events there.
    """

    durable: bool
    has_outbox: bool
    heartbeat: float | None

    def load(self, core: Core) -> None:
        """Fill `core` with what was kept; raises StoreError."""

    def write(self, batch: Batch) -> WriteResult:
        """Commit `batch`: all of it, all but its puts when the disk is full, or nothing."""

    def maintain(self) -> None:
        """Do some housekeeping; called when a batch has been answered."""

    def body(self, event_id: int) -> bytes:
        """Return the body of a committed event; raises DamagedEventError, StoreError."""

    def outbox(self) -> list[OutboxRow]:
        """Return the next rows of the outbox; raises StoreError."""

    def history(self, tube: str | None, most: int, now: float) -> list[Kept]:
        """Return what was kept and has not expired, the last first; raises StoreError."""

    def close(self) -> None:
        """Release everything; nothing is called afterwards."""


def listed(rows: Iterable[Kept], most: int) -> list[Kept]:
    """Return the first `most` rows, fewer if they are large, but one at least."""
    taken: list[Kept] = []
    size = 0
    for row in rows:
        size += _kept_size(row)
        if len(taken) == most or (taken and size > _HISTORY_BYTES):
            break
        taken.append(row)
    return taken


def _kept_size(row: Kept) -> int:
    return len(row.body or b"") + len(row.result)


@define
class MemoryStore(Store):
    """Keeps nothing but a history, which is bounded: the core is the only copy of events."""

    durable: bool = False
    has_outbox: bool = False
    heartbeat: float | None = None
    _kept: deque[Kept] = field(factory=deque, init=False)
    _kept_bytes: int = field(default=0, init=False)

    @override
    def load(self, core: Core) -> None:
        pass

    @override
    def write(self, batch: Batch) -> WriteResult:
        for row in batch.kept:
            self._kept.append(row)
            self._kept_bytes += _kept_size(row)
            while len(self._kept) > _MEMORY_HISTORY or self._kept_bytes > _MEMORY_HISTORY_BYTES:
                self._kept_bytes -= _kept_size(self._kept.popleft())
        return WriteResult(Outcome.COMMITTED, Outcome.COMMITTED)

    @override
    def maintain(self) -> None:
        pass

    @override
    def body(self, event_id: int) -> bytes:
        raise StoreError(f"event {event_id} has no body in memory")  # the core has every body

    @override
    def outbox(self) -> list[OutboxRow]:
        return []

    @override
    def history(self, tube: str | None, most: int, now: float) -> list[Kept]:
        rows = reversed(self._kept)
        return listed(
            (each for each in rows if each.expires > now and tube in (None, each.tube)), most
        )

    @override
    def close(self) -> None:
        pass


# Called in the reactor's thread when a batch has been written.
OnWritten: TypeAlias = Callable[[Batch, WriteResult], None]


class Writer(Protocol):
    """Calls a store without blocking the reactor."""

    def submit(self, batch: Batch, on_written: OnWritten) -> None:
        """Write `batch`, then call `on_written`; the next batch comes only after that."""

    def stop(self) -> None:
        """Finish what was submitted and close the store; blocks until that is done."""


@define
class InlineWriter(Writer):
    """Writes in the caller's thread: for stores that do not wait, and for tests."""

    store: Store

    @override
    def submit(self, batch: Batch, on_written: OnWritten) -> None:
        on_written(batch, self.store.write(batch))

    @override
    def stop(self) -> None:
        self.store.close()


@define(eq=False, repr=False)
class ThreadWriter(Writer):
    """Waits for the disk in a thread.

    call_from_thread: runs a function in the reactor's thread (`reactor.callFromThread`).
    """

    store: Store
    call_from_thread: Callable[..., Any]
    _batches: "SimpleQueue[tuple[Batch, OnWritten] | None]" = field(
        factory=SimpleQueue, init=False
    )
    _thread: Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._thread = Thread(target=self._run, name="evserve-queue-writer", daemon=True)
        self._thread.start()

    @override
    def submit(self, batch: Batch, on_written: OnWritten) -> None:
        self._batches.put((batch, on_written))

    @override
    def stop(self) -> None:
        self._batches.put(None)
        self._thread.join()
        self.store.close()

    def _run(self) -> None:
        while (submitted := self._batches.get()) is not None:
            batch, on_written = submitted
            try:
                result = self.store.write(batch)
            except Exception as error:
                # The thread has to report it and go on, or clients wait forever.
                _log.failure("store: unexpected error while writing")
                result = WriteResult(Outcome.BROKEN, Outcome.BROKEN, cause=repr(error))
            self.call_from_thread(on_written, batch, result)
            try:
                self.store.maintain()
            except Exception:
                _log.failure("store: maintenance failed")
