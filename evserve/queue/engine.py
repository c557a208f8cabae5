"""The engine: drives the core by the clock, and its changes through the store.

Whatever the core wants to tell clients is passed on from `pump`, never from inside a command, so
no client's code runs while the core is in the middle of something.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from attrs import Factory, define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from evserve.queue.book import DEFAULT_TUBE
from evserve.queue.commits import Commits
from evserve.queue.core import Core
from evserve.queue.journal import Batch, Binding, Ticket, Written
from evserve.queue.ledger import Change
from evserve.queue.line import Answer
from evserve.queue.model import Client, Event
from evserve.queue.store import Store, Writer


_log = Logger()


class Party(Protocol):
    """Whoever stands behind a Client."""

    def answer(self, answer: Answer) -> None:
        """Hear the answer to a reserve that had to wait."""
        ...

    def resume(self) -> None:
        """Go on after `Engine.wake`."""
        ...

    def abandon(self) -> None:
        """One of the above raised: nobody knows what was said and what was not."""
        ...


@define(eq=False, repr=False)
class Engine:
    """See the module. `observe` hears of each commit; `draining` refuses puts."""

    core: Core
    store: Store
    writer: Writer
    clock: IReactorTime
    observe: Callable[[Batch, Written], None] | None = None
    draining: bool = False
    commits: Commits = field(init=False)
    parties: dict[Client, Party] = Factory(dict)
    _woken: dict[Party, None] = Factory(dict)
    _pumping: bool = False
    _timer: IDelayedCall | None = None
    _closing: list[Deferred[None]] = Factory(list)
    _closed: bool = False

    def __attrs_post_init__(self) -> None:
        self.commits = Commits(
            self.core, self.store, self.writer, self.clock, self.pump, self.observe
        )

    def now(self) -> float:
        """The time, in seconds since the epoch: delays outlive the process."""
        return self.clock.seconds()

    def connect(self, party: Party, watch: Iterable[str] = (DEFAULT_TUBE,)) -> Client:
        """Let `party` in; returns the client it acts as, which watches the tubes named."""
        client = self.core.book.connect(watch)
        self.parties[client] = party
        return client

    def disconnect(self, client: Client) -> None:
        """Forget a client; what it had reserved becomes ready."""
        self.parties.pop(client)
        self.core.line.disconnect(client, self.now())
        self.pump()

    def body(self, event: Event) -> bytes:
        """Return an event's body; raises StoreError."""
        return self.store.body(event.id) if event.body is None else event.body

    def stage(self, ticket: Ticket, *changes: Change) -> None:
        """Have `changes` committed, then settle them and the ticket. Without any: in its turn.

        `pump` must follow.
        """
        self.commits.open_batch().add(ticket, changes)

    def bind(self, ticket: Ticket, binding: Binding) -> None:
        """Have a binding stored; it holds from now on, for puts in the same commit too."""
        batch = self.commits.open_batch()
        batch.bindings.append(binding)
        batch.add(ticket, ())

    def wake(self, party: Party) -> None:
        """Call `party.resume` at the end of the current `pump`."""
        self._woken[party] = None

    def tick(self) -> None:
        """Do what the time says, if it says anything."""
        when = self.core.book.alarms.next
        if when is not None and when <= (now := self.now()):
            self.core.line.tick(now)

    def pump(self) -> None:
        """Tell clients what there is to tell, until nothing is left; then sleep until needed."""
        if self._pumping:
            return
        self._pumping = True
        line = self.core.line
        while line.answers or self._woken:
            answers, line.answers = line.answers, []
            for client, answer in answers:
                party = self.parties.get(client)
                if party is not None:
                    _tell(party, party.answer, answer)
            woken, self._woken = self._woken, {}
            for party in woken:
                _tell(party, party.resume)
        self._pumping = False
        self._sleep()

    def _sleep(self) -> None:
        self.commits.schedule()
        if self._closing and self.commits.idle:
            self._finish()
        elif not self._closed:
            self._arm()

    def _arm(self) -> None:
        when = self.core.book.alarms.next
        if when is None:
            return
        if self._timer is None:
            self._timer = self.clock.callLater(max(0.0, when - self.now()), self._ring)
        elif when < self._timer.getTime():
            self._timer.reset(max(0.0, when - self.now()))

    def _ring(self) -> None:
        self._timer = None
        self.tick()
        self.pump()

    def close(self) -> Deferred[None]:
        """Write what is left and close the store; call it when the clients are gone."""
        done: Deferred[None] = Deferred()
        self._closing.append(done)
        self._closed = self.commits.closing = True
        self.pump()
        return done

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.writer.stop()
        waiting, self._closing = self._closing, []
        for done in waiting:
            done.callback(None)


def _tell(party: Party, call: Callable[..., None], *args: object) -> None:
    """Let what one client's call raises, be it for want of memory, be no matter of the others."""
    try:
        call(*args)
    except Exception:
        _log.failure("a client could not be told")
        party.abandon()
