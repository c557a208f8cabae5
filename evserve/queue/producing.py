"""The commands that put events and shape tubes."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from attrs import define

from evserve.queue.channel import FAILURES, OUT_OF_MEMORY, Channel
from evserve.queue.journal import Binding, Outcome
from evserve.queue.ledger import Change, Duplicate
from evserve.queue.model import Refusal
from evserve.queue.states import State
from evserve.queue.tube import Tube
from evserve.queue.wire import Flow, Put, Then


DRAINING: Final = b"DRAINING\r\n"
# How many events of one kick or truncate go into one commit, so that others get their turn.
CHUNK: Final = 256


@define(eq=False, repr=False)
class Producing(Channel):
    """Verbs of producers."""

    def refuse(self, reply: bytes) -> Then:
        """See Commands."""
        return self.reply(reply)

    def refuse_put(self, reply: bytes) -> Then:
        """See Commands."""
        self.statistics.counts["put"] += 1
        return self.reply(reply)

    def put(self, put: Put, body: bytes) -> Then:
        """See Commands."""
        self.statistics.counts["put"] += 1
        client, engine = self.client, self.engine
        client.produces = True
        if engine.draining or self.draining:
            return self.refuse(DRAINING)
        made = engine.core.ledger.put(
            client.use,
            body,
            engine.now(),
            pri=put.pri,
            delay=put.delay,
            ttr=put.ttr or 1,
            key=put.key,
        )
        if isinstance(made, Refusal):
            return self.refuse(made.value)
        if isinstance(made, Duplicate):
            assert put.key is not None
            return self.stage(_Exists(self, client.use, put.key, made.id))
        return self.promise(b"INSERTED %d\r\n" % made[0].event.id, *made)

    def use(self, tube: str) -> Then:
        """Put into `tube` from now on."""
        self.statistics.counts["use"] += 1
        self.engine.core.book.use(self.client, tube)
        return self.refuse(b"USING %b\r\n" % tube.encode())

    def bind(self, source: str, target: str) -> Then:
        """Copy what is put into `source` into `target` too."""
        if source == target:
            return self.refuse(b"BAD_FORMAT\r\n")
        targets = self.engine.core.book.bindings.get(source, {})
        return self._bind(Binding(source, target, bound=True), target in targets)

    def unbind(self, source: str, target: str) -> Then:
        """Undo a binding."""
        targets = self.engine.core.book.bindings.get(source, {})
        if target not in targets:
            return self.refuse(Refusal.NOT_FOUND.value)
        return self._bind(Binding(source, target, bound=False), True)

    def _bind(self, binding: Binding, was_bound: bool) -> Then:
        self.outstanding += 1
        ticket = _Bound(self, binding, was_bound)
        ticket.set_bound(binding.bound)
        self.engine.bind(ticket, binding)
        return None

    def kick(self, most: int) -> Then:
        """Make up to `most` buried events ready or, if there are none, delayed ones."""
        if self.outstanding:
            return Flow.AGAIN
        self.statistics.counts["kick"] += 1
        tube, ledger = self.client.use, self.engine.core.ledger
        state = State.BURIED if tube.buried else State.DELAYED

        def kicks() -> Iterator[list[Change]]:
            left = most
            while left and (changes := ledger.kick(tube, state, min(left, CHUNK))):
                left -= len(changes)
                yield changes

        return self._in_chunks(b"KICKED", kicks())

    def truncate(self, tube: str) -> Then:
        """Delete everything in `tube` that nobody has reserved."""
        if self.outstanding:
            return Flow.AGAIN
        found = self.engine.core.book.tubes.get(tube)
        if found is None:
            return self.refuse(Refusal.NOT_FOUND.value)
        ids, ledger = iter(list(found.arrivals)), self.engine.core.ledger
        chunks = iter(lambda: list(islice(ids, CHUNK)), [])
        return self._in_chunks(b"TRUNCATED", (ledger.remove(chunk) for chunk in chunks))

    def _in_chunks(self, verb: bytes, chunks: Iterator[list[Change]]) -> Then:
        self.busy = True
        _Chunks(self, verb, chunks).settle(Outcome.COMMITTED)
        return Flow.STOP


@define(eq=False, repr=False, weakref_slot=False)
class _Exists:
    """A put-key that found its key: by the time of its reply, the other event may have failed."""

    channel: Channel
    tube: Tube
    key: str
    id: int

    def settle(self, outcome: Outcome) -> None:
        """See Ticket."""
        exists = self.tube.keys.get(self.key) == self.id
        self.channel.settled(b"EXISTS %d\r\n" % self.id if exists else OUT_OF_MEMORY)


@define(eq=False, repr=False)
class _Bound:
    """A binding being stored: undone if it can't be."""

    channel: Channel
    binding: Binding
    was_bound: bool

    def settle(self, outcome: Outcome) -> None:
        """See Ticket."""
        if outcome is not Outcome.COMMITTED:
            self.set_bound(self.was_bound)
        text = b"BOUND\r\n" if self.binding.bound else b"UNBOUND\r\n"
        self.channel.settled(FAILURES.get(outcome, text))

    def set_bound(self, bound: bool) -> None:
        """Make the binding hold, or not."""
        book = self.channel.engine.core.book
        change = book.bind if bound else book.unbind
        change(self.binding.source, self.binding.target)


@define(eq=False, repr=False)
class _Chunks:
    """A command on many events: one commit after another, then a reply with their number."""

    channel: Channel
    verb: bytes
    chunks: Iterator[list[Change]]
    count: int = 0
    size: int = 0

    def settle(self, outcome: Outcome) -> None:
        """See Ticket; also begins the work."""
        if outcome is not Outcome.COMMITTED:
            self.channel.say(FAILURES[outcome])
            return
        self.count += self.size
        chunk = next(self.chunks, None)
        if chunk is None:
            self.channel.say(b"%b %d\r\n" % (self.verb, self.count))
        else:
            self.size = len(chunk)
            self.channel.engine.stage(self, *chunk)
