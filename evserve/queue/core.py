"""The queue as a pure state machine: commands and the time come in, answers and changes go out.

Nothing here knows Twisted, SQLite, the wire or a clock; times are in seconds.

A command that changes what is stored returns a Change. The event leaves its old state at once, so
that no other client gets it, but enters the new one only when the store has committed the change
(`apply`), or goes back when the store could not (`revert`). So no client ever sees an uncommitted
event, and a failed commit needs no further undoing.

A command that reserves returns its answer or adds it to `answers` later. No client waits for a
tube that has a ready event and no pause: what makes an event ready or ends a pause serves the
first waiting client at once, so no command has to search.
"""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Final, TypeAlias

from attrs import Factory, define, field, frozen

from evserve.events import State
from evserve.queue.model import (
    BURIED,
    BURY,
    DELAY,
    DELAYED,
    DELETE,
    KICK,
    PUT,
    READY,
    RELEASE,
    RESERVE,
    RESERVED,
    SAFETY_MARGIN,
    STALE_SLACK,
    TOUCH,
    TRANSITIONS,
    Action,
    Client,
    Delivery,
    Event,
    Limits,
    Refusal,
    Tube,
    Wait,
    shared,
)


DEFAULT_TUBE: Final = "default"

# The answer to a reserve: at least one event, or the reason for none.
Answer: TypeAlias = list[Event] | Refusal

# The most deadlines that one tick handles, and the most delayed events of a tube: a million delays
# that end in the same second must not stop the server for a second.
MAX_DEADLINES_PER_TICK: Final = 1000
MAX_DELAYED_PER_TICK: Final = 1000
MAX_KICK_BYTES: Final = 256 * 1024


@define(eq=False, repr=False, weakref_slot=False)
class Change:
    """One event's transition from `origin` to `target`, on its way into the store.

    None is "does not exist". The event keeps its old priority, delay and counters until the
    change is applied; `pri`, `delay` and `due` are the new ones.
    """

    action: Action
    event: Event
    origin: State | None
    target: State | None
    owner: Client | None = None
    pri: int = 0
    delay: float = 0
    due: float = 0.0


@frozen
class Duplicate:
    """The result of a put whose key the event `id` already has.

    is_settled: False while a commit may still undo the put of that event, or delete it.
    """

    id: int
    is_settled: bool


@define(eq=False, repr=False)
class DeadlineHeap:
    """When the core needs its next `tick`: a heap of (time, tie-breaker, owner).

    An owner is in the heap only for times earlier than all it already has there: a consumer that
    reserves and deletes a million events within one TTR costs one entry, not a million. A
    deadline only makes the core look at the owner, so a stale entry does no harm.
    """

    _heap: list[tuple[float, int, Client | Tube]] = Factory(list)
    _serial: "count[int]" = Factory(count)
    _stale: int = 0

    @property
    def next(self) -> float | None:
        """The earliest time in the heap."""
        return self._heap[0][0] if self._heap else None

    def add(self, owner: Client | Tube, when: float) -> None:
        """Schedule a look at `owner` for `when` or earlier."""
        scheduled = owner.scheduled
        if scheduled and scheduled[-1] <= when:
            return
        scheduled.append(when)
        heappush(self._heap, (when, next(self._serial), owner))

    def pop_due(self, now: float, most: int) -> list[Client | Tube]:
        """Take out the owners that are due, each once, using up at most `most` entries."""
        due: dict[Client | Tube, None] = {}
        while self._heap and self._heap[0][0] <= now and most:
            owner = heappop(self._heap)[2]
            most -= 1
            if owner.scheduled:
                owner.scheduled.pop()
                due[owner] = None
            else:
                self._stale -= 1
        return list(due)

    def discard(self, owner: Client | Tube) -> None:
        """Forget `owner`; its entries are removed when there are many stale ones."""
        self._stale += len(owner.scheduled)
        owner.scheduled = []
        if 2 * self._stale > len(self._heap) + STALE_SLACK:
            self._heap = [entry for entry in self._heap if entry[2].scheduled]
            heapify(self._heap)
            self._stale = 0


@define(eq=False, repr=False)
class Core:
    """Every event, tube, client, binding and sequence, and the commands on them.

    `sequences` has the committed numbers; `advancing` names those that a commit is moving.
    `answers` collects the answers to clients that waited, with what they waited for. `dirty` holds
    the events whose counters have changed since they were last written. `event_count` and
    `body_bytes` include events that are being committed; `resident_bytes` is what the bodies in
    memory take.
    """

    limits: Limits = Factory(Limits)
    events: dict[int, Event] = field(factory=dict, init=False)
    tubes: dict[str, Tube] = field(factory=dict, init=False)
    clients: set[Client] = field(factory=set, init=False)
    bindings: dict[str, dict[str, None]] = field(factory=dict, init=False)
    sequences: dict[str, int] = field(factory=dict, init=False)
    advancing: set[str] = field(factory=set, init=False)
    answers: list[tuple[Client, Answer, Wait]] = field(factory=list, init=False)
    dirty: dict[int, Event] = field(factory=dict, init=False)
    deadlines: DeadlineHeap = field(factory=DeadlineHeap, init=False)
    next_id: int = field(default=1, init=False)
    event_count: int = field(default=0, init=False)
    body_bytes: int = field(default=0, init=False)
    resident_bytes: int = field(default=0, init=False)
    waiting: int = field(default=0, init=False)
    timeouts: int = field(default=0, init=False)
    total_events: int = field(default=0, init=False)
    total_connections: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.tube(DEFAULT_TUBE)

    # Clients, tubes and bindings.

    def connect(self, watch: Iterable[str] = (DEFAULT_TUBE,)) -> Client:
        """Return a new client that uses the default tube and watches the tubes named."""
        tube = self.tube(DEFAULT_TUBE)
        tube.using += 1
        client = Client(tube, {})
        for name in watch:
            self.watch(client, name)
        self.clients.add(client)
        self.total_connections += 1
        return client

    def disconnect(self, client: Client, now: float) -> None:
        """Forget `client`: what it had reserved becomes ready."""
        client.closed = True
        if client.wait is not None:
            self._stop_waiting(client)
        self.clients.discard(client)
        self.deadlines.discard(client)
        reserved, client.reserved = list(client.reserved.values()), {}
        for event in reserved:
            event.delivery.owner = None
            self._return(event)
        self._serve({event.tube: None for event in reserved}, now)
        client.use.using -= 1
        for tube in client.watch.values():
            tube.watching -= 1
        for tube in (client.use, *client.watch.values()):
            self._delete_if_unused(tube)

    def tube(self, name: str) -> Tube:
        """Return the tube called `name`, a new one if there is none."""
        tube = self.tubes.get(name)
        if tube is None:
            tube = self.tubes[name] = Tube(name, self.events)
        return tube

    def _delete_if_unused(self, tube: Tube) -> None:
        if tube.is_unused and self.tubes.get(tube.name) is tube and tube.name != DEFAULT_TUBE:
            del self.tubes[tube.name]
            self.deadlines.discard(tube)

    def use(self, client: Client, name: str) -> None:
        """Make `client` put into the tube called `name`."""
        old, new = client.use, self.tube(name)
        new.using += 1
        old.using -= 1
        client.use = new
        self._delete_if_unused(old)

    def watch(self, client: Client, name: str) -> None:
        """Add a tube to the watch list."""
        if name not in client.watch:
            tube = client.watch[name] = self.tube(name)
            tube.watching += 1

    def ignore(self, client: Client, name: str) -> bool:
        """Remove a tube from the watch list; False if it is the only one there."""
        tube = client.watch.get(name)
        if tube is None:
            return True
        if len(client.watch) == 1:
            return False
        del client.watch[name]
        tube.watching -= 1
        self._delete_if_unused(tube)
        return True

    def bind(self, source: str, target: str) -> None:
        """From now on, copy each event put into `source` into `target` too."""
        self.bindings.setdefault(source, {})[target] = None

    def unbind(self, source: str, target: str) -> None:
        """Undo a binding, if there is one."""
        targets = self.bindings.get(source, {})
        targets.pop(target, None)
        if not targets:
            self.bindings.pop(source, None)

    def has_reached(self, sequence: str, number: int) -> bool:
        """Whether `sequence` is at `number` or beyond."""
        return number <= self.sequences.get(sequence, -1)

    # Commands that change what is stored.

    def put(
        self,
        tube: Tube,
        body: bytes,
        now: float,
        *,
        pri: int = 0,
        delay: float = 0,
        ttr: int = 1,
        key: str | None = None,
        event_id: int | None = None,
    ) -> list[Change] | Duplicate | Refusal:
        """Prepare a new event, the first of those returned, and its copies in the bound tubes.

        event_id: an id of the event that `new_id` gave; a new one by default.
        """
        if key is not None and key in tube.keys:
            return self._duplicate(tube.keys[key])
        targets = self.bindings.get(tube.name)
        tubes = [tube] if targets is None else [tube, *map(self.tube, targets)]
        if not self._has_room(tubes, len(body)):
            for each in tubes:
                self._delete_if_unused(each)
            return Refusal.OUT_OF_MEMORY
        changes = [
            self._new_event(each, body, now, pri=pri, delay=delay, ttr=ttr) for each in tubes
        ]
        event = changes[0].event
        if event_id is not None:
            event.id = event_id
        if key is not None:
            tube.keys[key] = event.id
            event.key = key
        return changes

    def new_id(self) -> int:
        """Return an id that no other event has."""
        event_id = self.next_id
        self.next_id += 1
        return event_id

    def _duplicate(self, event_id: int) -> Duplicate:
        event = self.events.get(event_id)
        changing = event is None or (event.state is RESERVED and event.delivery.owner is None)
        return Duplicate(event_id, is_settled=not changing)

    def _has_room(self, tubes: list[Tube], size: int) -> bool:
        limits = self.limits
        if limits.max_events is not None and self.event_count + len(tubes) > limits.max_events:
            return False
        if limits.max_bytes is not None and self.body_bytes + size * len(tubes) > limits.max_bytes:
            return False
        most = limits.max_tube_events
        return most is None or all(each.event_count + each.pending < most for each in tubes)

    def _new_event(
        self, tube: Tube, body: bytes, now: float, *, pri: int, delay: float, ttr: int
    ) -> Change:
        size = len(body)
        event = Event(self.new_id(), tube, shared(pri), shared(ttr), now, shared(size), body)
        self.event_count += 1
        self.body_bytes += size
        self.resident_bytes += size
        tube.pending += 1
        if not delay:
            return Change(PUT, event, None, READY, None, pri)
        event.state = DELAYED
        event.delivery = Delivery(delay, now + delay)
        return Change(DELAY, event, None, DELAYED, None, pri, delay, now + delay)

    def delete(self, client: Client, event_id: int) -> Change | Refusal:
        """Delete an event, unless another client has reserved it."""
        return self._change(DELETE, event_id, client)

    def release(
        self, client: Client, event_id: int, now: float, *, pri: int, delay: float
    ) -> Change | Refusal:
        """Make a reserved event ready or delayed, with a new priority."""
        change = self._change(DELAY if delay else RELEASE, event_id, client)
        if isinstance(change, Change):
            change.pri, change.delay = pri, delay
            change.due = now + delay if delay else 0.0
        return change

    def bury(self, client: Client, event_id: int, now: float, *, pri: int) -> Change | Refusal:
        """Set a reserved event aside until it is kicked."""
        change = self._change(BURY, event_id, client)
        if isinstance(change, Change):
            change.pri, change.due = pri, now
        return change

    def touch(self, client: Client, event_id: int, now: float) -> Change | Refusal:
        """Restart the TTR of a reserved event, which stays reserved."""
        event = self.events.get(event_id)
        if event is None or event.delivery.owner is not client:
            return Refusal.NOT_FOUND
        self._hold(event, client, now + event.ttr)
        delay = event.delivery.delay
        return Change(TOUCH, event, RESERVED, RESERVED, client, event.pri, delay)

    def kick_job(self, event_id: int) -> Change | Refusal:
        """Make one buried or delayed event ready."""
        return self._change(KICK, event_id, None)

    def kick(self, tube: Tube, state: State, most: int) -> list[Change]:
        """Make up to `most` events of `tube` that are in `state`, BURIED or DELAYED, ready.

        Of large events fewer, but at least one: the store writes their bodies again.
        """
        first = tube.first_buried if state is BURIED else tube.first_delayed
        changes: list[Change] = []
        size = 0
        while len(changes) < most and size < MAX_KICK_BYTES and (event := first()) is not None:
            changes.append(self._take_for(KICK, event, READY))
            size += event.size
        return changes

    def delete_unreserved(self, ids: Iterable[int]) -> list[Change]:
        """Delete those of the events `ids` that are not reserved."""
        events = self.events
        return [
            self._take_for(DELETE, event, None)
            for event_id in ids
            if (event := events.get(event_id)) is not None and event.state is not RESERVED
        ]

    def _change(self, action: Action, event_id: int, client: Client | None) -> Change | Refusal:
        event = self.events.get(event_id)
        if event is None:
            return Refusal.NOT_FOUND
        state = event.state
        targets = TRANSITIONS[state]
        if action not in targets:
            return Refusal.NOT_FOUND
        if state is RESERVED and event.delivery.owner is not client:
            return Refusal.NOT_FOUND
        return self._take_for(action, event, targets[action])

    def _take_for(self, action: Action, event: Event, target: State | None) -> Change:
        delivery = event.delivery
        change = Change(
            action, event, event.state, target, delivery.owner, event.pri, delivery.delay
        )
        self._take_out(event)
        self.dirty.pop(event.id, None)
        return change

    def apply(self, change: Change, now: float) -> None:
        """Carry out a change that the store has committed."""
        event = change.event
        if change.origin is None:
            self._add(event, now)
        elif change.target is None:
            tube = event.tube
            tube.deletes += 1
            tube.reserved -= 1
            tube.event_count -= 1
            del self.events[event.id]
            self._forget(event)
        elif change.action is not TOUCH:
            action, delivery = change.action, event.own_delivery()
            event.pri, delivery.delay, delivery.due = shared(change.pri), change.delay, change.due
            delivery.releases += action is RELEASE or action is DELAY
            delivery.buries += action is BURY
            delivery.kicks += action is KICK
            event.tube.reserved -= 1
            event.state = change.target
            self._file(event, now)

    def _add(self, event: Event, now: float) -> None:
        tube = event.tube
        tube.pending -= 1
        tube.total += 1
        self.total_events += 1
        limit = self.limits.resident
        if limit is not None and self.resident_bytes > limit:
            event.body = None
            self.resident_bytes -= event.size
        self.events[event.id] = event
        tube.add_arrival(event.id)
        self._file(event, now)

    def _forget(self, event: Event) -> None:
        self.event_count -= 1
        self.body_bytes -= event.size
        if event.body is not None:
            self.resident_bytes -= event.size
        if event.key is not None:
            del event.tube.keys[event.key]
        self._delete_if_unused(event.tube)

    def revert(self, change: Change, now: float) -> None:
        """Undo a change that the store could not commit."""
        event, owner, tube = change.event, change.owner, change.event.tube
        if change.origin is None:
            tube.pending -= 1
            self._forget(event)
            return
        if change.action is TOUCH:
            return
        self.dirty[event.id] = event
        if change.origin is not RESERVED:
            tube.reserved -= 1
            event.state = change.origin
            self._file(event, now)
            if event.state is BURIED:
                tube.buried.move_to_end(event.id, last=False)
        elif owner is None or owner.closed:
            self._return(event)
            self._serve((tube,), now)
        else:
            self._hold(event, owner, event.delivery.due)

    # Filing events by their state.

    def _file(self, event: Event, now: float) -> None:
        """File `event` by its state, which is not RESERVED, and serve waiting clients."""
        tube = event.tube
        if event.state is READY:
            tube.add_ready(event)
            if tube.waiting:
                self._serve((tube,), now)
        elif event.state is DELAYED:
            tube.add_delayed(event)
            self.deadlines.add(tube, event.delivery.due)
        else:
            tube.add_buried(event)

    def _take_out(self, event: Event) -> None:
        """Take `event` out of its state; it becomes RESERVED without an owner."""
        tube, state = event.tube, event.state
        if state is RESERVED:
            owner = event.delivery.owner
            assert owner is not None  # without one it is being committed
            owner.remove_reserved(event)
            event.delivery.owner = None
            return
        event.state = RESERVED
        tube.reserved += 1
        if state is READY:
            tube.remove_ready(event)
        elif state is DELAYED:
            tube.remove_delayed()
        else:
            del tube.buried[event.id]

    def _hold(self, event: Event, client: Client, due: float) -> None:
        """Let `client` have the reserved `event`, whose delivery is its own, until `due`."""
        delivery = event.delivery
        delivery.owner = client
        delivery.due = due
        client.add_reserved(event)
        self.deadlines.add(client, due)

    def _return(self, event: Event) -> None:
        """Make a reserved event without an owner ready; `_serve` must follow."""
        event.tube.reserved -= 1
        event.tube.add_ready(event)
        self.dirty[event.id] = event

    # Reserving.

    def reserve(
        self, client: Client, now: float, timeout: float | None = None, max_events: int = 1
    ) -> Answer | None:
        """Reserve up to `max_events` events; None means that the answer comes later.

        timeout: seconds to wait for the first event; None waits without limit.
        """
        client.is_worker = True
        taken = self._reserve_ready(client, now, max_events)
        if taken:
            return taken
        if client.deadline_soon(now):
            return Refusal.DEADLINE_SOON
        if timeout == 0:
            return Refusal.TIMED_OUT
        client.wait = Wait(max_events, None if timeout is None else now + timeout)
        self.waiting += 1
        for tube in client.watch.values():
            tube.waiting[client] = None
        self._schedule(client)
        return None

    def reserve_job(self, client: Client, event_id: int, now: float) -> Answer:
        """Reserve the event `event_id`, whatever its priority, unless it is reserved."""
        event = self.events.get(event_id)
        if event is None or RESERVE not in TRANSITIONS[event.state]:
            return Refusal.NOT_FOUND
        client.is_worker = True
        self._take_out(event)
        self._grant(event, client, now)
        return [event]

    def _reserve_ready(self, client: Client, now: float, max_events: int) -> list[Event]:
        taken: list[Event] = []
        tubes = client.watch.values()
        while len(taken) < max_events and (event := _most_urgent(tubes)) is not None:
            tube = event.tube
            tube.pop_ready(event)
            tube.reserved += 1
            event.state = RESERVED
            self._grant(event, client, now)
            taken.append(event)
        return taken

    def _grant(self, event: Event, client: Client, now: float) -> None:
        delivery = event.own_delivery()
        delivery.reserves += 1
        delivery.reserved_at = now
        self._hold(event, client, now + event.ttr)
        self.dirty[event.id] = event

    def transfer(self, event: Event, client: Client) -> None:
        """Give `client` the reservation of another client; its TTR goes on."""
        delivery = event.delivery
        assert delivery.owner is not None
        delivery.owner.remove_reserved(event)
        self._hold(event, client, delivery.due)

    def unreserve(self, event: Event, now: float) -> None:
        """Make a reserved event ready, without a release."""
        delivery = event.delivery
        assert delivery.owner is not None
        delivery.owner.remove_reserved(event)
        delivery.owner = None
        self._return(event)
        self._serve((event.tube,), now)

    def end_wait(self, client: Client) -> None:
        """Answer a client that waits with TIMED_OUT."""
        if client.wait is not None:
            self._answer(client, Refusal.TIMED_OUT)

    def _serve(self, tubes: Iterable[Tube], now: float) -> None:
        """Give the ready events of `tubes` to waiting clients, the most urgent event first."""
        while (event := _most_urgent(tube for tube in tubes if tube.waiting)) is not None:
            client = next(iter(event.tube.waiting))
            assert client.wait is not None
            self._answer(client, self._reserve_ready(client, now, client.wait.max_events))

    def _answer(self, client: Client, answer: Answer) -> None:
        assert client.wait is not None
        self.answers.append((client, answer, client.wait))
        self._stop_waiting(client)

    def _stop_waiting(self, client: Client) -> None:
        client.wait = None
        self.waiting -= 1
        for tube in client.watch.values():
            tube.waiting.pop(client, None)

    # Time.

    def pause(self, tube: Tube, seconds: int, now: float) -> None:
        """Reserve nothing from `tube` for `seconds`; 0 ends a pause."""
        tube.pauses += 1
        tube.pause = seconds
        tube.paused_until = now + seconds
        if seconds:
            self.deadlines.add(tube, tube.paused_until)
        else:
            self._serve((tube,), now)
            self._delete_if_unused(tube)

    def tick(self, now: float) -> None:
        """End reservations, delays and pauses that are over; serve clients; end their waits."""
        tubes: dict[Tube, None] = {}
        clients: list[Client] = []
        for owner in self.deadlines.pop_due(now, MAX_DEADLINES_PER_TICK):
            if isinstance(owner, Tube):
                self._end_delays(owner, now)
                tubes[owner] = None
            else:
                clients.append(owner)
                while (event := owner.soonest()) is not None and event.delivery.due <= now:
                    owner.remove_reserved(event)
                    event.delivery.owner = None
                    event.delivery.timeouts += 1
                    self.timeouts += 1
                    self._return(event)
                    tubes[event.tube] = None
        self._serve(tubes, now)
        for client in clients:
            wait = client.wait
            if wait is not None and client.deadline_soon(now):
                self._answer(client, Refusal.DEADLINE_SOON)
            elif wait is not None and wait.until is not None and wait.until <= now:
                self._answer(client, Refusal.TIMED_OUT)
            self._schedule(client)

    def _end_delays(self, tube: Tube, now: float) -> None:
        if tube.pause and tube.paused_until <= now:
            tube.pause = 0
        for _ in range(MAX_DELAYED_PER_TICK):
            event = tube.first_delayed()
            if event is None or event.delivery.due > now:
                break
            tube.add_ready(event)
            tube.remove_delayed()
        event = tube.first_delayed()
        if event is not None:
            self.deadlines.add(tube, event.delivery.due)
        if tube.pause:
            self.deadlines.add(tube, tube.paused_until)
        else:
            self._delete_if_unused(tube)

    def _schedule(self, client: Client) -> None:
        soonest, wait = client.soonest(), client.wait
        if soonest is not None:
            margin = 0.0 if wait is None else SAFETY_MARGIN
            self.deadlines.add(client, soonest.delivery.due - margin)
        if wait is not None and wait.until is not None:
            self.deadlines.add(client, wait.until)

    # Loading a store. A million events must load in a second or two, so each heap is built in one
    # pass at the end. Bodies stay in the store, which has the rows of each kind in any order.

    def load_unchanged(self, rows: Iterable[tuple[int, str, int, int, float, int]]) -> None:
        """Add events that are ready and as they were put, without a key or a delay.

        A row is id, tube, priority, ttr, created, size of the body. `finish_loading` must follow.
        """
        index, same = self.events, dict[int, int]().setdefault
        name = pri = None
        for event_id, row_tube, row_pri, ttr, created, size in rows:
            if row_pri != pri or row_tube != name:
                name, pri = row_tube, same(row_pri, row_pri)
                tube = self.tube(name)
                add_arrival = tube.arrivals.append
                add_ready = tube.ready_ids.setdefault(pri, []).append
            index[event_id] = Event(event_id, tube, pri, same(ttr, ttr), created, same(size, size))
            add_arrival(event_id)
            add_ready(event_id)
            self.body_bytes += size

    def load_changed(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add the other events, whose rows have more: key, state, delay, due, five counters.

        `finish_loading` must follow.
        """
        states = tuple(State)
        for event_id, name, pri, ttr, created, size, key, state, *delivery in rows:
            tube = self.tube(name)
            event = Event(event_id, tube, shared(pri), shared(ttr), created, shared(size))
            event.key, event.state = key, states[state]
            if any(delivery):
                delay, due, *counts = delivery
                event.delivery = Delivery(delay, due, None, 0.0, *counts)
            self.events[event_id] = event
            tube.arrivals.append(event_id)
            self.body_bytes += size
            if key is not None:
                tube.keys[key] = event_id
            if event.state is READY:
                tube.load_ready(event.pri, event_id)
            else:
                self._file(event, 0.0)

    def finish_loading(self) -> None:
        """Order the loaded events by arrival, by priority and by time of burial."""
        self.event_count = len(self.events)
        for tube in self.tubes.values():
            tube.finish_loading()


def _most_urgent(tubes: Iterable[Tube]) -> Event | None:
    """Return the ready event that comes before those of the other tubes."""
    best: Event | None = None
    for tube in tubes:
        if tube.ready and not tube.pause:
            event = tube.first_ready()
            assert event is not None
            if best is None or (event.pri, event.id) < (best.pri, best.id):
                best = event
    return best
