"""MemoryQueue: an EventQueue for tests, as strict as the engines, on the clock of the test.

It is public as evserve.testing.MemoryQueue, and defined here because it changes with EventQueue.
"""

from collections.abc import Callable, Collection
from functools import wraps
from itertools import count
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from attrs import Factory, define, evolve, field
from twisted.internet.defer import Deferred, execute, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from evserve.events.errors import (
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
    Handled,
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
from evserve.events.event_queue import Capability, Depth, EventQueue


P = ParamSpec("P")
T = TypeVar("T")


def _deferred(method: Callable[P, T]) -> Callable[P, Deferred[T]]:
    """Turn what `method` returns or raises into the result of a Deferred."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return execute(method, *args, **kwargs)

    return call


@define(eq=False)
class _Stored:
    """An event in the queue. `timer` ends its delay or its TTR; `put_at` is when it was put."""

    number: int
    event: Event
    key: str | None
    put_at: float
    reserved_at: float = 0
    state: State = State.READY
    timer: IDelayedCall | None = None

    def enter(self, state: State, event: Event, timer: IDelayedCall | None = None) -> None:
        """Change the state, the counters in `event` and the timer."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self.state, self.event, self.timer = state, event, timer

    def order(self) -> tuple[float, int]:
        """Sort the events of one state by what is next; buried ones have their order already."""
        if self.state is State.READY:
            return self.event.priority, self.number
        return (0, 0) if self.timer is None else (self.timer.getTime(), self.number)

    def shown(self, now: float) -> Stored:
        """Return the event as an operator sees it."""
        left = 0 if self.timer is None else max(0, self.timer.getTime() - now)
        return Stored(evolve(self.event, receipt=None), self.state, now - self.put_at, left)


@define(eq=False)
class _Waiter:
    """A call of `reserve_many` that waits. `timer` ends the wait."""

    types: frozenset[str]
    limit: int
    result: Deferred[list[Event]]
    timer: IDelayedCall | None = None


@define(eq=False)
class MemoryQueue:
    """An EventQueue for tests, without a server, which runs on the clock it is given.

        clock = Clock()
        queue = MemoryQueue(clock)
        event = self.successResultOf(queue.reserve(["mail"]))

    Deferreds that need not wait have fired when they are returned. Every call looks at every
    event, which is fine for a hundred of them. `go_away` and `come_back` simulate a lost
    connection.
    """

    clock: IReactorTime
    capabilities: Capability = field(
        default=(
            Capability.LIST_TYPES
            | Capability.FAN_OUT
            | Capability.KEYS
            | Capability.TRUNCATE
            | Capability.SEQUENCES
            | Capability.HISTORY
            | Capability.DRAIN
        ),
        kw_only=True,
    )
    _stored: dict[str, _Stored] = field(init=False, factory=dict)
    _waiters: list[_Waiter] = field(init=False, factory=list)
    _bindings: dict[str, set[str]] = field(init=False, factory=dict)
    _positions: dict[str, int] = field(init=False, factory=dict)
    _history: list[tuple[Handled, float]] = field(init=False, factory=list)
    _numbers: "count[int]" = field(init=False, default=Factory(lambda: count(1)))
    _pauses: dict[str, IDelayedCall] = field(init=False, factory=dict)
    _draining: bool = field(init=False, default=False)
    _refusal: QueueError | None = field(init=False, default=None)

    def open(self) -> None:
        """Do nothing: there is nothing to open."""

    @_deferred
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
        self._check_open()
        check_no_connection(connection)
        event = Event("", *check_put(event_type, body, priority, delay, ttr))
        name = check_key(key)
        if self._draining:
            raise QueueFull("the queue is draining and accepts no events")
        for stored in self._of_type(event.type) if name is not None else []:
            if stored.key == name:
                return stored.event.id
        return self._put(event, name)

    def reserve(
        self, types: Collection[str], timeout: float | None = None
    ) -> Deferred[Event | None]:
        taken = self.reserve_many(types, 1, timeout)
        return taken.addCallback(lambda events: events[0] if events else None)

    def reserve_many(
        self, types: Collection[str], limit: int, timeout: float | None = None
    ) -> Deferred[list[Event]]:
        try:
            self._check_open()
            wanted, most = check_types(types), check_many(limit)
            wait = None if timeout is None else check_seconds("timeout", timeout)
        except QueueError as error:
            return fail(error)
        waiter = _Waiter(wanted, most, Deferred(lambda _: self._leave(waiter)))
        self._waiters.append(waiter)
        self._serve()
        if wait is not None and waiter in self._waiters:
            if wait:
                waiter.timer = self.clock.callLater(wait, self._answer, waiter, [])
            else:
                self._answer(waiter, [])
        return waiter.result

    @_deferred
    def reserve_event(self, event_id: str) -> Event | None:
        stored = self._find(event_id)
        if stored is None or stored.state is State.RESERVED:
            return None
        return self._grant(stored)

    @_deferred
    def ack(self, event: Event, *, result: bytes = b"", keep: float = 0) -> None:
        value, kept_for = check_keep(result, keep)
        stored = self._held(event)
        self._keep(stored, kept_for, "done", value)
        self._remove(stored)

    @_deferred
    def retry(self, event: Event, delay: float = 0) -> None:
        wait, stored = check_seconds("delay", delay), self._held(event)
        released = evolve(stored.event, releases=stored.event.releases + 1, delay=wait)
        self._delay_or_ready(stored, released)
        self._serve()

    @_deferred
    def bury(self, event: Event, reason: str, *, keep: float = 0) -> None:
        text, kept_for = check_reason(reason), check_seconds("keep", keep)
        stored = self._held(event)
        held = stored.event
        self._keep(stored, kept_for, "buried", error=kept_reason(text))
        if held.type != ERRORS:
            self._put(Event("", ERRORS, error_record(held, text, self.clock.seconds())))
        stored.enter(State.BURIED, evolve(held, buries=held.buries + 1))
        self._stored[held.id] = self._stored.pop(held.id)  # behind those buried before

    @_deferred
    def touch(self, event: Event) -> None:
        stored = self._held(event)
        self._start_ttr(stored, stored.event)

    @_deferred
    def kick(self, event_type: str, limit: int) -> int:
        most, buried = check_number("limit", limit), self._in_order(event_type, State.BURIED)
        kicked = (buried or self._in_order(event_type, State.DELAYED))[:most]
        for each in kicked:
            each.enter(State.READY, evolve(each.event, kicks=each.event.kicks + 1))
        self._serve()
        return len(kicked)

    @_deferred
    def peek(self, event_type: str, state: State = State.READY) -> Stored | None:
        found = self._in_order(event_type, check_shown_state(state))
        return found[0].shown(self.clock.seconds()) if found else None

    @_deferred
    def find(self, event_id: str) -> Stored | None:
        stored = self._find(event_id)
        return None if stored is None else stored.shown(self.clock.seconds())

    @_deferred
    def delete(self, event_id: str) -> bool:
        stored = self._find(event_id)
        if stored is None or stored.state is State.RESERVED:
            return False
        self._remove(stored)
        return True

    @_deferred
    def truncate(self, event_type: str) -> int:
        removed = [e for e in self._of_type(event_type) if e.state is not State.RESERVED]
        for each in removed:
            self._remove(each)
        return len(removed)

    @_deferred
    def pause(self, event_type: str, seconds: int) -> None:
        self._check_open()
        name, length = check_type(event_type), check_number("seconds", seconds)
        if name in self._pauses:
            self._pauses.pop(name).cancel()
        if length:
            self._pauses[name] = self.clock.callLater(length, self._end_pause, name)
        self._serve()

    @_deferred
    def drain(self, *, on: bool) -> None:
        self._check_open()
        self._draining = on

    @_deferred
    def depth(self, event_type: str) -> Depth:
        states = [each.state for each in self._of_type(event_type)]
        pause = self._pauses.get(check_type(event_type))
        paused = 0 if pause is None else pause.getTime() - self.clock.seconds()
        ready, reserved, delayed, buried = (states.count(state) for state in State)
        return Depth(ready, reserved, delayed, buried, paused)

    @_deferred
    def types(self) -> list[str]:
        self._check_open()
        return sorted({each.event.type for each in self._stored.values()})

    @_deferred
    def bind(self, source: str, target: str) -> None:
        self._check_open()
        bound, copied_to = check_binding(source, target)
        self._bindings.setdefault(bound, set()).add(copied_to)

    @_deferred
    def unbind(self, source: str, target: str) -> None:
        self._check_open()
        bound, copied_to = check_binding(source, target)
        self._bindings.get(bound, set()).discard(copied_to)

    @_deferred
    def bindings(self) -> list[tuple[str, str]]:
        self._check_open()
        return sorted((each, to) for each, targets in self._bindings.items() for to in targets)

    @_deferred
    def position(self, sequence: str) -> int | None:
        self._check_open()
        return self._positions.get(check_type(sequence))

    @_deferred
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
        self._check_open()
        name, wanted = check_sequence(sequence, number)
        checked = None if event_type is None else check_put(event_type, body, priority, 0, ttr)
        if wanted <= self._positions.get(name, -1):
            return False
        if checked is not None and self._draining:
            raise QueueFull("the queue is draining and accepts no events")
        self._positions[name] = wanted
        if checked is not None:
            self._put(Event("", *checked))
        return True

    @_deferred
    def history(self, event_type: str | None = None, limit: int = 100) -> list[Handled]:
        self._check_open()
        (wanted, most), now = check_history(event_type, limit), self.clock.seconds()
        self._history = [each for each in self._history if each[1] > now]
        found = [each for each, _ in self._history if wanted in (None, each.event.type)]
        return found[: -most - 1 : -1]

    @_deferred
    def close(self) -> None:
        self._interrupt(QueueClosed("the queue was closed"))
        for timer in (*self._pauses.values(), *(each.timer for each in self._stored.values())):
            if timer is not None and timer.active():
                timer.cancel()

    def go_away(self) -> None:
        """Lose the connection: reserved events are ready again, and every call fails."""
        self._interrupt(QueueUnavailable("the connection was lost"))

    def come_back(self) -> None:
        """Answer calls again, after `go_away`."""
        self._refusal = None

    def _check_open(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    def _interrupt(self, refusal: QueueError) -> None:
        self._refusal = refusal
        for stored in self._in_state(State.RESERVED):
            stored.enter(State.READY, stored.event)
        for waiter in list(self._waiters):
            self._leave(waiter)
            waiter.result.errback(refusal)

    def _put(self, event: Event, key: str | None = None) -> str:
        event_id = self._store(event, key)
        for target in sorted(self._bindings.get(event.type, set())):
            self._store(evolve(event, type=target))
        self._serve()
        return event_id

    def _store(self, event: Event, key: str | None = None) -> str:
        number = next(self._numbers)
        stored = _Stored(number, evolve(event, id=str(number)), key, self.clock.seconds())
        self._stored[stored.event.id] = stored
        self._delay_or_ready(stored, stored.event)
        return stored.event.id

    def _delay_or_ready(self, stored: _Stored, event: Event) -> None:
        if event.delay:
            timer = self.clock.callLater(event.delay, self._ready, stored)
            stored.enter(State.DELAYED, event, timer)
        else:
            stored.enter(State.READY, event)

    def _ready(self, stored: _Stored) -> None:
        stored.enter(State.READY, stored.event)
        self._serve()

    def _end_pause(self, event_type: str) -> None:
        del self._pauses[event_type]
        self._serve()

    def _serve(self) -> None:
        """Give ready events to the calls of `reserve` that wait, first come, first served."""
        for waiter in list(self._waiters):
            # The one served before may have cancelled others.
            if waiter in self._waiters and (events := self._take(waiter)):
                self._answer(waiter, events)

    def _take(self, waiter: _Waiter) -> list[Event]:
        types = waiter.types - self._pauses.keys()
        ready = [each for each in self._in_state(State.READY) if each.event.type in types]
        return [self._grant(each) for each in sorted(ready, key=_Stored.order)[: waiter.limit]]

    def _grant(self, stored: _Stored) -> Event:
        event = evolve(stored.event, attempts=stored.event.attempts + 1, receipt=object())
        stored.reserved_at = self.clock.seconds()
        self._start_ttr(stored, event)
        return event

    def _start_ttr(self, stored: _Stored, event: Event) -> None:
        timer = self.clock.callLater(event.ttr, self._overrun, stored)
        stored.enter(State.RESERVED, event, timer)

    def _keep(
        self, stored: _Stored, keep: float, outcome: str, result: bytes = b"", error: str = ""
    ) -> None:
        if keep:
            now = self.clock.seconds()
            event = evolve(stored.event, receipt=None)
            times = (stored.put_at, stored.reserved_at, now)
            self._history.append((Handled(event, outcome, result, error, *times), now + keep))

    def _overrun(self, stored: _Stored) -> None:
        stored.event = evolve(stored.event, timeouts=stored.event.timeouts + 1)
        self._ready(stored)

    def _answer(self, waiter: _Waiter, events: list[Event]) -> None:
        self._leave(waiter)
        waiter.result.callback(events)

    def _leave(self, waiter: _Waiter) -> None:
        self._waiters.remove(waiter)
        if waiter.timer is not None and waiter.timer.active():
            waiter.timer.cancel()

    def _held(self, event: Event) -> _Stored:
        self._check_open()
        stored = self._stored.get(check_event(event).id)
        if (
            stored is None
            or stored.state is not State.RESERVED
            or stored.event.receipt is not event.receipt
        ):
            raise NotReserved(f"{event} is not reserved here any more")
        return stored

    def _find(self, event_id: str) -> _Stored | None:
        self._check_open()
        return self._stored.get(str(check_id(event_id)))

    def _remove(self, stored: _Stored) -> None:
        stored.enter(State.READY, stored.event)
        del self._stored[stored.event.id]

    def _in_state(self, state: State) -> list[_Stored]:
        return [each for each in self._stored.values() if each.state is state]

    def _of_type(self, event_type: str) -> list[_Stored]:
        self._check_open()
        wanted = check_type(event_type)
        return [each for each in self._stored.values() if each.event.type == wanted]

    def _in_order(self, event_type: str, state: State) -> list[_Stored]:
        own = [each for each in self._of_type(event_type) if each.state is state]
        return sorted(own, key=_Stored.order)


if TYPE_CHECKING:
    _conforms: type[EventQueue] = MemoryQueue
