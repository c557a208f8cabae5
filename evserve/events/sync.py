"""The queue for plain synchronous Python: Flask, Django, scripts, threads.

    from evserve.events.sync import open_queue

    with open_queue("beanstalk://127.0.0.1:11300") as queue:
        queue.put("image.uploaded", b"cat.png")

The engines are the same, and so are their promises. They run on a reactor of their own, in one
daemon thread of the process, which starts with the first queue; the reactor that a Twisted program
installs is neither imported nor used. Any thread may call any method, which waits for the answer;
Ctrl-C interrupts it. Don't call it in a reactor's thread, which it would block. What the engines
log goes to Python's logger `evserve`, unless the program is Twisted's.

A process made by os.fork(), such as a worker of gunicorn, gets a thread and connections of its
own at its first call. A `memory:` queue, and an event that was reserved before, are the parent's.
"""

import atexit
import os
import sys
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.pollreactor import PollReactor
from twisted.logger import ILogObserver, LogEvent, STDLibLogObserver, globalLogPublisher
from twisted.python import threadable
from twisted.python.failure import Failure
from zope.interface import implementer

from evserve.events.engines import open_queue as open_engine
from evserve.events.errors import NotReserved, QueueClosed, QueueError, QueueUnavailable
from evserve.events.event import DEFAULT_PRIORITY, DEFAULT_TTR, Event, Handled, State, Stored
from evserve.events.event_queue import Capability, Depth, EventQueue


__all__ = ["QueueError", "SyncQueue", "open_queue"]

T = TypeVar("T")

_PATIENCE: Final = 2.0
"""Seconds that the end of the process waits for each queue to close."""


def open_queue(url: str) -> "SyncQueue":
    """Return the queue at `url`, as evserve.events.open_queue does; raises QueueError."""
    queue = SyncQueue(url)
    queue.open()
    return queue


def _opened(url: str, reactor: Any) -> EventQueue:
    engine = open_engine(url, reactor)
    engine.open()
    return engine


@define(eq=False)
class _Call(Generic[T]):
    """A call of an engine, which is made in the reactor's thread and waited for in another.

    give_back: undoes a result whose caller has stopped waiting.
    """

    make: Callable[[], Deferred[T]]
    give_back: Callable[[T], object] | None = None
    future: "Future[T]" = field(init=False, factory=Future)
    _deferred: Deferred[Any] | None = field(init=False, default=None)
    _abandoned: bool = field(init=False, default=False)

    def begin(self) -> None:
        """Make the call."""
        self._deferred = maybeDeferred(self.make)
        self._deferred.addCallbacks(self._done, self._failed)

    def _done(self, result: T) -> None:
        if self._abandoned and self.give_back is not None:
            self.give_back(result)
        self.future.set_result(result)

    def _failed(self, failure: Failure) -> None:
        self.future.set_exception(failure.value)

    def abandon(self) -> None:
        """End the wait: it was interrupted. A call that changes something takes its course."""
        self._abandoned = True
        if self.give_back is None:
            return
        if self.future.done():
            if self.future.exception() is None:
                self.give_back(self.future.result())
        elif self._deferred is not None:
            self._deferred.cancel()


@implementer(ILogObserver)
@define(eq=False)
class _LoggingObserver:
    """Passes what evserve logs to Python's logging."""

    _observer: STDLibLogObserver = field(factory=lambda: STDLibLogObserver("evserve"))

    def __call__(self, event: LogEvent) -> None:
        if str(event.get("log_namespace")).startswith("evserve."):
            self._observer(event)


_log_observer = _LoggingObserver()


@define(eq=False)
class _ReactorThread:
    """A reactor that runs in a thread.

    It polls: epoll keeps its list of descriptors in the kernel, where a forked child shares it.
    """

    reactor: Any = field(init=False, factory=PollReactor)
    _thread: Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        if threadable.ioThread is not None:  # that of the program's own reactor
            self.reactor._registerAsIOThread = False  # noqa: SLF001 - Twisted has no other way
        if "twisted.internet.reactor" not in sys.modules:
            globalLogPublisher.addObserver(_log_observer)
        self._thread = Thread(target=self._run, name="evserve-events-sync", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.reactor.run(installSignalHandlers=False)

    def call(self, call: _Call[T], timeout: float | None = None) -> T:
        """Make a call and return its result; raises TimeoutError, and what the call raises."""
        self.reactor.callFromThread(call.begin)
        try:
            return call.future.result(timeout)
        except BaseException as error:  # of the call, or KeyboardInterrupt in this thread
            if not (call.future.done() and call.future.exception() is error):
                self.reactor.callFromThread(call.abandon)
            raise

    def forget(self) -> None:
        """Let another thread be the reactor's, in a child that has not got this one."""
        globalLogPublisher.removeObserver(_log_observer)
        if threadable.ioThread == self._thread.ident:
            threadable.ioThread = None

    def stop(self) -> None:
        """Stop the reactor, and wait for the end of its thread."""
        self.reactor.callFromThread(self.reactor.stop)
        self._thread.join(_PATIENCE)


@define(eq=False)
class _Process:
    """What this process has opened. `parents` keeps what a forked child must not finalize."""

    lock: Any = field(factory=Lock)
    thread: _ReactorThread | None = None
    queues: "set[SyncQueue]" = field(factory=set)
    parents: list[object] = field(factory=list)

    def get_thread(self) -> _ReactorThread:
        """Return the reactor's thread, which the first call starts."""
        with self.lock:
            if self.thread is None:
                self.thread = _ReactorThread()
            return self.thread

    def forked(self) -> None:
        """Leave everything to the parent, of which this process is a new child."""
        if self.thread is not None:
            self.thread.forget()
        self.parents.append(self.thread)
        self.lock, self.thread = Lock(), None
        for queue in list(self.queues):
            self.parents.append(queue.forked())

    def end(self) -> None:
        """Close every queue; the process ends."""
        if self.thread is not None:
            for queue in list(self.queues):
                with suppress(Exception):  # it may be out of reach
                    queue.close(_PATIENCE)
            self.thread.stop()


_process = _Process()
os.register_at_fork(after_in_child=_process.forked)
atexit.register(_process.end)


@define(eq=False)
class _Receipt:
    """The engine's receipt, and the process that can use it."""

    receipt: Any
    process: int = field(factory=os.getpid)

    @property
    def transaction(self) -> Callable[[Event], Any]:
        """Begins a transaction, for Event.transaction; raises AttributeError."""
        begin: Callable[[Event], Any] = self.receipt.transaction
        return lambda event: begin(_unwrapped(event))


def _wrapped(event: Event) -> Event:
    return evolve(event, receipt=_Receipt(event.receipt))


def _unwrapped(event: Event) -> Event:
    if not isinstance(event, Event):  # the engine refuses it
        return event
    receipt = event.receipt
    if not isinstance(receipt, _Receipt) or receipt.process != os.getpid():
        raise NotReserved(f"{event} is not reserved in this process")
    return evolve(event, receipt=receipt.receipt)


@define(eq=False)
class SyncQueue:
    """A queue whose methods wait for their answer, and may be called in any thread.

    They have the arguments and results of EventQueue's, and raise what those fail with. A call
    that is interrupted, as by Ctrl-C, may have taken effect; a `reserve` has not.
    """

    url: str
    _lock: Any = field(init=False, factory=Lock)
    _engine: EventQueue | None = field(init=False, default=None)
    _closed: bool = field(init=False, default=False)
    _is_parents: bool = field(init=False, default=False)

    def open(self) -> EventQueue:
        """Return the engine, opened in this process; raises QueueError."""
        with self._lock:
            if self._closed:
                raise QueueClosed("the queue was closed")
            if self._is_parents:
                raise QueueUnavailable("a memory: queue stays in the process that has opened it")
            if self._engine is None:
                thread = _process.get_thread()
                self._engine = thread.call(
                    _Call(lambda: maybeDeferred(_opened, self.url, thread.reactor))
                )
                _process.queues.add(self)
            return self._engine

    def forked(self) -> EventQueue | None:
        """Let go of the engine, which is the parent's; return it."""
        parents, self._engine, self._lock = self._engine, None, Lock()
        self._is_parents = self._is_parents or self.url.startswith("memory:")
        return parents

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self, timeout: float | None = None) -> None:
        """Give back reserved events, end every wait with QueueClosed, and close the engine.

        timeout: seconds to wait for that; then TimeoutError is raised.
        """
        with self._lock:
            self._closed = True
            engine, self._engine = self._engine, None
            _process.queues.discard(self)
        if engine is not None:
            _process.get_thread().call(_Call(engine.close), timeout)

    def _call(
        self,
        method: Callable[[EventQueue], Deferred[T]],
        give_back: Callable[[EventQueue, T], object] | None = None,
    ) -> T:
        engine = self.open()
        undo = None if give_back is None else lambda result: give_back(engine, result)
        return _process.get_thread().call(_Call(lambda: method(engine), undo))

    @property
    def capabilities(self) -> Capability:
        """The optional features that the engine has."""
        return self.open().capabilities

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
    ) -> str:
        """Store an event; returns its id. With `connection`, in the transaction open there."""
        how: dict[str, Any] = {"priority": priority, "delay": delay, "ttr": ttr, "key": key}
        if connection is None:
            return self._call(lambda queue: queue.put(event_type, body, **how))
        # A database connection is used in the thread that it belongs to: this one.
        stored = self.open().put(event_type, body, connection=connection, **how)
        return self._call(lambda _: stored)

    def reserve(self, types: Collection[str], timeout: float | None = None) -> Event | None:
        """Reserve the next ready event of any of `types`; None after `timeout` seconds."""
        event = self._call(lambda queue: queue.reserve(types, timeout), _give_back_one)
        return None if event is None else _wrapped(event)

    def reserve_many(
        self, types: Collection[str], limit: int, timeout: float | None = None
    ) -> list[Event]:
        """Reserve up to `limit` events that are ready when the first one is."""
        events = self._call(lambda queue: queue.reserve_many(types, limit, timeout), _give_back)
        return [_wrapped(event) for event in events]

    def reserve_event(self, event_id: str) -> Event | None:
        """Reserve one event that is ready, delayed or buried; None if it is not."""
        event = self._call(lambda queue: queue.reserve_event(event_id), _give_back_one)
        return None if event is None else _wrapped(event)

    def ack(self, event: Event, *, result: bytes = b"", keep: float = 0) -> None:
        """Remove the reserved `event`: the work is done."""
        held = _unwrapped(event)
        self._call(lambda queue: queue.ack(held, result=result, keep=keep))

    def retry(self, event: Event, delay: float = 0) -> None:
        """Give the reserved `event` back, to be ready after `delay` seconds."""
        held = _unwrapped(event)
        self._call(lambda queue: queue.retry(held, delay))

    def bury(self, event: Event, reason: str, *, keep: float = 0) -> None:
        """Set the reserved `event` aside until an operator kicks it."""
        held = _unwrapped(event)
        self._call(lambda queue: queue.bury(held, reason, keep=keep))

    def touch(self, event: Event) -> None:
        """Restart the TTR of the reserved `event`."""
        held = _unwrapped(event)
        self._call(lambda queue: queue.touch(held))

    def kick(self, event_type: str, limit: int) -> int:
        """Make up to `limit` buried events ready; delayed ones if none is buried."""
        return self._call(lambda queue: queue.kick(event_type, limit))

    def peek(self, event_type: str, state: State = State.READY) -> Stored | None:
        """Show the next event of a type in READY, DELAYED or BURIED."""
        return self._call(lambda queue: queue.peek(event_type, state))

    def find(self, event_id: str) -> Stored | None:
        """Show the event with that id."""
        return self._call(lambda queue: queue.find(event_id))

    def delete(self, event_id: str) -> bool:
        """Remove an event; False if there is none, or a consumer has reserved it."""
        return self._call(lambda queue: queue.delete(event_id))

    def truncate(self, event_type: str) -> int:
        """Remove the events of a type that are not reserved; returns their number."""
        return self._call(lambda queue: queue.truncate(event_type))

    def pause(self, event_type: str, seconds: int) -> None:
        """Reserve nothing from a type for so many seconds; 0 ends a pause."""
        self._call(lambda queue: queue.pause(event_type, seconds))

    def drain(self, *, on: bool) -> None:
        """Refuse every put with QueueFull from now on, or accept them again."""
        self._call(lambda queue: queue.drain(on=on))

    def depth(self, event_type: str) -> Depth:
        """Count the events of a type."""
        return self._call(lambda queue: queue.depth(event_type))

    def types(self) -> list[str]:
        """List the types that exist."""
        return self._call(lambda queue: queue.types())

    def bind(self, source: str, target: str) -> None:
        """From now on, copy every event put under the type `source` to `target` as well."""
        self._call(lambda queue: queue.bind(source, target))

    def unbind(self, source: str, target: str) -> None:
        """End a binding."""
        self._call(lambda queue: queue.unbind(source, target))

    def bindings(self) -> list[tuple[str, str]]:
        """List the bindings, as pairs of source and target, sorted."""
        return self._call(lambda queue: queue.bindings())

    def position(self, sequence: str) -> int | None:
        """Return the number that `sequence` has reached."""
        return self._call(lambda queue: queue.position(sequence))

    def advance(
        self,
        sequence: str,
        number: int,
        event_type: str | None = None,
        body: bytes = b"",
        *,
        priority: int = DEFAULT_PRIORITY,
        ttr: int = DEFAULT_TTR,
    ) -> bool:
        """Move `sequence` forward to `number` and, in the same commit, put an event."""
        return self._call(
            lambda queue: queue.advance(
                sequence, number, event_type, body, priority=priority, ttr=ttr
            )
        )

    def history(self, event_type: str | None = None, limit: int = 100) -> list[Handled]:
        """List what `keep` kept, of one type or of all, the last settled first."""
        return self._call(lambda queue: queue.history(event_type, limit))


def _give_back_one(queue: EventQueue, event: Event | None) -> None:
    if event is not None:
        _give_back(queue, [event])


def _give_back(queue: EventQueue, events: list[Event]) -> None:
    for event in events:
        queue.retry(event).addErrback(lambda _: None)  # it comes back when its TTR ends
