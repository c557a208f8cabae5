"""The engine: drives the core by the clock, and its changes through the store.

Whatever the core wants to tell clients is passed on from `pump`, never from inside a command, so
no client's code runs while the core is in the middle of something.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from attrs import Factory, define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from evserve.queue.core import DEFAULT_TUBE, Answer, Change, Core
from evserve.queue.model import Client, Event, State
from evserve.queue.store import BATCH_ROWS, Batch, Binding, Outcome, Store, Ticket, Writer, Written


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


_log = Logger()


class Party(Protocol):
    """Whoever stands behind a Client."""

    def answer(self, answer: Answer) -> None:
        """Hear the answer to a reserve that had to wait."""
        ...

    def resume(self) -> None:
        """Go on after `Engine.wake`."""
        ...

    def abandon(self) -> None:
        """One of the above raised: nobody knows what was said and what was not."""
        ...


@define(eq=False, repr=False)
class Engine:
    """See the module. `observe` hears of each commit; `draining` refuses puts."""

    core: Core
    store: Store
    writer: Writer
    clock: IReactorTime
    observe: Callable[[Batch, Written], None] | None = None
    draining: bool = False
    commits: Commits = field(init=False)
    parties: dict[Client, Party] = Factory(dict)
    _woken: dict[Party, None] = Factory(dict)
    _pumping: bool = False
    _timer: IDelayedCall | None = None
    _closing: list[Deferred[None]] = Factory(list)
    _closed: bool = False

    def __attrs_post_init__(self) -> None:
        self.commits = Commits(
            self.core, self.store, self.writer, self.clock, self.pump, self.observe
        )

    def now(self) -> float:
        """The time, in seconds since the epoch: delays outlive the process."""
        return self.clock.seconds()

    def connect(self, party: Party, watch: Iterable[str] = (DEFAULT_TUBE,)) -> Client:
        """Let `party` in; returns the client it acts as, which watches the tubes named."""
        client = self.core.book.connect(watch)
        self.parties[client] = party
        return client

    def disconnect(self, client: Client) -> None:
        """Forget a client; what it had reserved becomes ready."""
        self.parties.pop(client)
        self.core.line.disconnect(client, self.now())
        self.pump()

    def body(self, event: Event) -> bytes:
        """Return an event's body; raises StoreError."""
        return self.store.body(event.id) if event.body is None else event.body

    def stage(self, ticket: Ticket, *changes: Change) -> None:
        """Have `changes` committed, then settle them and the ticket. Without any: in its turn.

        `pump` must follow.
        """
        self.commits.open_batch().add(ticket, changes)

    def bind(self, ticket: Ticket, binding: Binding) -> None:
        """Have a binding stored; it holds from now on, for puts in the same commit too."""
        batch = self.commits.open_batch()
        batch.bindings.append(binding)
        batch.add(ticket, ())

    def wake(self, party: Party) -> None:
        """Call `party.resume` at the end of the current `pump`."""
        self._woken[party] = None

    def tick(self) -> None:
        """Do what the time says, if it says anything."""
        when = self.core.book.alarms.next
        if when is not None and when <= (now := self.now()):
            self.core.line.tick(now)

    def pump(self) -> None:
        """Tell clients what there is to tell, until nothing is left; then sleep until needed."""
        if self._pumping:
            return
        self._pumping = True
        line = self.core.line
        while line.answers or self._woken:
            answers, line.answers = line.answers, []
            for client, answer in answers:
                party = self.parties.get(client)
                if party is not None:
                    _tell(party, party.answer, answer)
            woken, self._woken = self._woken, {}
            for party in woken:
                _tell(party, party.resume)
        self._pumping = False
        self._sleep()

    def _sleep(self) -> None:
        self.commits.schedule()
        if self._closing and self.commits.idle:
            self._finish()
        elif not self._closed:
            self._arm()

    def _arm(self) -> None:
        when = self.core.book.alarms.next
        if when is None:
            return
        if self._timer is None:
            self._timer = self.clock.callLater(max(0.0, when - self.now()), self._ring)
        elif when < self._timer.getTime():
            self._timer.reset(max(0.0, when - self.now()))

    def _ring(self) -> None:
        self._timer = None
        self.tick()
        self.pump()

    def close(self) -> Deferred[None]:
        """Write what is left and close the store; call it when the clients are gone."""
        done: Deferred[None] = Deferred()
        self._closing.append(done)
        self._closed = self.commits.closing = True
        self.pump()
        return done

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.writer.stop()
        waiting, self._closing = self._closing, []
        for done in waiting:
            done.callback(None)


def _tell(party: Party, call: Callable[..., None], *args: object) -> None:
    """Let what one client's call raises, be it for want of memory, be no matter of the others."""
    try:
        call(*args)
    except Exception:
        _log.failure("a client could not be told")
        party.abandon()
