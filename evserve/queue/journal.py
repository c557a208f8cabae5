"""The journal: what one commit holds, as rows for a store, and who waits for it.

Rows are made when a command is staged, in the reactor's thread, so the writer thread never looks
at an event that the core is changing.
"""

from enum import Enum
from typing import Final, Protocol, TypeAlias

from attrs import Factory, define, frozen

from evserve.queue.ledger import Change
from evserve.queue.model import Event
from evserve.queue.states import Move, State


class Outcome(Enum):
    """What became of a change."""

    COMMITTED = 1
    FULL = 2  # rolled back for want of space
    BROKEN = 3  # the store failed and takes no more


class Ticket(Protocol):
    """Somebody who waits for a commit."""

    def settle(self, outcome: Outcome) -> None:
        """Hear what became of it; called once, in the order in which tickets were staged."""
        ...


# id, tube, state, priority, delay, ttr, created, due, key, body
PutRow: TypeAlias = tuple[int, str, int, int, float, int, float, float, str | None, bytes | None]
# id, state, priority, delay, due, reserves, timeouts, releases, buries, kicks
UpdateRow: TypeAlias = tuple[int, int, int, float, float, int, int, int, int, int]


@frozen
class Binding:
    """A binding made (`bound`) or undone."""

    source: str
    target: str
    bound: bool


@frozen
class Written:
    """What became of a batch: of its puts, and of everything else in it."""

    puts: Outcome
    rest: Outcome
    seconds: float = 0.0


Entry: TypeAlias = tuple[Ticket, tuple[Change, ...]]

# One commit holds about as many rows; more would make those at its beginning wait for nothing.
BATCH_ROWS: Final = 256


@define(eq=False, repr=False)
class Batch:
    """The rows of one commit, and the tickets in the order in which they are settled."""

    entries: list[Entry] = Factory(list)
    puts: list[PutRow] = Factory(list)
    updates: list[UpdateRow] = Factory(list)
    deletes: list[int] = Factory(list)
    bindings: list[Binding] = Factory(list)

    @property
    def rows(self) -> int:
        """How many rows the commit writes."""
        return len(self.puts) + len(self.updates) + len(self.deletes) + len(self.bindings)

    def add(self, ticket: Ticket, changes: tuple[Change, ...]) -> None:
        """Write the rows of `changes` down, for `ticket`."""
        for change in changes:
            if change.origin is None:
                self.puts.append(_put_row(change.event))
            elif change.target is None:
                self.deletes.append(change.event.id)
            else:
                self.updates.append(_update_row(change))
        self.entries.append((ticket, changes))

    def add_counters(self, event: Event) -> None:
        """Write down how `event` stands; a reservation does not outlive the server."""
        state, due = event.state, event.due
        if state is State.RESERVED:
            state, due = State.READY, 0.0
        counts = (event.reserves, event.timeouts, event.releases, event.buries, event.kicks)
        self.updates.append((event.id, int(state), event.pri, event.delay, due, *counts))


def _put_row(event: Event) -> PutRow:
    return (
        event.id,
        event.tube.name,
        int(event.state),
        event.pri,
        event.delay,
        event.ttr,
        event.created,
        event.due,
        event.key,
        event.body,
    )


def _update_row(change: Change) -> UpdateRow:
    event, move = change.event, change.move
    target = State.READY if move is Move.TOUCH else change.target
    assert target is not None
    return (
        event.id,
        int(target),
        change.pri,
        change.delay,
        change.due,
        event.reserves,
        event.timeouts,
        event.releases + (move is Move.RELEASE or move is Move.POSTPONE),
        event.buries + (move is Move.BURY),
        event.kicks + (move is Move.KICK),
    )
