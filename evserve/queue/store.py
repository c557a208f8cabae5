"""Where events survive: the seam between the engine and what keeps its journal.

The engine hands batches to a Writer, one at a time, and reads bodies back by id. A Store is
called by the writer only, except for `body`.
"""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from attrs import define

from evserve.queue.book import Book
from evserve.queue.journal import Batch, Outcome, Written


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
