"""What must be committed before it is true: puts, deletes, and moves between the states.

A command makes a Change: the event leaves its place at once, so that nobody else gets it, but
arrives at the new one only when the store has committed (`settle`), or goes back where it was
when the store could not (`abort`). So nobody ever sees an uncommitted event, and a failed commit
needs no undoing beyond that.
"""

from collections.abc import Iterable

from attrs import define, frozen

from evserve.queue.book import Book
from evserve.queue.line import Line
from evserve.queue.model import Client, Event, Refusal
from evserve.queue.states import MOVES, Move, State
from evserve.queue.tube import Tube


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
