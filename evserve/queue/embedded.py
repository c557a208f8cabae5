"""The queue inside a program's own process: `sqlite:///path` and `memory:` as an EventQueue.

The same core and store as the server's, without a port: for a program that is its own only
producer and consumer. One process at a time can open a path.
"""

from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial, wraps
from itertools import islice
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import blockingCallFromThread
from twisted.python.failure import Failure
from typing_extensions import override

from evserve.events import (
    DEFAULT_PRIORITY,
    DEFAULT_TTR,
    ERRORS,
    BadEvent,
    BadQueueURL,
    Capability,
    Depth,
    Event,
    EventQueue,
    Handled,
    NotReserved,
    QueueClosed,
    QueueError,
    QueueFull,
    QueueUnavailable,
    QueueURL,
    State,
    Stored,
    check_binding,
    check_event,
    check_history,
    check_id,
    check_keep,
    check_key,
    check_many,
    check_no_connection,
    check_number,
    check_put,
    check_reason,
    check_seconds,
    check_sequence,
    check_shown_state,
    check_type,
    check_types,
    error_record,
    kept_reason,
)
from evserve.events.transaction import in_reactor_thread
from evserve.queue import model
from evserve.queue.broker import Broker, Delivered
from evserve.queue.core import Change, Core, Duplicate
from evserve.queue.model import MAX_JOB_SIZE, RESIDENT_BYTES, Client, Limits, Refusal, Tube
from evserve.queue.sqlite import SQLiteStore
from evserve.queue.store import (
    Binding,
    InlineWriter,
    Kept,
    MemoryStore,
    Outcome,
    Record,
    StoreError,
    ThreadWriter,
)
from evserve.queue.transactions import Receipt, Transactions


P = ParamSpec("P")
T = TypeVar("T")

# What the embedded queue can do on a store in memory, and on one in a file.
MEMORY: Final = (
    Capability.LIST_TYPES
    | Capability.FAN_OUT
    | Capability.KEYS
    | Capability.TRUNCATE
    | Capability.SEQUENCES
    | Capability.HISTORY
    | Capability.DRAIN
)
FILE: Final = MEMORY | Capability.DURABLE | Capability.TRANSACTIONS

# How many events of one kick or truncate go into one commit.
_CHUNK: Final = 256

_UNREADABLE: Final = "the store could not be read (the log says why)"


def open_engine(url: QueueURL, reactor: Any) -> EventQueue:
    """Return the queue that a `sqlite:` or `memory:` URL names; it opens when the reactor runs.

    Before, the process may fork to become a daemon, or change its user: threads and SQLite's locks
    do not outlive a fork, and the file would be the other user's.
    """
    url.allow_parameters()
    if url.host is not None:
        raise BadQueueURL(f"{url.shown}: write sqlite:///absolute/path or sqlite:relative/path")
    if url.scheme == "memory":
        if url.path:
            raise BadQueueURL(f"{url.shown}: nothing may follow memory:")
        return EmbeddedQueue(reactor, MEMORY, partial(_in_memory, reactor))
    if not url.path:
        raise BadQueueURL(f"{url.shown} names no file")
    path = Path(url.path).absolute()  # because the process may change its folder
    queue = EmbeddedQueue(reactor, FILE, partial(_in_file, path, reactor))
    reactor.callWhenRunning(_try_to_open, queue)
    return queue


def _try_to_open(queue: "EmbeddedQueue") -> None:
    """Open a queue before its first call, whose caller may have locked the database by then."""
    with suppress(QueueError):  # that call fails with it
        queue.open()


def _in_memory(reactor: Any) -> tuple[Broker, None]:
    store = MemoryStore()
    return Broker(Core(), store, InlineWriter(store), reactor), None


def _in_file(path: Path, reactor: Any) -> tuple[Broker, Transactions]:
    store = SQLiteStore.open(path)
    core = Core(Limits(resident=RESIDENT_BYTES))
    try:
        store.load(core)
    except StoreError:
        store.close()
        raise
    broker = Broker(core, store, ThreadWriter(store, reactor.callFromThread), reactor)
    return broker, Transactions(broker, store, reactor)


def _deferred(
    method: "Callable[Concatenate[EmbeddedQueue, P], Coroutine[Deferred[Any], Any, T]]",
) -> "Callable[Concatenate[EmbeddedQueue, P], Deferred[T]]":
    """Make a coroutine method return a Deferred, which fails if the queue is not open."""

    @wraps(method)
    def call(self: "EmbeddedQueue", /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        try:
            self.open()
        except QueueError as error:
            return fail(error)
        self.broker.tick()
        return Deferred.fromCoroutine(method(self, *args, **kwargs))

    return call


@define(eq=False, repr=False)
class EmbeddedQueue(EventQueue):
    """An EventQueue on a broker. One client of the core holds what was reserved.

    reactor: the broker's.  capabilities: MEMORY or FILE.  make: opens the store, and returns its
    broker and, on a store that is a database, its transactions; raises StoreError.
    """

    reactor: Any
    capabilities: Capability
    make: "Callable[[], tuple[Broker, Transactions | None]]"
    broker: Broker = field(init=False)
    transactions: Transactions | None = field(init=False)
    closed: bool = field(init=False, default=False)
    _is_open: bool = field(init=False, default=False)
    _calls: "_Calls" = field(init=False)
    _client: Client = field(init=False)

    @override
    def open(self) -> None:
        if self.closed:
            raise QueueClosed("the queue was closed")
        if self._is_open:
            return
        try:
            self.broker, self.transactions = self.make()
        except StoreError as error:
            raise QueueUnavailable(str(error)) from error
        self._calls = _Calls(self.broker, self.transactions)
        self._client = self.broker.connect(self._calls)
        self._is_open = True

    @override
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
        try:
            if connection is not None and not self._is_open and not in_reactor_thread():
                blockingCallFromThread(self.reactor, self.open)
            self.open()
            name, data, pri, wait, run = check_put(event_type, body, priority, delay, ttr)
            only = check_key(key)
            if len(data) > MAX_JOB_SIZE:
                raise BadEvent(f"a body of {len(data)} bytes; at most {MAX_JOB_SIZE} are allowed")
            if self.broker.draining:
                raise QueueFull("the queue is draining and accepts no events")
            if self.transactions is None:
                check_no_connection(connection)
            elif connection is not None:
                return self.transactions.put(connection, (name, data, pri, wait, run, only))
            return self._put_now(name, data, pri=pri, delay=wait, ttr=run, key=only)
        except QueueError as error:
            return fail(error)

    @_deferred
    async def _put_now(
        self, name: str, data: bytes, *, pri: int, delay: float, ttr: int, key: str | None
    ) -> str:
        return await self._put(name, data, pri=pri, delay=delay, ttr=ttr, key=key)

    async def _put(
        self,
        name: str,
        data: bytes,
        *,
        pri: int = DEFAULT_PRIORITY,
        delay: float = 0,
        ttr: int = DEFAULT_TTR,
        key: str | None = None,
    ) -> str:
        broker, core = self.broker, self.broker.core
        while True:
            tube = core.tube(name)
            made = core.put(tube, data, broker.now(), pri=pri, delay=delay, ttr=ttr, key=key)
            if isinstance(made, Refusal):
                raise QueueFull("the queue is full")
            if not isinstance(made, Duplicate):
                await self._calls.commit(*made)
                return str(made[0].event.id)
            if not made.is_settled:  # look again when the commit has decided about it
                await self._calls.settled()
            elif broker.broken:  # that event may be stored or not: only a restart tells
                raise QueueUnavailable("the store has failed (the log says why)")
            else:
                return str(made.id)

    @override
    def reserve(
        self, types: Collection[str], timeout: float | None = None
    ) -> Deferred[Event | None]:
        taken = self.reserve_many(types, 1, timeout)
        return taken.addCallback(lambda events: events[0] if events else None)

    @override
    def reserve_many(
        self, types: Collection[str], limit: int, timeout: float | None = None
    ) -> Deferred[list[Event]]:
        try:
            self.open()
            wanted, most = sorted(check_types(types)), check_many(limit)
            wait = None if timeout is None else check_seconds("timeout", timeout)
        except QueueError as error:
            return fail(error)
        return self._calls.reserve(self._client, wanted, most, wait)

    @override
    @_deferred
    async def reserve_event(self, event_id: str) -> Event | None:
        answer = self.broker.reserve_job(self._client, check_id(event_id))
        self.broker.pump()
        if answer is Refusal.INTERNAL_ERROR:
            raise QueueUnavailable(_UNREADABLE)
        return None if isinstance(answer, Refusal) else self._calls.event(*answer[0])

    @override
    @_deferred
    async def ack(self, event: Event, *, result: bytes = b"", keep: float = 0) -> None:
        value, kept_for = check_keep(result, keep)
        if (receipt := _handled_receipt(event)) is not None:
            await self._keep_handled(receipt, kept_for, value)
            return
        change = self.broker.core.delete(self._client, self._held(event).id)
        await self._commit(change, kept_for, result=value)

    @override
    @_deferred
    async def retry(self, event: Event, delay: float = 0) -> None:
        wait = check_seconds("delay", delay)
        held, now = self._held(event), self.broker.now()
        core = self.broker.core
        await self._commit(core.release(self._client, held.id, now, pri=held.pri, delay=wait))

    @override
    @_deferred
    async def bury(self, event: Event, reason: str, *, keep: float = 0) -> None:
        text, kept_for = check_reason(reason), check_seconds("keep", keep)
        if self._held(event).tube.name != ERRORS:
            await self._put(ERRORS, error_record(event, text, self.broker.now()))
        held, now = self._held(event), self.broker.now()
        change = self.broker.core.bury(self._client, held.id, now, pri=held.pri)
        await self._commit(change, kept_for, error=kept_reason(text))

    @override
    @_deferred
    async def touch(self, event: Event) -> None:
        if _handled_receipt(event) is not None:
            return
        held, now = self._held(event), self.broker.now()
        await self._commit(self.broker.core.touch(self._client, held.id, now))

    @override
    @_deferred
    async def kick(self, event_type: str, limit: int) -> int:
        tube, most, kicked = self._find_tube(event_type), check_number("limit", limit), 0
        if tube is None:
            return 0
        state = State.BURIED if tube.buried else State.DELAYED
        while changes := self.broker.core.kick(tube, state, min(most - kicked, _CHUNK)):
            await self._calls.commit(*changes)
            kicked += len(changes)
        return kicked

    @override
    @_deferred
    async def peek(self, event_type: str, state: State = State.READY) -> Stored | None:
        tube, wanted = self._find_tube(event_type), check_shown_state(state)
        if tube is None:
            return None
        if wanted is State.READY:
            return self._shown(tube.first_ready())
        return self._shown(
            tube.first_delayed() if wanted is State.DELAYED else tube.first_buried()
        )

    @override
    @_deferred
    async def find(self, event_id: str) -> Stored | None:
        return self._shown(self.broker.core.events.get(check_id(event_id)))

    def _shown(self, event: model.Event | None) -> Stored | None:
        if event is None:
            return None
        try:
            shown = evolve(self._calls.event(event, self.broker.body(event)), receipt=None)
        except StoreError as error:
            raise QueueUnavailable(f"event {event.id}: {_UNREADABLE}") from error
        now, has_end = self.broker.now(), event.state in (State.DELAYED, State.RESERVED)
        left = max(0.0, event.delivery.due - now) if has_end else 0
        return Stored(shown, event.state, now - event.created, left)

    @override
    @_deferred
    async def delete(self, event_id: str) -> bool:
        changes = self.broker.core.delete_unreserved([check_id(event_id)])
        if changes:
            await self._calls.commit(*changes)
        return bool(changes)

    @override
    @_deferred
    async def truncate(self, event_type: str) -> int:
        tube, count = self._find_tube(event_type), 0
        ids = iter([] if tube is None else list(tube.arrivals))
        while chunk := list(islice(ids, _CHUNK)):
            changes = self.broker.core.delete_unreserved(chunk)
            await self._calls.commit(*changes)
            count += len(changes)
        return count

    @override
    @_deferred
    async def pause(self, event_type: str, seconds: int) -> None:
        name, length = check_type(event_type), check_number("seconds", seconds)
        core = self.broker.core
        core.pause(core.tube(name), length, self.broker.now())
        self.broker.pump()

    @override
    @_deferred
    async def drain(self, *, on: bool) -> None:
        self.broker.draining = on

    @override
    @_deferred
    async def depth(self, event_type: str) -> Depth:
        tube = self._find_tube(event_type)
        if tube is None:
            return Depth()
        paused = max(0.0, tube.paused_until - self.broker.now()) if tube.pause else 0
        return Depth(tube.ready, tube.reserved, tube.delayed, len(tube.buried), paused)

    @override
    @_deferred
    async def types(self) -> list[str]:
        return list(self.broker.core.tubes)

    @override
    @_deferred
    async def bind(self, source: str, target: str) -> None:
        await self._set_binding(source, target, bound=True)

    @override
    @_deferred
    async def unbind(self, source: str, target: str) -> None:
        await self._set_binding(source, target, bound=False)

    @override
    @_deferred
    async def bindings(self) -> list[tuple[str, str]]:
        bound = self.broker.core.bindings
        return sorted((source, target) for source in bound for target in bound[source])

    async def _set_binding(self, source: str, target: str, *, bound: bool) -> None:
        core, (name, copied_to) = self.broker.core, check_binding(source, target)
        if bound is (copied_to in core.bindings.get(name, {})):
            return
        do, undo = (core.bind, core.unbind) if bound else (core.unbind, core.bind)
        do(name, copied_to)
        try:
            await self._calls.commit(record=Binding(name, copied_to, bound))
        except QueueError:
            undo(name, copied_to)
            raise

    @override
    @_deferred
    async def position(self, sequence: str) -> int | None:
        return self.broker.core.sequences.get(check_type(sequence))

    @override
    @_deferred
    async def advance(
        self,
        sequence: str,
        number: int,
        event_type: str | None = None,
        body: bytes = b"",
        *,
        priority: int = DEFAULT_PRIORITY,
        ttr: int = DEFAULT_TTR,
    ) -> bool:
        name, wanted = check_sequence(sequence, number)
        put = None if event_type is None else check_put(event_type, body, priority, 0, ttr)
        while name in self.broker.core.advancing:
            await self._calls.settled()
        if self.broker.core.has_reached(name, wanted):
            return False
        changes = [] if put is None else self._changes(*put)
        await self._calls.advance(name, wanted, changes)
        return True

    def _changes(self, name: str, data: bytes, pri: int, delay: float, ttr: int) -> list[Change]:
        """Return the changes that put an event; raises BadEvent, QueueFull."""
        if len(data) > MAX_JOB_SIZE:
            raise BadEvent(f"a body of {len(data)} bytes; at most {MAX_JOB_SIZE} are allowed")
        if self.broker.draining:
            raise QueueFull("the queue is draining and accepts no events")
        core = self.broker.core
        made = core.put(core.tube(name), data, self.broker.now(), pri=pri, delay=delay, ttr=ttr)
        if not isinstance(made, list):
            raise QueueFull("the queue is full")
        return made

    @override
    @_deferred
    async def history(self, event_type: str | None = None, limit: int = 100) -> list[Handled]:
        try:
            found = self.broker.store.history(*check_history(event_type, limit), self.broker.now())
        except StoreError as error:
            raise QueueUnavailable(str(error)) from error
        return [_handled(row) for row in found]

    @override
    def close(self) -> Deferred[None]:
        if not self._is_open:
            self.closed = True
            return succeed(None)
        if not self.closed:
            self.closed = True
            self._calls.end_waits()
            self.broker.disconnect(self._client)
            if self.transactions is not None:
                self.transactions.close()
        return self.broker.close()

    def _find_tube(self, event_type: str) -> Tube | None:
        return self.broker.core.tubes.get(check_type(event_type))

    def _held(self, event: Event) -> model.Event:
        receipt = check_event(event).receipt
        if isinstance(receipt, Receipt) and event.id == str(receipt.id):
            held = self.broker.core.events.get(receipt.id)
            if (
                held is not None
                and held.delivery.owner is self._client
                and held.delivery.reserves == receipt.reserves
            ):
                return held
        raise NotReserved(f"{event} is not reserved here any more")

    async def _keep_handled(self, receipt: Receipt, keep: float, result: bytes) -> None:
        """Have the history keep an event that a transaction has removed, once."""
        if keep and receipt.deletion is not None:
            kept = self.broker.kept(receipt.deletion, keep, result=result)
            assert kept is not None
            await self._calls.commit(record=kept._replace(body=receipt.body))
            receipt.deletion = None

    async def _commit(
        self, change: Change | Refusal, keep: float = 0, *, result: bytes = b"", error: str = ""
    ) -> None:
        assert isinstance(change, Change)  # `_held` has made sure
        kept = self.broker.kept(change, keep, result=result, error=error)
        await self._calls.commit(change, record=kept)


@define(eq=False, repr=False)
class _Calls:
    """Deferreds for commits and reservations (a Receiver of the broker).

    They fire from `resume`, outside of the broker's own work, because a callback may call the
    queue again.
    """

    broker: Broker
    transactions: Transactions | None
    waits: "dict[_ReserveCall, None]" = field(init=False, factory=dict)
    _results: list[tuple[Deferred[Any], object]] = field(init=False, factory=list)

    def fire(self, deferred: Deferred[Any], result: object) -> None:
        """Have `resume` fire `deferred` with `result`, which fails it if it is a QueueError."""
        self._results.append((deferred, result))
        self.broker.wake(self)

    def answer(self, answer: Delivered) -> None:
        """Do nothing: this client never waits."""

    def resume(self) -> None:
        results, self._results = self._results, []
        for deferred, result in results:
            if not deferred.called:
                deferred.callback(Failure(result) if isinstance(result, QueueError) else result)
            elif isinstance(result, list):
                # They came just when their caller cancelled: make them ready again.
                for each in result:
                    event = self.broker.core.events[int(each.id)]
                    if event.delivery.owner is not None:
                        self.broker.core.unreserve(event, self.broker.now())

    def abort(self) -> None:
        """Do nothing: what callbacks raise is their Deferred's, so no result can be lost."""

    def event(self, event: model.Event, body: bytes) -> Event:
        """Return a reserved event as its consumer sees it."""
        delivery = event.delivery
        return Event(
            id=str(event.id),
            type=event.tube.name,
            body=body,
            priority=event.pri,
            delay=delivery.delay,
            ttr=event.ttr,
            attempts=delivery.reserves,
            timeouts=delivery.timeouts,
            releases=delivery.releases,
            buries=delivery.buries,
            kicks=delivery.kicks,
            receipt=Receipt(event.id, delivery.reserves, body, self.transactions),
        )

    def commit(self, *changes: Change, record: Record | None = None) -> Deferred[None]:
        """Have `changes` and `record` committed."""
        committed: Deferred[None] = Deferred()
        self.broker.submit(partial(self._committed, committed), changes, record)
        self.broker.pump()
        return committed

    def advance(self, sequence: str, number: int, changes: Sequence[Change]) -> Deferred[None]:
        """Have a sequence moved, in one commit with `changes`."""
        committed: Deferred[None] = Deferred()
        self.broker.advance(partial(self._committed, committed), sequence, number, changes)
        self.broker.pump()
        return committed

    def settled(self) -> Deferred[None]:
        """Fire when all that was submitted before has been committed or undone."""
        settled: Deferred[None] = Deferred()
        self.broker.submit(lambda _: self.fire(settled, None))
        self.broker.pump()
        return settled

    def _committed(self, committed: Deferred[None], outcome: Outcome) -> None:
        failure: QueueError | None = None
        if outcome is Outcome.FULL:
            failure = QueueFull("the disk is full")
        elif outcome is Outcome.BUSY:
            failure = QueueFull("the store is busy (the log says why)")
        elif outcome is not Outcome.COMMITTED:
            failure = QueueUnavailable("the store has failed (the log says why)")
        self.fire(committed, failure)

    def reserve(
        self, holder: Client, types: Iterable[str], most: int, timeout: float | None
    ) -> Deferred[list[Event]]:
        """Wait for up to `most` events of `types`, to be held by `holder`."""
        broker = self.broker
        broker.tick()
        call = _ReserveCall(self, holder)
        call.client = broker.connect(call, types)
        call.reserved = Deferred(lambda _: call.leave())
        self.waits[call] = None
        answer = broker.reserve(call.client, timeout, most)
        if answer is not None:
            call.answer(answer)
        broker.pump()
        return call.reserved

    def end_waits(self) -> None:
        """End every wait: the queue is being closed."""
        for call in list(self.waits):
            call.leave()
            self.fire(call.reserved, QueueClosed("the queue was closed"))


@define(eq=False, repr=False)
class _ReserveCall:
    """A call of `reserve_many` (a Receiver): a client until it is answered, then `holder` is."""

    calls: _Calls
    holder: Client
    client: Client = field(init=False)
    reserved: Deferred[list[Event]] = field(init=False)

    def answer(self, answer: Delivered) -> None:
        self.calls.fire(self.reserved, self._accept(answer))

    def _accept(self, answer: Delivered) -> list[Event] | QueueError:
        try:
            if answer is Refusal.INTERNAL_ERROR:
                return QueueUnavailable(_UNREADABLE)
            if isinstance(answer, Refusal):
                return []
            for event, _ in answer:
                self.calls.broker.core.transfer(event, self.holder)
            return [self.calls.event(event, body) for event, body in answer]
        finally:
            self.leave()

    def leave(self) -> None:
        """Stop waiting."""
        self.calls.waits.pop(self, None)
        if not self.client.closed:
            self.calls.broker.disconnect(self.client)

    def resume(self) -> None:
        """Do nothing: only _Calls is woken."""

    def abort(self) -> None:
        self.calls.fire(self.reserved, QueueUnavailable("the events could not be passed on"))


def _handled_receipt(event: Event) -> Receipt | None:
    """Return the receipt of an event that a transaction has removed; None of another one."""
    receipt = check_event(event).receipt
    return receipt if isinstance(receipt, Receipt) and receipt.is_handled else None


def _handled(row: Kept) -> Handled:
    event = Event(
        id=str(row.id),
        type=row.tube,
        body=row.body or b"",
        priority=row.pri,
        delay=row.delay,
        ttr=row.ttr,
        attempts=row.reserves,
        timeouts=row.timeouts,
        releases=row.releases,
        buries=row.buries,
        kicks=row.kicks,
    )
    times = (row.created, row.reserved_at, row.settled_at)
    return Handled(event, row.outcome, row.result, row.error, *times)
