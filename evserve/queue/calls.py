"""Deferreds over the engine: what waits for a commit, and what waits for an event.

They fire from `resume`, when the engine is done with the batch or the moment that decided them:
a callback may call the queue again.
"""

from collections.abc import Iterable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from evserve.events.errors import QueueClosed, QueueError, QueueFull, QueueUnavailable
from evserve.events.event import Event
from evserve.queue.engine import Engine
from evserve.queue.journal import Binding, Outcome
from evserve.queue.ledger import Change
from evserve.queue.line import Answer
from evserve.queue.model import Client, Refusal
from evserve.queue.model import Event as Stored
from evserve.queue.store import StoreError


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
