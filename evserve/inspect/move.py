"""Move: the events of one queue into another, without losing one.

An event is acknowledged at the source only after the target has answered that it is stored. If
this process or a connection dies in between, it exists twice; a target with KEYS then recognizes
it by its key, as long as it is still there. The token in those keys is kept at the target, as
an event of the type MARK, from the start of a move to its end: a move that is started again after
a death goes on with the same keys, and a later one has others, because a source may give its ids
a second time.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from math import ceil
from secrets import token_hex
from typing import Any, Final, cast

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure

from evserve.events import (
    ERRORS,
    MAX_MANY,
    MAX_NUMBER,
    Capability,
    Depth,
    Event,
    EventQueue,
    NotReserved,
    QueueError,
    State,
    Stored,
    Unsupported,
)


MARK: Final = "evserve.move"
"""The type of the event that holds a move's token at its target."""

_BATCH: Final = 100
_IN_FLIGHT: Final = 4
"""Batches that wait for the target or the source at once."""

_HIDDEN: Final = 3600
"""Seconds for which an event that is to be buried cannot be reserved at the target."""

_WAIT: Final = 1.0
"""Seconds between two looks at what consumers have reserved."""


class MoveFailed(Exception):  # noqa: N818 - as the errors of a queue, it says what happened
    """The move ended early; the message says why."""


@define(eq=False)
class Move:
    """Moves the events of `types`, or all, from `source` to `target`.

    name: identifies the source, the same in each process.  rate: events per second at most.
    wait: whether to wait for events that consumers of the source have reserved.  progress: called
    with the number of events moved, and the number still to be moved if it is known.

    moved: per type and the state in which it was.
    """

    source: EventQueue
    target: EventQueue
    clock: IReactorTime
    name: str
    types: Collection[str] = ()
    rate: float | None = None
    wait: bool = True
    progress: Callable[[int, int | None], object] = lambda *_: None
    moved: Counter[tuple[str, State]] = field(init=False, factory=Counter)
    _keyed: bool = field(init=False, default=False)
    _token: str = field(init=False, default="")
    _is_new: bool = field(init=False, default=False)
    _failure: BaseException | None = field(init=False, default=None)
    _stopped: bool = field(init=False, default=False)
    _wait: Deferred[Any] | None = field(init=False, default=None)
    _slots: DeferredSemaphore = field(init=False, factory=lambda: DeferredSemaphore(_IN_FLIGHT))
    _in_flight: set[Deferred[None]] = field(init=False, factory=set)
    _left: int | None = field(init=False, default=None)
    _began: float = field(init=False, default=0)
    _taken: int = field(init=False, default=0)

    @property
    def count(self) -> int:
        """The number of events moved so far."""
        return self.moved.total()

    def stop(self) -> None:
        """Take no more events; `run` ends when those in its hands are settled."""
        self._stopped = True
        if self._wait is not None:
            self._wait.cancel()

    async def run(self) -> None:
        """Move until the source has nothing more; raises MoveFailed or QueueError."""
        self._began = self.clock.seconds()
        mark = await self._set_mark()
        try:
            before = -1
            while not self._stopped and await self._pass():
                if self.count == before:  # what there is can't be had yet
                    await self._pause(_WAIT)
                before = self.count
        except (MoveFailed, QueueError):
            if self._is_new and not self._taken:  # nothing was put, so no other move needs it
                with suppress(QueueError):
                    await self.target.delete(mark)
            raise
        finally:
            await self._settled()
        await self.target.delete(mark)
        if self._stopped:
            raise MoveFailed("stopped (start it again to go on)")

    async def _set_mark(self) -> str:
        """Set the token, or read that of a move that died; return the id of the event with it."""
        token, self._keyed = token_hex(8).encode(), Capability.KEYS in self.target.capabilities
        try:
            mark = await self._put(MARK, token, self._hash(""), delay=MAX_NUMBER)
        except Unsupported:
            self._keyed = False
            mark = await self._put(MARK, token, "", delay=MAX_NUMBER)
        there, here = await self.target.find(mark), await self.source.find(mark)
        if here is not None and there is not None and here.event.body == there.event.body:
            await self.target.delete(mark)
            raise MoveFailed("--from and --to are the same queue")
        if there is None:
            raise MoveFailed(f"the target does not keep the mark of this move ({MARK})")
        if not self._keyed:
            await self.target.delete(mark)
        self._is_new = there.event.body == token
        self._token = there.event.body.decode(errors="replace")
        return mark

    async def _pass(self) -> bool:
        """Move what is there; whether there may be more."""
        types = frozenset(self.types or await self.source.types()) - {MARK}
        if not types:
            return False
        await self._check_bindings(types)
        depths = await self._depths(types)
        if ERRORS in types:  # first: the records say why events are buried
            await self._move_ready(frozenset({ERRORS}))
            await self._settled()
        for each, depth in depths.items():
            if depth.buried:
                await self._move_buried(each)
        await self._move_ready(types)
        for each, depth in depths.items():
            for state in (State.READY, State.DELAYED):
                if depth.paused if state is State.READY else depth.delayed:
                    await self._move_one_by_one(each, state)
        await self._settled()
        return await self._is_more(types)

    async def _is_more(self, types: frozenset[str]) -> bool:
        """Whether to make another pass: there are events, or consumers may give some back."""
        if not self.types and not types.issuperset(set(await self.source.types()) - {MARK}):
            return True
        depths = (await self._depths(types)).values()
        return any(
            depth.ready or depth.delayed or depth.buried or (self.wait and depth.reserved)
            for depth in depths
        )

    async def _depths(self, types: Collection[str]) -> dict[str, Depth]:
        depths = {each: await self.source.depth(each) for each in sorted(types)}
        totals = [each.ready + each.delayed + each.buried for each in depths.values()]
        self._left = self.count + sum(totals)
        return depths

    async def _check_bindings(self, types: frozenset[str]) -> None:
        """Refuse a type of which the target would copy each event again."""
        try:
            bindings = await self.target.bindings()
        except Unsupported:
            return
        for source, copied_to in bindings:
            if source in types:
                raise MoveFailed(
                    f"{source} is bound to {copied_to} at the target, which would copy each event "
                    "(unbind it first, or name the types to move)"
                )

    # Ready events: in batches, several of which are on their way

    async def _move_ready(self, types: frozenset[str]) -> None:
        limit = _BATCH if self.rate is None else max(1, min(_BATCH, int(self.rate / 10)))
        while not self._stopped:
            self._check()
            events = await self.source.reserve_many(types, limit, 0)
            if not events:
                return
            # The puts are sent now, so the target gets the events in their order.
            await self._carry([(event, State.READY, 0) for event in events])
            await self._throttle()

    async def _move_one_by_one(self, event_type: str, state: State) -> None:
        """Move delayed events, and ready ones of a paused type, which cannot be reserved."""
        while not self._stopped:
            self._check()
            stored = await self.source.peek(event_type, state)
            if stored is None:
                return
            event = await self.source.reserve_event(stored.event.id)
            if event is not None:
                await self._carry([(event, state, stored.left)])
                await self._throttle()

    async def _carry(self, events: list[tuple[Event, State, float]]) -> None:
        """Put reserved events at the target, then acknowledge them; waits while many do."""
        await self._slots.acquire()
        self._taken += len(events)
        carried = Deferred.fromCoroutine(self._carry_batch(events))
        self._in_flight.add(carried)

        def ended(result: Any) -> None:
            self._in_flight.discard(carried)
            self._slots.release()

        carried.addErrback(self._failed).addBoth(ended)

    async def _carry_batch(self, events: list[tuple[Event, State, float]]) -> None:
        held = {event.id: event for event, _, _ in events}
        touching = LoopingCall(self._touch, held)
        touching.clock = self.clock
        touching.start(min(event.ttr for event in held.values()) / 3, now=False)
        try:
            results = await DeferredList(
                [
                    Deferred.fromCoroutine(self._carry_one(event, state, left, held))
                    for event, state, left in events
                ],
                consumeErrors=True,
            )
        finally:
            touching.stop()
        for succeeded, result in results:
            if not succeeded:
                cast("Failure", result).raiseException()

    async def _carry_one(
        self, event: Event, state: State, left: float, held: dict[str, Event]
    ) -> None:
        try:
            if event.type != ERRORS or not await self._bury_recorded(event):
                await self._put_again(event, delay=left if state is State.DELAYED else 0)
        except QueueError as error:
            del held[event.id]
            await self.source.retry(event, left if state is State.DELAYED else 0)
            raise MoveFailed(f"{event}: the target did not take it: {error}") from error
        del held[event.id]
        try:
            await self.source.ack(event)
        except NotReserved:
            # Its TTR was over. It is moved if no consumer has it; if one has, it comes twice.
            if not await self.source.delete(event.id):
                return
        self._count(event.type, state)

    def _touch(self, held: dict[str, Event]) -> None:
        for event in list(held.values()):
            self.source.touch(event).addErrback(lambda failure: failure.trap(QueueError) and None)

    # Buried events: copied first, and deleted at the source

    async def _move_buried(self, event_type: str) -> None:
        """Move buried events. The source keeps each until it is buried at the target."""
        reasons = await self._reasons(event_type)
        while not self._stopped:
            self._check()
            stored = await self.source.peek(event_type, State.BURIED)
            if stored is None:
                return
            self._taken += 1
            await self._bury(stored, reasons.get(stored.event.id))
            await self._throttle()

    async def _bury(self, stored: Stored, reason: str | None) -> None:
        event = stored.event
        new = await self._put_again(event, delay=_HIDDEN)
        held = await self.target.reserve_event(new)
        if held is None:
            raise MoveFailed(f"{event}: another client has reserved it at the target")
        await self.target.bury(held, reason or "buried before it was moved here")
        if await self.source.delete(event.id):
            self._count(event.type, State.BURIED)
        else:  # kicked just now: it is moved when its turn comes
            await self.target.delete(new)

    async def _bury_recorded(self, record: Event) -> bool:
        """Move the buried event that a record is about, with its reason; whether it was there.

        The target makes a record of its own, with the event's new id.
        """
        try:
            said = json.loads(record.body)
            event_id, event_type, reason = said["id"], said["type"], said["reason"]
        except (ValueError, RecursionError, KeyError, TypeError):  # not one of `bury`
            return False
        if not isinstance(event_id, str) or (self.types and event_type not in self.types):
            return False
        stored = await self.source.find(event_id)
        if stored is None or stored.state is not State.BURIED or stored.event.type != event_type:
            return False
        await self._bury(stored, reason if isinstance(reason, str) else None)
        return True

    async def _reasons(self, event_type: str) -> dict[str, str]:
        """Return why events were buried, by id, as far as the source's history tells."""
        if event_type == ERRORS:
            return {}
        try:
            handled = await self.source.history(event_type, MAX_MANY)
        except Unsupported:
            return {}
        return {each.event.id: each.error for each in reversed(handled) if each.error}

    # What all of them use

    async def _put_again(self, event: Event, delay: float) -> str:
        return await self._put(
            event.type,
            event.body,
            self._hash(f"{self._token} {event.id}"),
            priority=event.priority,
            delay=delay,
            ttr=event.ttr,
        )

    def _put(self, event_type: str, body: bytes, key: str, **how: Any) -> Deferred[str]:
        if self._keyed:
            how["key"] = key
        return self.target.put(event_type, body, **how)

    def _hash(self, text: str) -> str:
        return f"{MARK}.{hashlib.sha256(f'{self.name} {text}'.encode()).hexdigest()[:32]}"

    def _count(self, event_type: str, state: State) -> None:
        self.moved[event_type, state] += 1
        self.progress(self.count, self._left)

    async def _throttle(self) -> None:
        if self.rate is not None:
            due = self._began + self._taken / self.rate
            await self._pause(due - self.clock.seconds())

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0 or self._stopped:
            return
        self._wait = deferLater(self.clock, ceil(seconds * 1000) / 1000)
        try:
            await self._wait
        except CancelledError:
            if not self._stopped:
                raise
        finally:
            self._wait = None

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _failed(self, failure: Failure) -> None:
        self._failure = self._failure or failure.value

    async def _settled(self) -> None:
        """Wait until every event in hand is settled; raises the first failure."""
        await DeferredList(list(self._in_flight))
        self._check()
