"""Who gets which event, and when: reservations, waiting consumers, deadlines.

The rule that keeps this cheap: nobody waits on a tube that has an event to give. Whatever makes
an event ready or ends a pause serves the first in line at once, so no command has to search.
"""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from attrs import Factory, define

from evserve.queue.book import Book
from evserve.queue.model import SAFETY_MARGIN, Client, Event, Refusal, Wait
from evserve.queue.states import MOVES, Move, State
from evserve.queue.tube import Tube


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
