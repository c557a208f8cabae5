"""MemoryQueue: an EventQueue for tests, as strict as the engines, on the clock of the test.

It is public as evserve.testing.MemoryQueue, and defined here because it changes with EventQueue.
"""

from collections.abc import Callable, Collection
from enum import Enum, auto
from functools import wraps
from itertools import count
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from attrs import Factory, define, evolve, field
from twisted.internet.defer import Deferred, execute, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from evserve.events.errors import NotReserved, QueueClosed, QueueError, QueueUnavailable
from evserve.events.event import (
    DEFAULT_PRIORITY,
    DEFAULT_TTR,
    ERRORS,
    Event,
    Handled,
    check_binding,
    check_event,
    check_history,
    check_keep,
    check_number,
    check_put,
    check_reason,
    check_seconds,
    check_sequence,
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


class _State(Enum):
    """In the order of the fields of Depth."""

    READY = auto()
    RESERVED = auto()
    DELAYED = auto()
    BURIED = auto()


@define(eq=False)
class _Stored:
    """An event in the queue. `timer` ends its delay or its TTR."""

    number: int
    event: Event
    put_at: float
    reserved_at: float = 0
    state: _State = _State.READY
    timer: IDelayedCall | None = None

    def enter(self, state: _State, event: Event, timer: IDelayedCall | None = None) -> None:
        """Change the state, the counters in `event` and the timer."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self.state, self.event, self.timer = state, event, timer


@define(eq=False)
class _Waiter:
    """A call of `reserve` that waits. `timer` ends the wait."""

    types: frozenset[str]
    result: Deferred[Event | None]
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
        default=Capability.LIST_TYPES
        | Capability.FAN_OUT
        | Capability.SEQUENCES
        | Capability.HISTORY,
        kw_only=True,
    )
    _stored: dict[str, _Stored] = field(init=False, factory=dict)
    _waiters: list[_Waiter] = field(init=False, factory=list)
    _bindings: dict[str, set[str]] = field(init=False, factory=dict)
    _positions: dict[str, int] = field(init=False, factory=dict)
    _history: list[tuple[Handled, float]] = field(init=False, factory=list)
    _numbers: "count[int]" = field(init=False, default=Factory(lambda: count(1)))
    _refusal: QueueError | None = field(init=False, default=None)

    @_deferred
    def put(
        self,
        event_type: str,
        body: bytes,
        *,
        priority: int = DEFAULT_PRIORITY,
        delay: float = 0,
        ttr: int = DEFAULT_TTR,
    ) -> str:
        self._check_open()
        return self._put(Event("", *check_put(event_type, body, priority, delay, ttr)))

    def reserve(
        self, types: Collection[str], timeout: float | None = None
    ) -> Deferred[Event | None]:
        try:
            self._check_open()
            wanted = check_types(types)
            wait = None if timeout is None else check_seconds("timeout", timeout)
        except QueueError as error:
            return fail(error)
        waiter = _Waiter(wanted, Deferred(lambda _: self._leave(waiter)))
        self._waiters.append(waiter)
        self._serve()
        if wait is not None and waiter in self._waiters:
            if wait:
                waiter.timer = self.clock.callLater(wait, self._answer, waiter, None)
            else:
                self._answer(waiter, None)
        return waiter.result

    @_deferred
    def ack(self, event: Event, *, result: bytes = b"", keep: float = 0) -> None:
        value, kept_for = check_keep(result, keep)
        stored = self._held(event)
        self._keep(stored, kept_for, "done", value)
        stored.enter(_State.READY, stored.event)
        del self._stored[stored.event.id]

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
        stored.enter(_State.BURIED, evolve(held, buries=held.buries + 1))

    @_deferred
    def touch(self, event: Event) -> None:
        stored = self._held(event)
        self._start_ttr(stored, stored.event)

    @_deferred
    def kick(self, event_type: str, limit: int) -> int:
        most, own = check_number("limit", limit), self._of_type(event_type)
        buried = [each for each in own if each.state is _State.BURIED]
        kicked = (buried or [each for each in own if each.state is _State.DELAYED])[:most]
        for each in kicked:
            each.enter(_State.READY, evolve(each.event, kicks=each.event.kicks + 1))
        self._serve()
        return len(kicked)

    @_deferred
    def depth(self, event_type: str) -> Depth:
        states = [each.state for each in self._of_type(event_type)]
        return Depth(*(states.count(state) for state in _State))

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
        for stored in self._in_state(_State.RESERVED):
            stored.enter(_State.READY, stored.event)
        for waiter in list(self._waiters):
            self._leave(waiter)
            waiter.result.errback(refusal)

    def _put(self, event: Event) -> str:
        event_id = self._store(event)
        for target in sorted(self._bindings.get(event.type, set())):
            self._store(evolve(event, type=target))
        self._serve()
        return event_id

    def _store(self, event: Event) -> str:
        number = next(self._numbers)
        stored = _Stored(number, evolve(event, id=str(number)), self.clock.seconds())
        self._stored[stored.event.id] = stored
        self._delay_or_ready(stored, stored.event)
        return stored.event.id

    def _delay_or_ready(self, stored: _Stored, event: Event) -> None:
        if event.delay:
            timer = self.clock.callLater(event.delay, self._ready, stored)
            stored.enter(_State.DELAYED, event, timer)
        else:
            stored.enter(_State.READY, event)

    def _ready(self, stored: _Stored) -> None:
        stored.enter(_State.READY, stored.event)
        self._serve()

    def _serve(self) -> None:
        """Give ready events to the calls of `reserve` that wait, first come, first served."""
        for waiter in list(self._waiters):
            # The one served before may have cancelled others.
            if waiter in self._waiters and (event := self._take(waiter.types)) is not None:
                self._answer(waiter, event)

    def _take(self, types: frozenset[str]) -> Event | None:
        ready = [each for each in self._in_state(_State.READY) if each.event.type in types]
        if not ready:
            return None
        stored = min(ready, key=lambda each: (each.event.priority, each.number))
        event = evolve(stored.event, attempts=stored.event.attempts + 1, receipt=object())
        stored.reserved_at = self.clock.seconds()
        self._start_ttr(stored, event)
        return event

    def _start_ttr(self, stored: _Stored, event: Event) -> None:
        timer = self.clock.callLater(event.ttr, self._overrun, stored)
        stored.enter(_State.RESERVED, event, timer)

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

    def _answer(self, waiter: _Waiter, event: Event | None) -> None:
        self._leave(waiter)
        waiter.result.callback(event)

    def _leave(self, waiter: _Waiter) -> None:
        self._waiters.remove(waiter)
        if waiter.timer is not None and waiter.timer.active():
            waiter.timer.cancel()

    def _held(self, event: Event) -> _Stored:
        self._check_open()
        stored = self._stored.get(check_event(event).id)
        if (
            stored is None
            or stored.state is not _State.RESERVED
            or stored.event.receipt is not event.receipt
        ):
            raise NotReserved(f"{event} is not reserved here any more")
        return stored

    def _in_state(self, state: _State) -> list[_Stored]:
        return [each for each in self._stored.values() if each.state is state]

    def _of_type(self, event_type: str) -> list[_Stored]:
        self._check_open()
        wanted = check_type(event_type)
        return [each for each in self._stored.values() if each.event.type == wanted]


if TYPE_CHECKING:
    _conforms: type[EventQueue] = MemoryQueue
