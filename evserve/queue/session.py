"""One connection's order: replies leave in the order of their commands.

Some replies wait for a commit, and the commands behind them should not: a producer that pipelines
a thousand puts must not wait a thousand syncs. So a reply that follows one that waits is queued
behind it in the same journal, and only commands that look at what is not committed yet are held.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, Protocol

from attrs import define, field

from evserve.queue.core import Answer, Change, Duplicate
from evserve.queue.engine import Engine
from evserve.queue.model import Client, Event, Refusal, State, Tube
from evserve.queue.parser import Flow, Parser, Put, Then
from evserve.queue.stats import Statistics, event_stats, name_list, tube_stats
from evserve.queue.store import Binding, Outcome, StoreError, Ticket


OUT_OF_MEMORY: Final = b"OUT_OF_MEMORY\r\n"
INTERNAL_ERROR: Final = b"INTERNAL_ERROR\r\n"

FAILURES: Final = {Outcome.FULL: OUT_OF_MEMORY, Outcome.BROKEN: INTERNAL_ERROR}

# A connection with so many replies waiting for commits, or so many bytes of commands waiting
# for a reply, is not read from until there are fewer.
MOST_OUTSTANDING: Final = 1024
MOST_PENDING: Final = 65536

# So many bytes of replies are sent before the next command is looked at: it may be the last that
# the other side has room for.
MOST_UNSENT: Final = 65536


class Pipe(Protocol):
    """The part of a Twisted transport that a channel uses, but for sending."""

    def loseConnection(self) -> None:
        """Close when everything has been sent."""
        ...

    def abortConnection(self) -> None:
        """Close now."""
        ...

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Tell `producer` when to pause."""
        ...

    def unregisterProducer(self) -> None:
        """Send what is left without asking whoever produces it."""
        ...

    def pauseProducing(self) -> None:
        """Stop reading."""
        ...

    def resumeProducing(self) -> None:
        """Read again."""
        ...


@define(eq=False, repr=False, weakref_slot=False)
class Reply:
    """A ticket: the reply to send when the commit has been made."""

    channel: "Channel"
    text: bytes

    def settle(self, outcome: Outcome) -> None:
        """See Ticket."""
        self.channel.settled(FAILURES.get(outcome, self.text))


@define(eq=False, repr=False)
class Channel(ABC):
    """The flow of one connection; `Session` adds the commands.

    `send` writes to the `pipe`.  `outstanding` counts the replies that wait for a commit.
    `busy`: a command is being carried out that the next ones have to wait for.  `with_tube` and
    `in_batch` say how its reply looks.
    """

    engine: Engine
    pipe: Pipe
    send: Callable[[bytes], None]
    statistics: Statistics
    client: Client = field(init=False)
    parser: Parser = field(init=False)
    outstanding: int = field(default=0, init=False)
    busy: bool = field(default=False, init=False)
    draining: bool = field(default=False, init=False)
    with_tube: bool = field(default=False, init=False)
    in_batch: bool = field(default=False, init=False)
    _out: list[bytes] = field(factory=list, init=False)
    _size: int = field(default=0, init=False)
    _blocked: bool = field(default=False, init=False)
    _reading: bool = field(default=True, init=False)
    _ended: bool = field(default=False, init=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.client = self.engine.connect(self)
        self.parser = Parser(self, self.engine.core.book.limits.max_job_size)

    def feed(self, data: bytes) -> None:
        """Take in what was received, carry out what can be."""
        if not self._closed:
            self.engine.tick()
            self.parser.feed(data)
            self.resume()
            self.engine.pump()

    def resume(self) -> None:
        """Carry out commands that wait, send replies that are there."""
        if not (self.busy or self._blocked or self._closed):
            self.parser.run()
        self._flush()
        self._regulate()
        if (self._ended or self.draining) and not self._closed:
            self._end()

    def reply(self, text: bytes) -> Then:
        """Send a reply, behind those that wait for a commit; stop if nobody reads it."""
        if self.outstanding:
            return self.promise(text)
        self._out.append(text)
        self._size += len(text)
        if self._size > MOST_UNSENT:
            self._flush()
            return Flow.STOP if self._blocked else None
        return None

    def promise(self, text: bytes, *changes: Change) -> Then:
        """Send a reply when `changes` have been committed."""
        return self.stage(Reply(self, text), *changes)

    def stage(self, ticket: Ticket, *changes: Change) -> Then:
        """Hand `changes` to the engine; `ticket` must call `settled` in the end."""
        self.outstanding += 1
        self.engine.stage(ticket, *changes)
        return Flow.STOP if self.outstanding >= MOST_OUTSTANDING else None

    def settled(self, text: bytes) -> None:
        """Send the reply of a ticket."""
        self.outstanding -= 1
        self._out.append(text)
        self.engine.wake(self)

    def say(self, text: bytes) -> None:
        """Send what a command that held up the others has to say; they may go on."""
        self.busy = False
        self._out.append(text)
        self.engine.wake(self)

    def block(self) -> None:
        """Carry nothing out: the other side does not read its replies."""
        self._blocked = True

    def unblock(self) -> None:
        """Go on: the other side reads again."""
        self._blocked = False
        self.engine.wake(self)
        self.engine.pump()

    def _flush(self) -> None:
        if self._out:
            out, self._out, self._size = self._out, [], 0
            self.send(out[0] if len(out) == 1 else b"".join(out))

    def _regulate(self) -> None:
        """Stop reading from those who send faster than they can be served."""
        reading = self.parser.pending < MOST_PENDING
        if reading is not self._reading:
            self._reading = reading
            if reading:
                self.pipe.resumeProducing()
            else:
                self.pipe.pauseProducing()

    def end_input(self) -> None:
        """Finish what was asked, then close: the other side sends no more."""
        self._ended = True
        self.engine.wake(self)
        self.engine.pump()

    def drain(self) -> None:
        """Finish what is reserved and what waits for a commit, then close."""
        self.draining = True
        self.engine.wake(self)
        self.engine.pump()

    def _end(self) -> None:
        waiting = self.client.wait is not None
        working = self.draining and self.client.reserved
        if waiting and (working or not self.draining):
            self.engine.core.line.hang_up(self.client)
        elif waiting or not (self.outstanding or self.busy or self._blocked or working):
            self.close()

    def close(self) -> None:
        """Close the connection when everything has been sent; what comes now is ignored."""
        self._closed = True
        self._flush()
        self.pipe.unregisterProducer()
        self.pipe.loseConnection()

    def abandon(self) -> None:
        """See Party. The next reply would pass for the one that is missing: there is none."""
        self._closed = True
        self._out.clear()
        self.pipe.abortConnection()

    def lost(self) -> None:
        """The connection is gone."""
        self._closed = True
        self.engine.disconnect(self.client)

    @abstractmethod
    def answer(self, answer: Answer) -> None:
        """See Party."""

    @abstractmethod
    def refuse(self, reply: bytes) -> Then:
        """See Commands."""

    @abstractmethod
    def refuse_put(self, reply: bytes) -> Then:
        """See Commands."""

    @abstractmethod
    def put(self, put: Put, body: bytes) -> Then:
        """See Commands."""

    @abstractmethod
    def quit(self) -> Then:
        """See Commands."""


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


PLAIN: Final = b"RESERVED %d %d\r\n%b\r\n"


@define(eq=False, repr=False)
class Consuming(Channel):
    """Verbs of consumers."""

    def reserve(self) -> Then:
        """Wait for an event."""
        return self._reserve("reserve", None)

    def reserve_with_timeout(self, timeout: int) -> Then:
        """Wait for an event, but not for ever."""
        return self._reserve("reserve-with-timeout", timeout)

    def reserve_from(self, timeout: int) -> Then:
        """Wait for an event; the reply names its tube."""
        return self._reserve("reserve-with-timeout", timeout, with_tube=True)

    def reserve_batch(self, most: int, timeout: int) -> Then:
        """Wait for an event, and take others that are ready with it."""
        if not most:
            return self.reply(b"BAD_FORMAT\r\n")
        return self._reserve("reserve-with-timeout", timeout, with_tube=True, most=most)

    def _reserve(
        self, verb: str, timeout: int | None, *, with_tube: bool = False, most: int = 0
    ) -> Then:
        if self.outstanding or (self.draining and not self.client.reserved):
            return Flow.AGAIN
        self.statistics.counts[verb] += 1
        if self.draining:
            # What it has in hand is settled behind this command, and must not wait for it.
            return self.reply(Refusal.TIMED_OUT.value)
        self.with_tube, self.in_batch = with_tube, most > 0
        engine = self.engine
        answer = engine.core.line.reserve(self.client, engine.now(), timeout, most or 1)
        if answer is None:
            self.busy = True
            return Flow.STOP
        return self.reply(self._format(answer))

    def answer(self, answer: Answer) -> None:
        """See Party."""
        self.say(self._format(answer))

    def _format(self, answer: Answer) -> bytes:
        if isinstance(answer, Refusal):
            return answer.value
        try:
            texts = [self._format_event(event) for event in answer]
        except StoreError:
            return INTERNAL_ERROR
        if self.in_batch:
            texts.insert(0, b"RESERVED_BATCH %d\r\n" % len(texts))
        return b"".join(texts)

    def _format_event(self, event: Event) -> bytes:
        body = self.engine.body(event)
        if self.with_tube:
            tube = event.tube.name.encode()
            return b"RESERVED %d %d %b\r\n%b\r\n" % (event.id, len(body), tube, body)
        return b"RESERVED %d %d\r\n%b\r\n" % (event.id, len(body), body)

    def reserve_job(self, event_id: int) -> Then:
        """Reserve one event by its id."""
        if self.outstanding or (self.draining and not self.client.reserved):
            return Flow.AGAIN
        self.with_tube = self.in_batch = False
        engine = self.engine
        answer = engine.core.line.reserve_id(self.client, event_id, engine.now())
        return self.reply(self._format(answer))

    def delete(self, event_id: int) -> Then:
        """Remove an event."""
        change = self.engine.core.ledger.delete(self.client, event_id)
        return self._change("delete", change, b"DELETED\r\n")

    def release(self, event_id: int, pri: int, delay: int) -> Then:
        """Give an event back."""
        engine = self.engine
        change = engine.core.ledger.release(
            self.client, event_id, engine.now(), pri=pri, delay=delay
        )
        return self._change("release", change, b"RELEASED\r\n")

    def bury(self, event_id: int, pri: int) -> Then:
        """Put an event aside."""
        engine = self.engine
        change = engine.core.ledger.bury(self.client, event_id, engine.now(), pri=pri)
        return self._change("bury", change, b"BURIED\r\n")

    def touch(self, event_id: int) -> Then:
        """Start an event's time to run again."""
        engine = self.engine
        change = engine.core.ledger.touch(self.client, event_id, engine.now())
        return self._change("touch", change, b"TOUCHED\r\n")

    def kick_job(self, event_id: int) -> Then:
        """Make one buried or delayed event ready."""
        change = self.engine.core.ledger.kick_id(event_id)
        return self._change(None, change, b"KICKED\r\n")

    def _change(self, verb: str | None, change: Change | Refusal, text: bytes) -> Then:
        if isinstance(change, Refusal) and self.outstanding:
            # What is missing may be on its way into the store, sent by this very connection.
            return Flow.AGAIN
        if verb is not None:
            self.statistics.counts[verb] += 1
        if isinstance(change, Refusal):
            return self.reply(change.value)
        return self.promise(text, change)

    def watch(self, tube: str) -> Then:
        """Reserve from `tube` too."""
        self.statistics.counts["watch"] += 1
        self.engine.core.book.watch(self.client, tube)
        return self.reply(b"WATCHING %d\r\n" % len(self.client.watch))

    def ignore(self, tube: str) -> Then:
        """Reserve no more from `tube`."""
        self.statistics.counts["ignore"] += 1
        if self.engine.core.book.ignore(self.client, tube):
            return self.reply(b"WATCHING %d\r\n" % len(self.client.watch))
        return self.reply(b"NOT_IGNORED\r\n")


NOT_FOUND = Refusal.NOT_FOUND.value


@define(eq=False, repr=False)
class Inspecting(Channel):
    """Verbs that show the queue; they wait until this connection's own changes are committed."""

    def _show(self, verb: str, text: bytes) -> Then:
        self.statistics.counts[verb] += 1
        return self.reply(text)

    def peek(self, event_id: int) -> Then:
        """Show an event."""
        if self.outstanding:
            return Flow.AGAIN
        return self._show("peek", self._found(self.engine.core.book.events.get(event_id)))

    def peek_ready(self) -> Then:
        """Show the next ready event of the tube in use."""
        if self.outstanding:
            return Flow.AGAIN
        return self._show("peek-ready", self._found(self.client.use.next_ready()))

    def peek_delayed(self) -> Then:
        """Show the delayed event whose delay ends next."""
        if self.outstanding:
            return Flow.AGAIN
        return self._show("peek-delayed", self._found(self.client.use.first_delayed()))

    def peek_buried(self) -> Then:
        """Show the event that was buried first."""
        if self.outstanding:
            return Flow.AGAIN
        return self._show("peek-buried", self._found(self.client.use.first_buried()))

    def _found(self, event: Event | None) -> bytes:
        if event is None:
            return NOT_FOUND
        try:
            body = self.engine.body(event)
        except StoreError:
            return INTERNAL_ERROR
        return b"FOUND %d %d\r\n%b\r\n" % (event.id, len(body), body)

    def stats(self) -> Then:
        """Show the server's statistics."""
        if self.outstanding:
            return Flow.AGAIN
        # Counted before it is shown, as clients expect.
        self.statistics.counts["stats"] += 1
        engine = self.engine
        return self.reply(self.statistics.server(engine.now(), draining=engine.draining))

    def stats_job(self, event_id: int) -> Then:
        """Show an event's statistics."""
        if self.outstanding:
            return Flow.AGAIN
        event = self.engine.core.book.events.get(event_id)
        text = NOT_FOUND if event is None else event_stats(event, self.engine.now())
        return self._show("stats-job", text)

    def stats_tube(self, tube: str) -> Then:
        """Show a tube's statistics."""
        if self.outstanding:
            return Flow.AGAIN
        found = self.engine.core.book.tubes.get(tube)
        text = NOT_FOUND if found is None else tube_stats(found, self.engine.now())
        return self._show("stats-tube", text)

    def list_tubes(self) -> Then:
        """Show the names of all tubes."""
        if self.outstanding:
            return Flow.AGAIN
        return self._show("list-tubes", name_list(self.engine.core.book.tubes))

    def list_tube_used(self) -> Then:
        """Show the tube in use."""
        return self._show("list-tube-used", b"USING %b\r\n" % self.client.use.name.encode())

    def list_tubes_watched(self) -> Then:
        """Show the watch list."""
        return self._show("list-tubes-watched", name_list(self.client.watch))

    def pause_tube(self, tube: str, seconds: int) -> Then:
        """Give nothing from `tube` for some time."""
        if self.outstanding:
            return Flow.AGAIN
        found = self.engine.core.book.tubes.get(tube)
        if found is None:
            return self._show("pause-tube", NOT_FOUND)
        self.engine.core.line.pause(found, seconds, self.engine.now())
        return self._show("pause-tube", b"PAUSED\r\n")

    def quit(self) -> Then:
        """Close the connection, behind what was asked before."""
        if self.outstanding:
            return Flow.AGAIN
        self.close()
        return Flow.STOP


@define(eq=False, repr=False)
class Session(Producing, Consuming, Inspecting):
    """See Channel for how commands and replies flow."""
