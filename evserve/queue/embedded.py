"""The queue inside one's own process: `sqlite:///path` and `memory:` as an EventQueue.

The same core and store as the server's, without a port: good for a program that is its own and
only producer and consumer. One process at a time can open a path.
"""

from collections.abc import Collection, Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from evserve.events.engines import QueueURL
from evserve.events.errors import (
    BadEvent,
    BadQueueURL,
    NotReserved,
    QueueClosed,
    QueueError,
    QueueFull,
    QueueUnavailable,
)
from evserve.events.event import (
    DEFAULT_PRIORITY,
    DEFAULT_TTR,
    ERRORS,
    Event,
    check_number,
    check_put,
    check_type,
    check_types,
    error_record,
)
from evserve.events.event_queue import Capability, Depth, EventQueue
from evserve.queue.core import Answer, Book, Change, Core, Duplicate
from evserve.queue.engine import Engine
from evserve.queue.model import Client, Limits, Refusal, State, Tube
from evserve.queue.model import Event as Stored
from evserve.queue.service import MOST_JOB_SIZE, RESIDENT
from evserve.queue.sqlite import SQLiteStore
from evserve.queue.store import (
    Binding,
    InlineWriter,
    MemoryStore,
    Outcome,
    StoreError,
    ThreadWriter,
)


@define(eq=False, repr=False)
class _Promise:
    """A ticket whose Deferred fires when the commit has been made."""

    calls: "Calls"
    fired: Deferred[None]

    def settle(self, outcome: Outcome) -> None:
        """See Ticket."""
        failure: QueueError | None = None
        if outcome is Outcome.FULL:
            failure = QueueFull("the disk is full")
        elif outcome is Outcome.BROKEN:
            failure = QueueUnavailable("the store has failed; the log says how")
        self.calls.fire(self.fired, failure)


@define(eq=False, repr=False)
class _Wait:
    """One call of `reserve`: a client of the core until it is answered, then `holder` holds."""

    calls: "Calls"
    holder: Client
    client: Client = field(init=False)
    fired: Deferred[Event | None] = field(init=False)

    def answer(self, answer: Answer) -> None:
        """See Party."""
        self.calls.fire(self.fired, self.accept(answer))

    def accept(self, answer: Answer) -> Event | QueueError | None:
        """Turn the core's answer into the caller's, and leave the line."""
        engine = self.calls.engine
        try:
            if isinstance(answer, Refusal):
                return None
            [stored] = answer
            engine.core.line.hand_over(stored, self.holder)
            return _event(stored, engine.body(stored))
        except StoreError as error:
            return QueueUnavailable(str(error))
        finally:
            self.leave()

    def leave(self) -> None:
        """Wait no more."""
        self.calls.waits.pop(self, None)
        if not self.client.closed:
            self.calls.engine.disconnect(self.client)

    def resume(self) -> None:
        """See Party; nobody wakes it."""

    def abandon(self) -> None:
        """See Party."""
        self.calls.fire(self.fired, QueueUnavailable("the event could not be handed over"))


@define(eq=False, repr=False)
class Calls:
    """A Party: what it was asked to fire, it fires when it is resumed."""

    engine: Engine
    waits: dict[_Wait, None] = field(init=False, factory=dict)
    _fired: list[tuple[Deferred[Any], object]] = field(init=False, factory=list)

    def fire(self, deferred: Deferred[Any], result: object) -> None:
        """Let `deferred` have `result`, or fail with it, soon."""
        self._fired.append((deferred, result))
        self.engine.wake(self)

    def answer(self, answer: Answer) -> None:
        """See Party; this client never waits."""

    def resume(self) -> None:
        """See Party."""
        fired, self._fired = self._fired, []
        for deferred, result in fired:
            if not deferred.called:
                deferred.callback(Failure(result) if isinstance(result, QueueError) else result)
            elif isinstance(result, Event):
                self._return(result)

    def abandon(self) -> None:
        """See Party. What callbacks raise is their Deferred's: nothing else can have been lost."""

    def commit(self, *changes: Change) -> Deferred[None]:
        """Have `changes` committed."""
        fired: Deferred[None] = Deferred()
        self.engine.stage(_Promise(self, fired), *changes)
        self.engine.pump()
        return fired

    def store(self, binding: Binding) -> Deferred[None]:
        """Have a binding committed."""
        fired: Deferred[None] = Deferred()
        self.engine.bind(_Promise(self, fired), binding)
        self.engine.pump()
        return fired

    def reserve(
        self, holder: Client, types: Iterable[str], timeout: float | None
    ) -> Deferred[Event | None]:
        """Wait for an event of `types`, to be held by `holder`."""
        engine = self.engine
        engine.tick()
        wait = _Wait(self, holder)
        wait.client = engine.connect(wait, types)
        wait.fired = Deferred(lambda _: wait.leave())
        self.waits[wait] = None
        answer = engine.core.line.reserve(wait.client, engine.now(), timeout)
        if answer is not None:
            wait.answer(answer)
        engine.pump()
        return wait.fired

    def end(self) -> None:
        """End every wait: the queue is being closed."""
        for wait in list(self.waits):
            wait.leave()
            self.fire(wait.fired, QueueClosed("the queue was closed"))

    def _return(self, event: Event) -> None:
        """Make ready again what came just when its caller stopped waiting."""
        line, stored = self.engine.core.line, self.engine.core.book.events[int(event.id)]
        if stored.owner is not None:
            stored.owner.let_go(stored)
            stored.owner = None
            line.give_back(stored)
            line.serve((stored.tube,), self.engine.now())


def _event(stored: Stored, body: bytes) -> Event:
    return Event(
        id=str(stored.id),
        type=stored.tube.name,
        body=body,
        priority=stored.pri,
        delay=stored.delay,
        ttr=stored.ttr,
        attempts=stored.reserves,
        timeouts=stored.timeouts,
        releases=stored.releases,
        buries=stored.buries,
        kicks=stored.kicks,
        receipt=stored.reserves,
    )


T = TypeVar("T")

# How many events of one kick go into one commit.
_CHUNK: Final = 256


def open_engine(url: QueueURL, reactor: Any) -> EventQueue:
    """Open what `sqlite:` and `memory:` name; see evserve.events.engines."""
    if url.host is not None:
        raise BadQueueURL(f"{url.text!r}: write sqlite:///absolute/path or sqlite:relative/path")
    if url.scheme == "memory":
        if url.path:
            raise BadQueueURL(f"{url.text!r}: memory: takes nothing more")
        return EmbeddedQueue(_memory_engine(reactor))
    if not url.path:
        raise BadQueueURL(f"{url.text!r} names no file")
    try:
        return EmbeddedQueue(_sqlite_engine(Path(url.path), reactor))
    except StoreError as error:
        raise QueueUnavailable(str(error)) from error


def _memory_engine(clock: IReactorTime) -> Engine:
    store = MemoryStore()
    return Engine(Core(), store, InlineWriter(store), clock)


def _sqlite_engine(path: Path, reactor: Any) -> Engine:
    store = SQLiteStore.open(path)
    book = Book(Limits(resident=RESIDENT))
    try:
        store.load(book)
    except StoreError:
        store.close()
        raise
    return Engine(Core(book), store, ThreadWriter(store, reactor.callFromThread), reactor)


@define(eq=False, repr=False)
class EmbeddedQueue:
    """See EventQueue. What was reserved is held by one client of the core.

    An event's receipt is how often it has been reserved: a later reservation has another.
    """

    engine: Engine
    _calls: Calls = field(init=False)
    _client: Client = field(init=False)
    _closers: list[Deferred[None]] = field(init=False, factory=list)
    _closed: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._calls = Calls(self.engine)
        self._client = self.engine.connect(self._calls)

    @property
    def capabilities(self) -> Capability:
        """See EventQueue."""
        kept = Capability.DURABLE if self.engine.store.durable else Capability(0)
        return kept | Capability.LIST_TYPES | Capability.FAN_OUT

    def put(
        self,
        event_type: str,
        body: bytes,
        *,
        priority: int = DEFAULT_PRIORITY,
        delay: float = 0,
        ttr: int = DEFAULT_TTR,
    ) -> Deferred[str]:
        """See EventQueue."""
        return self._run(self._put(event_type, body, priority, delay, ttr))

    async def _put(
        self, event_type: str, body: bytes, priority: int, delay: float, ttr: int
    ) -> str:
        check_put(event_type, body, priority, delay, ttr)
        if len(body) > MOST_JOB_SIZE:
            raise BadEvent(f"a body of {len(body)} bytes; at most {MOST_JOB_SIZE} are allowed")
        core = self.engine.core
        tube = core.book.tube(event_type)
        changes = core.ledger.put(
            tube, body, self.engine.now(), pri=priority, delay=delay, ttr=ttr
        )
        if isinstance(changes, Refusal | Duplicate):
            raise QueueFull("the queue is full")
        await self._calls.commit(*changes)
        return str(changes[0].event.id)

    def reserve(
        self, types: Collection[str], timeout: float | None = None
    ) -> Deferred[Event | None]:
        """See EventQueue."""
        try:
            self._check_open()
            wanted = sorted(check_types(types))
        except QueueError as error:
            return fail(error)
        return self._calls.reserve(self._client, wanted, timeout)

    def ack(self, event: Event) -> Deferred[None]:
        """See EventQueue."""
        return self._run(self._ack(event))

    async def _ack(self, event: Event) -> None:
        stored = self._held(event)
        await self._commit(self.engine.core.ledger.delete(self._client, stored.id))

    def retry(self, event: Event, delay: float = 0) -> Deferred[None]:
        """See EventQueue."""
        return self._run(self._retry(event, delay))

    async def _retry(self, event: Event, delay: float) -> None:
        check_number("delay", delay, int | float, least=0)
        stored, ledger = self._held(event), self.engine.core.ledger
        now = self.engine.now()
        await self._commit(
            ledger.release(self._client, stored.id, now, pri=stored.pri, delay=delay)
        )

    def bury(self, event: Event, reason: str) -> Deferred[None]:
        """See EventQueue."""
        return self._run(self._bury(event, reason))

    async def _bury(self, event: Event, reason: str) -> None:
        self._held(event)
        if event.type != ERRORS:
            record = error_record(event, reason, self.engine.now())
            await self._put(ERRORS, record, DEFAULT_PRIORITY, 0, DEFAULT_TTR)
        stored, now = self._held(event), self.engine.now()
        ledger = self.engine.core.ledger
        await self._commit(ledger.bury(self._client, stored.id, now, pri=stored.pri))

    def touch(self, event: Event) -> Deferred[None]:
        """See EventQueue."""
        return self._run(self._touch(event))

    async def _touch(self, event: Event) -> None:
        stored, ledger = self._held(event), self.engine.core.ledger
        await self._commit(ledger.touch(self._client, stored.id, self.engine.now()))

    def kick(self, event_type: str, limit: int) -> Deferred[int]:
        """See EventQueue."""
        return self._run(self._kick(event_type, limit))

    async def _kick(self, event_type: str, limit: int) -> int:
        tube, ledger = self._tube(event_type), self.engine.core.ledger
        if tube is None:
            return 0
        state, kicked = State.BURIED if tube.buried else State.DELAYED, 0
        while changes := ledger.kick(tube, state, min(limit - kicked, _CHUNK)):
            await self._calls.commit(*changes)
            kicked += len(changes)
        return kicked

    def depth(self, event_type: str) -> Deferred[Depth]:
        """See EventQueue."""
        return self._run(self._depth(event_type))

    async def _depth(self, event_type: str) -> Depth:
        tube = self._tube(event_type)
        if tube is None:
            return Depth()
        return Depth(tube.ready, tube.reserved, tube.delayed, len(tube.buried))

    def _tube(self, event_type: str) -> Tube | None:
        return self.engine.core.book.tubes.get(check_type(event_type))

    def types(self) -> Deferred[list[str]]:
        """See EventQueue."""
        return self._run(self._types())

    async def _types(self) -> list[str]:
        return list(self.engine.core.book.tubes)

    def bind(self, source: str, target: str) -> Deferred[None]:
        """See EventQueue."""
        return self._run(self._bind(source, target, bound=True))

    def unbind(self, source: str, target: str) -> Deferred[None]:
        """See EventQueue."""
        return self._run(self._bind(source, target, bound=False))

    async def _bind(self, source: str, target: str, *, bound: bool) -> None:
        book = self.engine.core.book
        binding = Binding(check_type(source), check_type(target), bound)
        was_bound = target in book.bindings.get(source, {})
        if source == target or bound is was_bound:
            return
        do, undo = (book.bind, book.unbind) if bound else (book.unbind, book.bind)
        do(source, target)
        try:
            await self._calls.store(binding)
        except QueueError:
            undo(source, target)
            raise

    def close(self) -> Deferred[None]:
        """See EventQueue."""
        closed: Deferred[None] = Deferred()
        if self._closed and not self._closers:
            return succeed(None)
        self._closers.append(closed)
        if not self._closed:
            self._closed = True
            self._calls.end()
            self.engine.disconnect(self._client)
            self.engine.close().addCallback(self._end)
        return closed

    def _end(self, result: None) -> None:
        closers, self._closers = self._closers, []
        for closed in closers:
            closed.callback(None)

    def _check_open(self) -> None:
        if self._closed:
            raise QueueClosed("the queue was closed")

    def _held(self, event: Event) -> Stored:
        number = int(event.id) if event.id.isdigit() else 0
        stored = self.engine.core.book.events.get(number)
        if stored is None or stored.owner is not self._client or stored.reserves != event.receipt:
            raise NotReserved(f"event {event.id} ({event.type}) is not reserved here any more")
        return stored

    async def _commit(self, change: Change | Refusal) -> None:
        assert isinstance(change, Change)  # `_held` has made sure
        await self._calls.commit(change)

    def _run(self, call: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
        if self._closed:
            call.close()
            return fail(QueueClosed("the queue was closed"))
        self.engine.tick()
        return Deferred.fromCoroutine(call)


if TYPE_CHECKING:
    _conforms: type[EventQueue] = EmbeddedQueue
