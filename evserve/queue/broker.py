"""The broker: runs the core by the clock, and commits its changes (beanstalkd: serv.c, walg.c).

`pump` passes the core's answers on to clients, never from inside a command, so no client's code
runs while the core is in the middle of something.

Commits are group commits: one batch is written while the next one is gathered. Throughput depends
on when a batch is closed. That is at the end of the reactor's turn, so that it holds what all
readable connections sent, but at once for a lone producer. On a fast disk the next batch starts
before the replies of the last are sent, to keep the writer busy. On a slow disk it waits a little
for the clients who are about to be answered, because a sync that all share is worth the wait.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, Protocol, TypeAlias

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from evserve import events
from evserve.events import DEFAULT_PRIORITY, DEFAULT_TTR, ERRORS, error_record
from evserve.queue.core import DEFAULT_TUBE, Answer, Change, Core
from evserve.queue.model import RESERVED, Client, Event, Refusal, Wait
from evserve.queue.outbox import Outbox
from evserve.queue.store import (
    BATCH_ROWS,
    Advance,
    Batch,
    DamagedEventError,
    Kept,
    OnCommit,
    Outcome,
    Record,
    Store,
    StoreError,
    Writer,
    WriteResult,
)


_log = Logger()

# Counters of reservations wait this many seconds for a commit that they can join: most events are
# deleted before that, and cost no row.
COUNTERS_LAG: Final = 0.1

# After a commit that took more seconds than this, the next batch waits for a quarter of its time.
SLOW_COMMIT: Final = 0.001

# Seconds between two attempts to write to a store that is busy, and those after which the client
# is told to try again later.
_BUSY_PAUSE: Final = 0.1
_BUSY_PATIENCE: Final = 10.0

# Seconds after which a store with a problem is tried again if there is nothing to write: a server
# that is not ready may get no commands that would show that it is again.
_PROBE_INTERVAL: Final = 1.0

# The most damaged events that one command buries, so that the others get their turn.
_MAX_DAMAGED: Final = 100

# The answer to a reserve, with the bodies.
Delivered: TypeAlias = list[tuple[Event, bytes]] | Refusal


class Receiver(Protocol):
    """Who gets a Client's answers: a connection, or a caller of the embedded queue."""

    def answer(self, answer: Delivered) -> None:
        """Take the answer to a reserve that had to wait."""

    def resume(self) -> None:
        """Go on after `Broker.wake`."""

    def abort(self) -> None:
        """Disconnect: one of the above raised, so an answer is lost."""


@define(eq=False, repr=False)
class Broker:
    """Runs a core on a store.

    `now` returns the time in seconds since the epoch: delays outlive the process.
    `observe` is called after each commit, `on_broken` when the store has failed and the clients
    of that commit are answered: the service opens it again. `keep`: seconds for which the history
    keeps what any client of the server deletes while it has it reserved, or buries. `draining`: no
    puts are accepted. `broken`: the store has failed, no changes are accepted. `problem`: why the
    store takes no changes now, or None. `damaged` counts the events that were buried because the
    store had lost their bodies. `outbox` is what moves events from a durable store's outbox into
    the queue.
    """

    core: Core
    store: Store
    writer: Writer
    clock: IReactorTime
    observe: Callable[[Batch, WriteResult], None] | None = None
    on_broken: Callable[[], None] | None = None
    now: Callable[[], float] = field(init=False)
    draining: bool = field(default=False, init=False)
    keep: float = field(default=0.0, init=False)
    broken: bool = field(default=False, init=False)
    problem: str | None = field(default=None, init=False)
    damaged: int = field(default=0, init=False)
    outbox: Outbox | None = field(default=None, init=False)
    _receivers: dict[Client, Receiver] = field(factory=dict, init=False)
    _woken: dict[Receiver, None] = field(factory=dict, init=False)
    _pumping: bool = field(default=False, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _timer_due: float = field(default=0.0, init=False)
    _closing: bool = field(default=False, init=False)
    _closed: bool = field(default=False, init=False)
    _close_waiters: list[Deferred[None]] = field(factory=list, init=False)
    # Group commit: batches to write, whether one is being written, written ones to be answered.
    _gathered: deque[Batch] = field(factory=deque, init=False)
    _is_writing: bool = field(default=False, init=False)
    _written: deque[tuple[Batch, WriteResult]] = field(factory=deque, init=False)
    # What the last commit suggests for the next: the seconds to wait for more entries, the number
    # of entries that ends the wait, and whether there is only one producer.
    _patience: float = field(default=0.0, init=False)
    _expected: int = field(default=0, init=False)
    _is_lone: bool = field(default=False, init=False)
    _flush_call: IDelayedCall | None = field(default=None, init=False)
    _flush_delay: float = field(default=0.0, init=False)
    _counters_due: float = field(default=0.0, init=False)
    _busy_since: float | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.now = self.clock.seconds
        if self.store.has_outbox:
            self.outbox = Outbox(self)
            self.outbox.look_soon()

    def connect(self, receiver: Receiver, watch: Iterable[str] = (DEFAULT_TUBE,)) -> Client:
        """Return the client that `receiver` acts as, which watches the tubes named."""
        client = self.core.connect(watch)
        self._receivers[client] = receiver
        return client

    def disconnect(self, client: Client) -> None:
        """Forget a client; what it had reserved becomes ready."""
        self._receivers.pop(client)
        self.core.disconnect(client, self.now())
        self.pump()

    def reserve(
        self, client: Client, timeout: float | None = None, most: int = 1
    ) -> Delivered | None:
        """Reserve as Core.reserve does, and read the bodies; damaged events are buried."""
        for _ in range(_MAX_DAMAGED):
            answer = self.core.reserve(client, self.now(), timeout, most)
            if answer is None or isinstance(answer, Refusal):
                return answer
            delivered = self._read(client, answer)
            if delivered:
                return delivered
        return Refusal.INTERNAL_ERROR

    def reserve_job(self, client: Client, event_id: int) -> Delivered:
        """Reserve one event as Core.reserve_job does, and read its body."""
        answer = self.core.reserve_job(client, event_id, self.now())
        if isinstance(answer, Refusal):
            return answer
        return self._read(client, answer) or Refusal.INTERNAL_ERROR

    def _read(self, client: Client, reserved: list[Event]) -> Delivered:
        """Return the events `reserved` with their bodies, without those that are damaged."""
        delivered: list[tuple[Event, bytes]] = []
        failed = False
        for event in reserved:
            body = event.body
            if body is None:
                try:
                    body = self.store.body(event.id)
                except StoreError as error:
                    if isinstance(error, DamagedEventError) and not self.broken:
                        self._bury_damaged(client, event, str(error))
                    else:
                        _log.error("store: {error}", error=str(error))
                        self.core.unreserve(event, self.now())
                        failed = True
                    continue
            delivered.append((event, body))
        return Refusal.INTERNAL_ERROR if failed and not delivered else delivered

    def _bury_damaged(self, client: Client, event: Event, reason: str) -> None:
        """Bury an event whose body is lost, with a record of the reason."""
        core, now = self.core, self.now()
        _log.error("store: {reason}; it is buried", reason=reason)
        self.damaged += 1
        if event.tube.name != ERRORS:
            attempts = event.delivery.reserves
            known = events.Event(str(event.id), event.tube.name, b"", attempts=attempts)
            record = error_record(known, reason, now)
            changes = core.put(
                core.tube(ERRORS), record, now, pri=DEFAULT_PRIORITY, ttr=DEFAULT_TTR
            )
            if isinstance(changes, list):
                self.submit(_ignore, changes)
        change = core.bury(client, event.id, now, pri=event.pri)
        assert isinstance(change, Change)  # the client has just reserved it
        self.submit(partial(self._damaged_buried, event), [change])

    def _damaged_buried(self, event: Event, outcome: Outcome) -> None:
        """Bury the event until the next start if its damage also prevents that change."""
        owner = event.delivery.owner
        if outcome is not Outcome.COMMITTED and owner is not None:
            core, now = self.core, self.now()
            change = core.bury(owner, event.id, now, pri=event.pri)
            assert isinstance(change, Change)
            core.apply(change, now)

    def body(self, event: Event) -> bytes:
        """Return an event's body; raises DamagedEventError, StoreError."""
        return self.store.body(event.id) if event.body is None else event.body

    def submit(
        self,
        on_commit: OnCommit,
        changes: Sequence[Change] = (),
        record: Record | None = None,
    ) -> None:
        """Have `changes` and `record` committed, then apply them and call `on_commit`.

        Without any, `on_commit` is called in its turn. `pump` must follow.
        """
        gathered = self._gathered
        if not gathered or gathered[-1].is_full:
            gathered.append(Batch())
        gathered[-1].add(on_commit, changes, record)

    def advance(
        self, on_commit: OnCommit, sequence: str, number: int, changes: Sequence[Change]
    ) -> None:
        """Have `sequence` moved to `number` in one commit with the puts `changes`.

        It must not be in `Core.advancing`. `pump` must follow.
        """
        self.core.advancing.add(sequence)
        record = Advance(sequence, number, with_put=bool(changes))
        self.submit(partial(self._advanced, record, on_commit), changes, record)

    def _advanced(self, record: Advance, on_commit: OnCommit, outcome: Outcome) -> None:
        self.core.advancing.discard(record.sequence)
        if outcome is Outcome.COMMITTED:
            self.core.sequences[record.sequence] = record.number
        on_commit(outcome)

    def kept(
        self, change: Change, seconds: float, *, result: bytes = b"", error: str = ""
    ) -> Kept | None:
        """Return what the history keeps of a reserved event that is deleted or buried.

        None if it keeps nothing.
        """
        if not seconds or change.owner is None:
            return None
        event, delivery, now = change.event, change.event.delivery, self.now()
        return Kept(
            event.id,
            event.tube.name,
            event.pri,
            delivery.delay,
            event.ttr,
            event.created,
            delivery.reserves,
            delivery.timeouts,
            delivery.releases,
            delivery.buries,
            delivery.kicks,
            "done" if change.target is None else "buried",
            result,
            error,
            delivery.reserved_at,
            now,
            now + seconds,
            event.body,
        )

    def wake(self, receiver: Receiver) -> None:
        """Have `pump` call `receiver.resume`."""
        self._woken[receiver] = None

    def tick(self) -> None:
        """Have the core act on deadlines that have passed."""
        when = self.core.deadlines.next
        if when is not None and when <= (now := self.now()):
            self.core.tick(now)

    def pump(self) -> None:
        """Pass all answers on to clients, then set timers."""
        if self._pumping or self._closed:
            return
        if self.core.answers or self._woken:
            self._pumping = True
            self._pass_on()
            self._pumping = False
        self._schedule_flush()
        if not self._closing:
            self._set_timer()
        elif self._close_waiters and not (self._gathered or self._is_writing or self.core.dirty):
            self._finish()

    def _pass_on(self) -> None:
        """Call the receivers that have an answer or were woken, until there are none."""
        core = self.core
        while core.answers or self._woken:
            answers, core.answers = core.answers, []
            for client, answer, wait in answers:
                receiver = self._receivers.get(client)
                if receiver is not None:
                    delivered = self._deliver(client, answer, wait)
                    if delivered is not None:
                        try:
                            receiver.answer(delivered)
                        except Exception:
                            _abort(receiver)
            woken, self._woken = self._woken, {}
            for receiver in woken:
                try:
                    receiver.resume()
                except Exception:
                    _abort(receiver)

    def _deliver(self, client: Client, answer: Answer, wait: Wait) -> Delivered | None:
        """Read the bodies of an answer; None if all are damaged and the client waits on."""
        if isinstance(answer, Refusal):
            return answer
        timeout = None if wait.until is None else max(0.0, wait.until - self.now())
        return self._read(client, answer) or self.reserve(client, timeout, wait.max_events)

    def _set_timer(self) -> None:
        when = self.core.deadlines.next
        if when is None:
            return
        if self._timer is None:
            self._timer = self.clock.callLater(max(0.0, when - self.now()), self._timer_fired)
        elif when < self._timer_due:
            self._timer.reset(max(0.0, when - self.now()))
        else:
            return
        self._timer_due = when

    def _timer_fired(self) -> None:
        self._timer = None
        self.tick()
        self.pump()

    def close(self) -> Deferred[None]:
        """Write what is left and close the store; call it when the clients are gone."""
        if self._closed:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._close_waiters.append(closed)
        self._closing = True
        if self.outbox is not None:
            self.outbox.stop()
        self.pump()
        return closed

    def abandon(self) -> None:
        """Disconnect all clients and write nothing more: the store is not ours any longer.

        The writer is left to the caller to stop.
        """
        self._closing = self._closed = True
        if self.outbox is not None:
            self.outbox.stop()
        for receiver in list(self._receivers.values()):
            receiver.abort()
        self._cancel_timers()

    def _cancel_timers(self) -> None:
        for call in (self._timer, self._flush_call):
            if call is not None and call.active():
                call.cancel()
        self._timer = self._flush_call = None

    def _finish(self) -> None:
        self._cancel_timers()
        self.writer.stop()
        self._closed = True
        waiters, self._close_waiters = self._close_waiters, []
        for closed in waiters:
            closed.callback(None)

    # Group commit.

    def _schedule_flush(self) -> None:
        if self._is_writing:
            return
        if not self._gathered:
            if self.core.dirty:
                self._flush_in(0 if self._closing else COUNTERS_LAG)
            elif self._is_probed:
                self._flush_in(self.store.heartbeat or _PROBE_INTERVAL)
        elif (self._is_lone or self._patience) and self._is_expected(self._gathered[0]):
            self._flush()
        else:
            self._flush_in(0 if self._closing else self._patience)

    @property
    def _is_probed(self) -> bool:
        """Whether an empty batch is written after a while with nothing else to write."""
        may_change = self.problem is not None or self.store.heartbeat is not None
        return may_change and not (self.broken or self._closing)

    def _is_expected(self, batch: Batch) -> bool:
        return batch.is_full or len(batch.entries) >= self._expected

    def _flush_in(self, delay: float) -> None:
        if self._flush_call is None:
            self._flush_call = self.clock.callLater(delay, self._flush)
        elif delay >= self._flush_delay or self._flush_call.getTime() <= self.now() + delay:
            return  # without a look at the clock for each command of a turn
        else:
            self._flush_call.reset(delay)
        self._flush_delay = delay

    def _flush(self) -> None:
        if self._flush_call is not None and self._flush_call.active():
            self._flush_call.cancel()
        self._flush_call = None
        self._add_counters()
        if not self._gathered and self._is_probed:
            self._gathered.append(Batch())
        if not self._gathered:
            self.pump()
            return
        batch = self._gathered.popleft()
        self._is_writing = True
        if self.broken:
            self._batch_written(batch, WriteResult(Outcome.BROKEN, Outcome.BROKEN))
        elif batch.rows or (self._is_probed and not batch.entries):
            self.writer.submit(batch, self._batch_written)
        else:
            self._batch_written(batch, WriteResult(Outcome.COMMITTED, Outcome.COMMITTED))

    def _add_counters(self) -> None:
        dirty, now = self.core.dirty, self.now()
        if not dirty or (now < self._counters_due and not self._closing):
            return
        self._counters_due = now + COUNTERS_LAG
        batch = self._gathered[0] if self._gathered else Batch()
        while dirty and len(batch.updates) < BATCH_ROWS and not batch.is_full:
            event = dirty.popitem()[1]
            if event.state is not RESERVED or event.delivery.owner is not None:
                batch.add_counters(event)
        if batch.rows and not self._gathered and self.store.durable:
            self._gathered.append(batch)

    def _batch_written(self, batch: Batch, result: WriteResult) -> None:
        """Start the next batch, then answer this one: the writer need not wait for replies."""
        self._look_for_problem(batch, result)
        if self._is_worth_waiting(result):
            self.clock.callLater(_BUSY_PAUSE, self.writer.submit, batch, self._batch_written)
            return
        self._is_writing = False
        if batch.is_divisible(result):
            # What is too much for a full disk at once may fit in parts, a checkpoint between them.
            # And a damaged page must not stop the changes that do not need it.
            self._gathered.extendleft(reversed(batch.halves()))
            self._flush()
            return
        if self.observe is not None and batch.rows:
            self.observe(batch, result)
        gathered = len(self._gathered[0].entries) if self._gathered else 0
        self._expected = min(len(batch.entries) + gathered, BATCH_ROWS)
        self._patience = result.seconds / 4 if result.seconds > SLOW_COMMIT else 0.0
        # Not with a store that answers at once: commands in a row would nest without end.
        self._is_lone = self._expected == 1 and self.store.durable
        self._written.append((batch, result))
        if len(self._written) > 1:
            return  # called by a writer that does not wait, from the flush below
        if self._gathered and not self._patience:
            self._flush()
        while self._written:
            self._apply(*self._written[0])
            self._written.popleft()
        self.pump()
        if self.broken and self.on_broken is not None:
            on_broken, self.on_broken = self.on_broken, None
            on_broken()

    def _is_worth_waiting(self, result: WriteResult) -> bool:
        since, is_busy = self._busy_since, Outcome.BUSY in (result.puts, result.rest)
        if since is None or not is_busy or self._closing:
            return False
        return self.now() < since + _BUSY_PATIENCE

    def _look_for_problem(self, batch: Batch, result: WriteResult) -> None:
        before, outcomes = self.problem, (result.puts, result.rest)
        if self.broken or (batch.entries and not batch.rows):
            return
        if Outcome.BUSY in outcomes:
            self.problem = f"store: waiting: {result.cause}"
            if self._busy_since is None:
                self._busy_since = self.now()
                _log.warn("{problem}; trying again", problem=self.problem)
            return
        self._busy_since = None
        if Outcome.BROKEN in outcomes:
            self.broken = True
            hint = " (restart the server)" if self.on_broken is None else ""
            self.problem = f"store: failed: {result.cause}{hint}"
            _log.error("{problem}; no changes are accepted", problem=self.problem)
        elif Outcome.DAMAGED in outcomes:
            if not batch.is_divisible(result) and batch.entries:
                self.problem = f"store: damaged: {result.cause}"
                _log.error("{problem}; a change was refused", problem=self.problem)
        elif before is not None:
            self.problem = None
            _log.info("store: takes changes again")

    def _apply(self, batch: Batch, result: WriteResult) -> None:
        now, core, committed = self.now(), self.core, Outcome.COMMITTED
        for on_commit, changes, _ in batch.entries:
            is_put = changes and changes[0].origin is None
            outcome = result.puts if is_put else result.rest
            if outcome is committed:
                for change in changes:
                    core.apply(change, now)
            else:
                for change in reversed(changes):  # each becomes the first of the buried again
                    core.revert(change, now)
            on_commit(outcome)


def _ignore(_outcome: Outcome) -> None:
    """Do nothing: no command waits for this commit."""


def _abort(receiver: Receiver) -> None:
    """Disconnect a client whose method has raised: even a MemoryError must not affect others."""
    _log.failure("client: disconnected, because passing on an answer failed")
    receiver.abort()
