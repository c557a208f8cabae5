"""Group commit: one batch is in flight in the writer, the next is gathered meanwhile.

When to close a batch decides everything. At the end of the reactor's turn, so that it holds what
all readable connections sent; but a lone producer waits for nobody. On a fast disk the next batch
starts before the replies of the last are sent, to keep the writer busy. On a slow one it waits a
little for the clients who are about to be answered: a sync shared by all of them is worth it.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from attrs import Factory, define
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from evserve.queue.core import Core
from evserve.queue.journal import BATCH_ROWS, Batch, Outcome, Written
from evserve.queue.states import State
from evserve.queue.store import Store, Writer


_log = Logger()

# Counters of reservations wait this many seconds for a commit to ride on: most events are
# deleted before, and cost no row.
COUNTERS_LAG: Final = 0.1

# A commit of more seconds than this is worth filling, and a quarter of its time may go into it.
SLOW: Final = 0.001


@define(eq=False, repr=False)
class Commits:
    """Batches on their way. `settled` is called when one has been; `broken`: no more are taken."""

    core: Core
    store: Store
    writer: Writer
    clock: IReactorTime
    settled: Callable[[], None]
    observe: Callable[[Batch, Written], None] | None = None
    broken: bool = False
    closing: bool = False
    _gathered: deque[Batch] = Factory(deque)
    _written: deque[tuple[Batch, Written]] = Factory(deque)
    _flying: bool = False
    _lone: bool = False
    _patience: float = 0.0
    _expected: int = 0
    _flush_call: IDelayedCall | None = None
    _counters_at: float = 0.0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to write or to wait for."""
        return not (self._gathered or self._flying or self.core.book.dirty)

    def open_batch(self) -> Batch:
        """Return the batch that takes the next changes; `schedule` must follow."""
        gathered = self._gathered
        if not gathered or len(gathered[-1].entries) >= BATCH_ROWS:
            gathered.append(Batch())
        return gathered[-1]

    def schedule(self) -> None:
        """See that what was gathered is written in good time."""
        if self._flying:
            return
        if not self._gathered:
            if self.core.book.dirty:
                self._flush_in(0 if self.closing else COUNTERS_LAG)
            return
        here = len(self._gathered[0].entries)
        if here >= self._expected and (self._lone or self._patience):
            self._flush()
        else:
            self._flush_in(0 if self.closing else self._patience)

    def _flush_in(self, delay: float) -> None:
        if self._flush_call is None:
            self._flush_call = self.clock.callLater(delay, self._flush)
        elif self._flush_call.getTime() > self.clock.seconds() + delay:
            self._flush_call.reset(delay)

    def _flush(self) -> None:
        if self._flush_call is not None and self._flush_call.active():
            self._flush_call.cancel()
        self._flush_call = None
        self._add_counters()
        if not self._gathered:
            self.settled()
            return
        batch = self._gathered.popleft()
        self._flying = True
        if self.broken:
            self._done(batch, Written(Outcome.BROKEN, Outcome.BROKEN))
        elif batch.rows:
            self.writer.submit(batch, self._done)
        else:
            self._done(batch, Written(Outcome.COMMITTED, Outcome.COMMITTED))

    def _add_counters(self) -> None:
        dirty, now = self.core.book.dirty, self.clock.seconds()
        if not dirty or (now < self._counters_at and not self.closing):
            return
        self._counters_at = now + COUNTERS_LAG
        batch = self._gathered[0] if self._gathered else Batch()
        while dirty and len(batch.updates) < BATCH_ROWS:
            event = dirty.popitem()[1]
            if event.state is not State.RESERVED or event.owner is not None:
                batch.add_counters(event)
        if batch.rows and not self._gathered and self.store.durable:
            self._gathered.append(batch)

    def _done(self, batch: Batch, written: Written) -> None:
        """Settle a batch, but start the next one before: the writer need not wait for replies."""
        self._flying = False
        self._note(batch, written)
        self._written.append((batch, written))
        if len(self._written) > 1:
            return  # a writer that does not wait called back from the flush below
        if self._gathered and not self._patience:
            self._flush()
        while self._written:
            self._settle(*self._written[0])
            self._written.popleft()
        self.settled()

    def _note(self, batch: Batch, written: Written) -> None:
        if Outcome.BROKEN in (written.puts, written.rest) and not self.broken:
            self.broken = True
            _log.error("the store takes no more until the server is started again")
        if self.observe is not None and batch.rows:
            self.observe(batch, written)
        gathered = len(self._gathered[0].entries) if self._gathered else 0
        self._expected = min(len(batch.entries) + gathered, BATCH_ROWS)
        self._patience = written.seconds / 4 if written.seconds > SLOW else 0.0
        # A store that answers at once must not: commands in a row would nest without end.
        self._lone = self._expected == 1 and self.store.durable

    def _settle(self, batch: Batch, written: Written) -> None:
        now, ledger = self.clock.seconds(), self.core.ledger
        for ticket, changes in batch.entries:
            is_put = changes and changes[0].origin is None
            outcome = written.puts if is_put else written.rest
            for change in changes:
                if outcome is Outcome.COMMITTED:
                    ledger.settle(change, now)
                else:
                    ledger.abort(change, now)
            ticket.settle(outcome)
