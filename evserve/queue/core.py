"""The core of the queue in one piece: commands and the time in, answers and changes out.

Nothing here knows Twisted, SQLite, the wire or a clock. `Core` holds the three parts; the engine
drives them: a command of `ledger` makes Changes, which the engine has stored and then settles;
a command of `line` answers at once or later, through `line.answers`.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TypeAlias

from attrs import Factory, define, frozen

from evserve.queue.model import (
    MOVES,
    SAFETY_MARGIN,
    SLACK,
    Client,
    Event,
    Limits,
    Move,
    Refusal,
    State,
    Tube,
    Wait,
)


Owner: TypeAlias = Client | Tube


@define(eq=False, repr=False)
class Alarms:
    """A heap of (time, tie-breaker, owner)."""

    _heap: list[tuple[float, int, Owner]] = Factory(list)
    _serial: "count[int]" = Factory(count)
    _dead: int = 0

    @property
    def next(self) -> float | None:
        """The earliest time at which somebody is to be rung."""
        return self._heap[0][0] if self._heap else None

    def set(self, owner: Owner, when: float) -> None:
        """Ring `owner` at `when` or before."""
        scheduled = owner.scheduled
        if scheduled and scheduled[-1] <= when:
            return
        scheduled.append(when)
        heappush(self._heap, (when, next(self._serial), owner))

    def pop_due(self, now: float, most: int) -> list[Owner]:
        """Take out those to ring by `now`, each once, at most `most` entries at a time."""
        due: dict[Owner, None] = {}
        while self._heap and self._heap[0][0] <= now and most:
            owner = heappop(self._heap)[2]
            most -= 1
            if owner.scheduled:
                owner.scheduled.pop()
                due[owner] = None
            else:
                self._dead -= 1
        return list(due)

    def forget(self, owner: Owner) -> None:
        """Stop ringing `owner`; its entries are swept out when they are many."""
        self._dead += len(owner.scheduled)
        owner.scheduled = []
        if 2 * self._dead > len(self._heap) + SLACK:
            self._heap = [entry for entry in self._heap if entry[2].scheduled]
            heapify(self._heap)
            self._dead = 0


DEFAULT_TUBE = "default"


@define(eq=False, repr=False)
class Book:
    """Everything the core knows.

    `kept` and `bytes` count events and their bodies, those being committed included; `resident`
    is what the bodies in memory take. `dirty` holds the events whose counters have changed since
    they were last written.
    """

    limits: Limits = Factory(Limits)
    events: dict[int, Event] = Factory(dict)
    tubes: dict[str, Tube] = Factory(dict)
    clients: set[Client] = Factory(set)
    bindings: dict[str, dict[str, None]] = Factory(dict)
    dirty: dict[int, Event] = Factory(dict)
    alarms: Alarms = Factory(Alarms)
    next_id: int = 1
    kept: int = 0
    bytes: int = 0
    resident: int = 0
    total: int = 0
    timeouts: int = 0
    connections: int = 0
    waiting: int = 0

    def __attrs_post_init__(self) -> None:
        self.tube(DEFAULT_TUBE)

    def tube(self, name: str) -> Tube:
        """Return the tube called `name`, new if there was none."""
        tube = self.tubes.get(name)
        if tube is None:
            tube = self.tubes[name] = Tube(name, self.events)
        return tube

    def tidy(self, tube: Tube) -> None:
        """Forget `tube` if nothing refers to it any more."""
        if tube.unused and self.tubes.get(tube.name) is tube and tube.name != DEFAULT_TUBE:
            del self.tubes[tube.name]
            self.alarms.forget(tube)

    def connect(self, watch: Iterable[str] = (DEFAULT_TUBE,)) -> Client:
        """Return a new client, which uses the default tube and watches those named."""
        tube = self.tube(DEFAULT_TUBE)
        tube.using += 1
        client = Client(tube, {})
        for name in watch:
            self.watch(client, name)
        self.clients.add(client)
        self.connections += 1
        return client

    def use(self, client: Client, name: str) -> None:
        """Let what `client` puts go into the tube called `name`."""
        old, new = client.use, self.tube(name)
        new.using += 1
        old.using -= 1
        client.use = new
        self.tidy(old)

    def watch(self, client: Client, name: str) -> None:
        """Let `client` reserve from the tube called `name` too."""
        if name not in client.watch:
            tube = client.watch[name] = self.tube(name)
            tube.watching += 1

    def ignore(self, client: Client, name: str) -> bool:
        """Take a tube off the watch list; False if it is the only one there."""
        tube = client.watch.get(name)
        if tube is None:
            return True
        if len(client.watch) == 1:
            return False
        del client.watch[name]
        tube.watching -= 1
        self.tidy(tube)
        return True

    def bind(self, source: str, target: str) -> None:
        """From now on, copy what is put into `source` into `target` too."""
        self.bindings.setdefault(source, {})[target] = None

    def unbind(self, source: str, target: str) -> None:
        """Undo a binding, if there is one."""
        targets = self.bindings.get(source, {})
        targets.pop(target, None)
        if not targets:
            self.bindings.pop(source, None)

    def load(self, events: Iterable[Event]) -> None:
        """Take in what was stored by an earlier server; `sort` must follow.

        A million of them are to be there in a second or two, so the usual state is filed here and
        each heap is made in one go. Bodies are left in the store.
        """
        index = self.events
        for event in events:
            tube = event.tube
            index[event.id] = event
            tube.arrivals.append(event.id)
            self.bytes += event.size
            if event.key is not None:
                tube.keys[event.key] = event.id
            if event.state is State.READY:
                tube.ready_heap.append(tube.place(event))
            else:
                self.file(event)

    def sort(self) -> None:
        """Bring what was loaded into the order of arrival, of priority and of burial."""
        self.kept = len(self.events)
        for tube in self.tubes.values():
            tube.arrivals = deque(sorted(tube.arrivals))
            tube.count_ready()
            ordered = sorted(tube.buried.items(), key=lambda item: item[1].due)
            tube.buried = OrderedDict(ordered)

    def file(self, event: Event) -> None:
        """Put `event` where its state, which is not RESERVED, says."""
        if event.state is State.READY:
            event.tube.add_ready(event)
        elif event.state is State.DELAYED:
            event.tube.add_delayed(event)
            self.alarms.set(event.tube, event.due)
        else:
            event.tube.add_buried(event)

    def unfile(self, event: Event) -> None:
        """Take `event` out of wherever its state says it is, and count it as reserved."""
        tube = event.tube
        if event.state is State.READY:
            tube.drop_ready(event)
        elif event.state is State.DELAYED:
            tube.drop_delayed(event)
        elif event.state is State.BURIED:
            del tube.buried[event.id]
        else:
            assert event.owner is not None  # else it is on its way already
            event.owner.let_go(event)
            event.owner = None
            return
        event.state = State.RESERVED
        tube.reserved += 1


# What a reserve is answered with: at least one event, or why there is none.
Answer: TypeAlias = list[Event] | Refusal

# How many alarms and how many delayed events one call of `tick` deals with: a million delays that
# end in the same second must not stop the server for one.
RINGS_PER_TICK = 1000
RETURNS_PER_RING = 1000


@define(eq=False, repr=False)
class Line:
    """The consumers' side of the core. `answers` collects what waiting clients are to be told."""

    book: Book
    answers: list[tuple[Client, Answer]] = Factory(list)

    def reserve(
        self, client: Client, now: float, timeout: float | None = None, wanted: int = 1
    ) -> Answer | None:
        """Reserve up to `wanted` events; None means that the answer comes later.

        timeout: seconds to wait for the first event; None waits for ever.
        """
        client.works = True
        taken = self._take(client, now, wanted)
        if taken:
            return taken
        if client.deadline_soon(now):
            return Refusal.DEADLINE_SOON
        if timeout == 0:
            return Refusal.TIMED_OUT
        client.wait = Wait(wanted, None if timeout is None else now + timeout)
        self.book.waiting += 1
        for tube in client.watch.values():
            tube.waiting[client] = None
        self._schedule(client)
        return None

    def reserve_id(self, client: Client, event_id: int, now: float) -> Answer:
        """Reserve the event `event_id`, whatever its priority, unless somebody has it."""
        event = self.book.events.get(event_id)
        if event is None or Move.RESERVE not in MOVES[event.state]:
            return Refusal.NOT_FOUND
        client.works = True
        self.book.unfile(event)
        return [self._grant(event, client, now)]

    def hand_over(self, event: Event, client: Client) -> None:
        """Let `client` hold what another client has reserved, for the time that is left."""
        assert event.owner is not None
        event.owner.let_go(event)
        event.owner = client
        client.hold(event)
        self.book.alarms.set(client, event.due)

    def serve(self, tubes: Iterable[Tube], now: float) -> None:
        """Give what has become ready in `tubes` to those who wait, the most urgent first."""
        while (tube := _best(tube for tube in tubes if tube.waiting)) is not None:
            client = next(iter(tube.waiting))
            assert client.wait is not None
            self._answer(client, self._take(client, now, client.wait.wanted))

    def give_back(self, event: Event) -> None:
        """Make a reserved event that nobody holds ready again; `serve` comes after it."""
        event.tube.reserved -= 1
        event.tube.add_ready(event)
        self.book.dirty[event.id] = event

    def hang_up(self, client: Client) -> None:
        """Answer a waiting client that it has waited long enough: it will send no more."""
        if client.wait is not None:
            self._answer(client, Refusal.TIMED_OUT)

    def disconnect(self, client: Client, now: float) -> None:
        """Forget `client`: what it had reserved becomes ready again."""
        book = self.book
        client.closed = True
        if client.wait is not None:
            self._stop_waiting(client)
        book.clients.discard(client)
        book.alarms.forget(client)
        reserved, client.reserved = list(client.reserved.values()), {}
        for event in reserved:
            event.owner = None
            self.give_back(event)
        self.serve({event.tube: None for event in reserved}, now)
        client.use.using -= 1
        for tube in client.watch.values():
            tube.watching -= 1
        for tube in (client.use, *client.watch.values()):
            book.tidy(tube)

    def pause(self, tube: Tube, seconds: int, now: float) -> None:
        """Give nothing from `tube` for so many seconds; 0 ends a pause."""
        tube.pauses += 1
        tube.pause = seconds
        tube.paused_until = now + seconds
        if seconds:
            self.book.alarms.set(tube, tube.paused_until)
        else:
            self.serve([tube], now)

    def tick(self, now: float) -> None:
        """Do what the time says: end reservations, delays and pauses, serve, then end waits."""
        rung = self.book.alarms.pop_due(now, RINGS_PER_TICK)
        tubes = [owner for owner in rung if isinstance(owner, Tube)]
        clients = [owner for owner in rung if isinstance(owner, Client)]
        filled = dict.fromkeys(tubes)
        for tube in tubes:
            self._end_delays(tube, now)
        for client in clients:
            filled.update(dict.fromkeys(self._end_reservations(client, now)))
        self.serve(filled, now)
        for client in clients:
            self._end_wait(client, now)
            self._schedule(client)

    def _end_delays(self, tube: Tube, now: float) -> None:
        if tube.pause and tube.paused_until <= now:
            tube.pause = 0
        for _ in range(RETURNS_PER_RING):
            event = tube.first_delayed()
            if event is None or event.due > now:
                break
            tube.drop_delayed(event)
            tube.add_ready(event)
        event = tube.first_delayed()
        if event is not None:
            self.book.alarms.set(tube, event.due)
        if tube.pause:
            self.book.alarms.set(tube, tube.paused_until)

    def _end_reservations(self, client: Client, now: float) -> Iterator[Tube]:
        while (event := client.soonest()) is not None and event.due <= now:
            client.let_go(event)
            event.owner = None
            event.timeouts += 1
            self.book.timeouts += 1
            self.give_back(event)
            yield event.tube

    def _end_wait(self, client: Client, now: float) -> None:
        wait = client.wait
        if wait is None:
            return
        if client.deadline_soon(now):
            self._answer(client, Refusal.DEADLINE_SOON)
        elif wait.until is not None and wait.until <= now:
            self._answer(client, Refusal.TIMED_OUT)

    def _take(self, client: Client, now: float, wanted: int) -> list[Event]:
        taken: list[Event] = []
        while len(taken) < wanted:
            tube = _best(client.watch.values())
            if tube is None:
                break
            event = tube.pop_ready()
            tube.reserved += 1
            event.state = State.RESERVED
            taken.append(self._grant(event, client, now))
        return taken

    def _grant(self, event: Event, client: Client, now: float) -> Event:
        event.owner = client
        event.reserves += 1
        event.due = now + event.ttr
        client.hold(event)
        self.book.alarms.set(client, event.due)
        self.book.dirty[event.id] = event
        return event

    def _schedule(self, client: Client) -> None:
        soonest, wait = client.soonest(), client.wait
        if soonest is not None:
            margin = 0.0 if wait is None else SAFETY_MARGIN
            self.book.alarms.set(client, soonest.due - margin)
        if wait is not None and wait.until is not None:
            self.book.alarms.set(client, wait.until)

    def _answer(self, client: Client, answer: Answer) -> None:
        self._stop_waiting(client)
        self.answers.append((client, answer))

    def _stop_waiting(self, client: Client) -> None:
        client.wait = None
        self.book.waiting -= 1
        for tube in client.watch.values():
            tube.waiting.pop(client, None)


def _best(tubes: Iterable[Tube]) -> Tube | None:
    """Return the tube whose next ready event comes before those of the others."""
    best, place = None, -1
    for tube in tubes:
        if tube.ready and not tube.pause:
            first = tube.first_ready()
            if best is None or first < place:
                best, place = tube, first
    return best


@define(eq=False, repr=False, weakref_slot=False)
class Change:
    """One event's move from `origin` to `target`, on its way into the store.

    None is "not in the queue". The event keeps its old priority, delay and counters until the
    change is settled; `pri`, `delay` and `due` are the new ones.
    """

    move: Move
    event: Event
    origin: State | None
    target: State | None
    owner: Client | None = None
    pri: int = 0
    delay: float = 0
    due: float = 0.0


@frozen
class Duplicate:
    """A put-key that did nothing because the event `id` has that key."""

    id: int


@define(eq=False, repr=False)
class Ledger:
    """The commands that change what is stored. Times are in seconds."""

    book: Book
    line: Line

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
    ) -> tuple[Change, ...] | Duplicate | Refusal:
        """Prepare a new event, the first of those returned, and its copies in the bound tubes."""
        if key is not None and key in tube.keys:
            return Duplicate(tube.keys[key])
        bound = self.book.bindings.get(tube.name)
        tubes = [tube] if bound is None else [tube, *map(self.book.tube, bound)]
        if not self._has_room(tubes, len(body)):
            for each in tubes:
                self.book.tidy(each)
            return Refusal.OUT_OF_MEMORY
        changes = tuple(
            [self._prepare(each, body, now, pri=pri, delay=delay, ttr=ttr) for each in tubes]
        )
        if key is not None:
            tube.keys[key] = changes[0].event.id
            changes[0].event.key = key
        return changes

    def _has_room(self, tubes: list[Tube], size: int) -> bool:
        book, limits = self.book, self.book.limits
        if limits.max_events is not None and book.kept + len(tubes) > limits.max_events:
            return False
        if limits.max_bytes is not None and book.bytes + size * len(tubes) > limits.max_bytes:
            return False
        most = limits.max_tube_events
        return most is None or all(each.alive + each.pending < most for each in tubes)

    def _prepare(
        self, tube: Tube, body: bytes, now: float, *, pri: int, delay: float, ttr: int
    ) -> Change:
        book, size = self.book, len(body)
        event = Event(book.next_id, tube, pri, delay, ttr, now, size, body)
        book.next_id += 1
        book.kept += 1
        book.bytes += size
        book.resident += size
        tube.pending += 1
        move = Move.POSTPONE if delay else Move.PUT
        event.state = State.DELAYED if delay else State.READY
        event.due = now + delay if delay else 0.0
        return Change(move, event, None, event.state, None, pri, delay, event.due)

    def delete(self, client: Client, event_id: int) -> Change | Refusal:
        """Remove an event for good, unless somebody else has it reserved."""
        return self._move(Move.DELETE, event_id, client)

    def release(
        self, client: Client, event_id: int, now: float, *, pri: int, delay: float
    ) -> Change | Refusal:
        """Give a reserved event back, with a new priority and perhaps a delay."""
        change = self._move(Move.POSTPONE if delay else Move.RELEASE, event_id, client)
        if isinstance(change, Change):
            change.pri, change.delay = pri, delay
            change.due = now + delay if delay else 0.0
        return change

    def bury(self, client: Client, event_id: int, now: float, *, pri: int) -> Change | Refusal:
        """Put a reserved event aside until it is kicked."""
        change = self._move(Move.BURY, event_id, client)
        if isinstance(change, Change):
            change.pri, change.due = pri, now
        return change

    def touch(self, client: Client, event_id: int, now: float) -> Change | Refusal:
        """Start the time to run of a reserved event again. It stays where it is."""
        event = self.book.events.get(event_id)
        if event is None or event.owner is not client:
            return Refusal.NOT_FOUND
        event.due = now + event.ttr
        client.hold(event)
        self.book.alarms.set(client, event.due)
        return Change(
            Move.TOUCH, event, State.RESERVED, State.RESERVED, client, event.pri, event.delay
        )

    def kick_id(self, event_id: int) -> Change | Refusal:
        """Make one buried or delayed event ready."""
        return self._move(Move.KICK, event_id, None)

    def kick(self, tube: Tube, state: State, most: int) -> list[Change]:
        """Make up to `most` events of `tube` that are in `state`, BURIED or DELAYED, ready."""
        first = tube.first_buried if state is State.BURIED else tube.first_delayed
        changes: list[Change] = []
        while len(changes) < most and (event := first()) is not None:
            changes.append(self._take(Move.KICK, event, State.READY))
        return changes

    def remove(self, ids: Iterable[int]) -> list[Change]:
        """Remove those of the events `ids` that nobody has reserved."""
        events = self.book.events
        return [
            self._take(Move.DELETE, event, None)
            for event_id in ids
            if (event := events.get(event_id)) is not None and event.state is not State.RESERVED
        ]

    def _move(self, move: Move, event_id: int, client: Client | None) -> Change | Refusal:
        event = self.book.events.get(event_id)
        if event is None:
            return Refusal.NOT_FOUND
        state = event.state
        if move not in MOVES[state]:
            return Refusal.NOT_FOUND
        if state is State.RESERVED and event.owner is not client:
            return Refusal.NOT_FOUND
        return self._take(move, event, MOVES[state][move])

    def _take(self, move: Move, event: Event, target: State | None) -> Change:
        change = Change(move, event, event.state, target, event.owner, event.pri, event.delay)
        self.book.unfile(event)
        self.book.dirty.pop(event.id, None)
        return change

    def settle(self, change: Change, now: float) -> None:
        """Make true what the store has committed."""
        if change.origin is None:
            self._admit(change.event, now)
        elif change.target is None:
            self._discard(change.event)
        elif change.move is not Move.TOUCH:
            self._arrive(change, now)

    def _admit(self, event: Event, now: float) -> None:
        book, tube = self.book, event.tube
        tube.pending -= 1
        tube.total += 1
        book.total += 1
        limit = book.limits.resident
        if limit is not None and book.resident > limit:
            event.body = None
            book.resident -= event.size
        tube.arrive(event)
        book.events[event.id] = event
        self._file(event, now)

    def _discard(self, event: Event) -> None:
        tube = event.tube
        tube.deletes += 1
        tube.reserved -= 1
        del self.book.events[event.id]
        self._uncount(event)

    def _uncount(self, event: Event) -> None:
        book, tube = self.book, event.tube
        book.kept -= 1
        book.bytes -= event.size
        if event.body is not None:
            book.resident -= event.size
        if event.key is not None:
            del tube.keys[event.key]
        book.tidy(tube)

    def _arrive(self, change: Change, now: float) -> None:
        event, move = change.event, change.move
        event.pri, event.delay, event.due = change.pri, change.delay, change.due
        event.releases += move is Move.RELEASE or move is Move.POSTPONE
        event.buries += move is Move.BURY
        event.kicks += move is Move.KICK
        event.tube.reserved -= 1
        assert change.target is not None
        event.state = change.target
        self._file(event, now)

    def _file(self, event: Event, now: float) -> None:
        self.book.file(event)
        if event.state is State.READY and event.tube.waiting:
            self.line.serve((event.tube,), now)

    def abort(self, change: Change, now: float) -> None:
        """Put everything back: the store could not commit."""
        event = change.event
        if change.origin is None:
            event.tube.pending -= 1
            self._uncount(event)
        elif change.move is not Move.TOUCH:
            self._put_back(change, now)

    def _put_back(self, change: Change, now: float) -> None:
        event, owner = change.event, change.owner
        self.book.dirty[event.id] = event
        if change.origin is not State.RESERVED:
            event.tube.reserved -= 1
            assert change.origin is not None
            event.state = change.origin
            self._file(event, now)
            if event.state is State.BURIED:
                event.tube.buried.move_to_end(event.id, last=False)
        elif owner is None or owner.closed:
            self.line.give_back(event)
            self.line.serve((event.tube,), now)
        else:
            event.owner = owner
            owner.hold(event)
            self.book.alarms.set(owner, event.due)


@define(eq=False, repr=False)
class Core:
    """The book, and the two that write in it."""

    book: Book = Factory(Book)
    line: Line = Factory(lambda self: Line(self.book), takes_self=True)
    ledger: Ledger = Factory(lambda self: Ledger(self.book, self.line), takes_self=True)
