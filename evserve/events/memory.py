"""MemoryQueue: a test double as strict as the engines, on a clock of the test's own.

It is public as evserve.testing.MemoryQueue, and stands here because it changes with the seam.
"""

from collections.abc import Callable, Collection
from functools import wraps
from itertools import count
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from attrs import Factory, define, evolve, field
from twisted.internet.defer import Deferred, execute, fail
from twisted.internet.interfaces import IReactorTime

from evserve.events.errors import NotReserved, QueueClosed, QueueError, QueueUnavailable
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
from evserve.events.stored import State, Stored
from evserve.events.waiting import WaitingConsumers


P = ParamSpec("P")
T = TypeVar("T")


def _answered(method: Callable[P, T]) -> Callable[P, Deferred[T]]:
    """Make a method that returns or raises one whose Deferred does."""

    @wraps(method)
    def answer(*args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return execute(method, *args, **kwargs)

    return answer


@define(eq=False)
class MemoryQueue:
    """An EventQueue for tests, without a server, which runs on the clock it is given.

        clock = Clock()
        queue = MemoryQueue(clock)
        event = self.successResultOf(queue.reserve(["mail"]))

    Deferreds that need not wait have fired when they are returned. Every call looks at every
    event, which is fine for a hundred of them. `go_away` and `come_back` play a lost connection.
    """

    clock: IReactorTime
    capabilities: Capability = field(
        default=Capability.LIST_TYPES | Capability.FAN_OUT, kw_only=True
    )
    _stored: dict[str, Stored] = field(init=False, factory=dict)
    _waiting: WaitingConsumers = field(
        init=False, default=Factory(lambda self: WaitingConsumers(self.clock), takes_self=True)
    )
    _bindings: dict[str, set[str]] = field(init=False, factory=dict)
    _numbers: "count[int]" = field(init=False, default=Factory(lambda: count(1)))
    _refusal: QueueError | None = field(init=False, default=None)

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
        event = Event("", event_type, body, priority, delay, ttr)
        return execute(self._put, event)

    def _put(self, event: Event) -> str:
        self._check_open()
        check_put(event.type, event.body, event.priority, event.delay, event.ttr)
        stored = self._store(event)
        for target in sorted(self._bindings.get(event.type, set()) - {event.type}):
            self._store(evolve(event, type=target))
        self._serve()
        return stored.event.id

    def _store(self, event: Event) -> Stored:
        number = next(self._numbers)
        stored = Stored(number, evolve(event, id=str(number)))
        self._stored[stored.event.id] = stored
        self._wait_or_ready(stored, stored.event)
        return stored

    def _wait_or_ready(self, stored: Stored, event: Event) -> None:
        if event.delay:
            timer = self.clock.callLater(event.delay, self._ready, stored)
            stored.enter(State.DELAYED, event, timer)
        else:
            stored.enter(State.READY, event)

    def _ready(self, stored: Stored) -> None:
        stored.enter(State.READY, stored.event)
        self._serve()

    def reserve(
        self, types: Collection[str], timeout: float | None = None
    ) -> Deferred[Event | None]:
        """See EventQueue."""
        try:
            self._check_open()
            wanted = check_types(types)
        except QueueError as error:
            return fail(error)
        result = self._waiting.join(wanted)
        self._serve()
        if timeout is not None:
            self._waiting.limit(result, timeout)
        return result

    def _serve(self) -> None:
        self._waiting.serve(self._take)

    def _take(self, types: frozenset[str]) -> Event | None:
        ready = [each for each in self._in_state(State.READY) if each.event.type in types]
        if not ready:
            return None
        return self._reserve(min(ready, key=lambda each: (each.event.priority, each.number)))

    def _in_state(self, state: State) -> list[Stored]:
        return [each for each in self._stored.values() if each.state is state]

    def _reserve(self, stored: Stored) -> Event:
        event = evolve(stored.event, attempts=stored.event.attempts + 1, receipt=object())
        timer = self.clock.callLater(event.ttr, self._overrun, stored)
        stored.enter(State.RESERVED, event, timer)
        return event

    def _overrun(self, stored: Stored) -> None:
        stored.event = evolve(stored.event, timeouts=stored.event.timeouts + 1)
        self._ready(stored)

    def _held(self, event: Event) -> Stored:
        self._check_open()
        stored = self._stored.get(event.id)
        if (
            stored is None
            or stored.state is not State.RESERVED
            or stored.event.receipt is not event.receipt
        ):
            raise NotReserved(f"event {event.id} ({event.type}) is not reserved here any more")
        return stored

    @_answered
    def ack(self, event: Event) -> None:
        """See EventQueue."""
        stored = self._held(event)
        stored.enter(State.READY, event)
        del self._stored[event.id]

    @_answered
    def retry(self, event: Event, delay: float = 0) -> None:
        """See EventQueue."""
        check_number("delay", delay, int | float, least=0)
        stored = self._held(event)
        self._wait_or_ready(stored, evolve(event, releases=event.releases + 1, delay=delay))
        self._serve()

    @_answered
    def bury(self, event: Event, reason: str) -> None:
        """See EventQueue."""
        stored = self._held(event)
        if event.type != ERRORS:
            self._put(Event("", ERRORS, error_record(event, reason, self.clock.seconds())))
        stored.enter(State.BURIED, evolve(event, buries=event.buries + 1))

    @_answered
    def touch(self, event: Event) -> None:
        """See EventQueue."""
        stored = self._held(event)
        timer = self.clock.callLater(event.ttr, self._overrun, stored)
        stored.enter(State.RESERVED, event, timer)

    @_answered
    def kick(self, event_type: str, limit: int) -> int:
        """See EventQueue."""
        self._check_open()
        check_type(event_type)
        own = [each for each in self._stored.values() if each.event.type == event_type]
        buried = [each for each in own if each.state is State.BURIED]
        kicked = (buried or [each for each in own if each.state is State.DELAYED])[:limit]
        for each in kicked:
            each.enter(State.READY, evolve(each.event, kicks=each.event.kicks + 1))
        self._serve()
        return len(kicked)

    @_answered
    def depth(self, event_type: str) -> Depth:
        """See EventQueue."""
        self._check_open()
        check_type(event_type)
        own = [each.state for each in self._stored.values() if each.event.type == event_type]
        return Depth(*(own.count(state) for state in State))

    @_answered
    def types(self) -> list[str]:
        """See EventQueue."""
        self._check_open()
        return sorted({each.event.type for each in self._stored.values()})

    @_answered
    def bind(self, source: str, target: str) -> None:
        """See EventQueue."""
        self._check_open()
        self._bindings.setdefault(check_type(source), set()).add(check_type(target))

    @_answered
    def unbind(self, source: str, target: str) -> None:
        """See EventQueue."""
        self._check_open()
        self._bindings.get(check_type(source), set()).discard(check_type(target))

    @_answered
    def close(self) -> None:
        """See EventQueue."""
        self._interrupt(QueueClosed("the queue was closed"))

    def go_away(self) -> None:
        """Lose the connection: reserved events are ready again, and every call fails."""
        self._interrupt(QueueUnavailable("the connection was lost"))

    def come_back(self) -> None:
        """Answer calls again, after `go_away`."""
        self._refusal = None

    def _interrupt(self, refusal: QueueError) -> None:
        self._refusal = refusal
        for stored in self._in_state(State.RESERVED):
            stored.enter(State.READY, stored.event)
        self._waiting.fail_all(refusal)

    def _check_open(self) -> None:
        if self._refusal is not None:
            raise self._refusal


if TYPE_CHECKING:
    _conforms: type[EventQueue] = MemoryQueue
