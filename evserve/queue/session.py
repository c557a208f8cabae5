"""One connection's commands and replies. The table of verbs is at the end of this file.

Replies leave in the order of their commands. Some of them wait for a commit, and the commands
behind them should not: a producer that pipelines a thousand puts must not wait for a thousand
syncs. So a reply that follows one that waits goes through the same batches, and only commands
that look at what is not committed yet are held back.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from functools import partial
from itertools import islice
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from evserve.events import ERRORS, State
from evserve.queue.broker import Broker, Delivered
from evserve.queue.core import Change
from evserve.queue.model import Client, Event, Refusal
from evserve.queue.parser import Command, Parser
from evserve.queue.stats import Statistics, event_stats, name_list, tube_stats
from evserve.queue.store import Binding, Kept, Outcome, Record, StoreError


_log = Logger()

_BAD_FORMAT: Final = b"BAD_FORMAT\r\n"
_DRAINING: Final = b"DRAINING\r\n"
_INTERNAL_ERROR: Final = b"INTERNAL_ERROR\r\n"
_NOT_FOUND: Final = Refusal.NOT_FOUND.value
_OUT_OF_MEMORY: Final = Refusal.OUT_OF_MEMORY.value

_FAILURES: Final = {
    Outcome.FULL: _OUT_OF_MEMORY,
    Outcome.BROKEN: _INTERNAL_ERROR,
    Outcome.DAMAGED: _INTERNAL_ERROR,
    Outcome.BUSY: _OUT_OF_MEMORY,  # protocol.txt: "The client should try again later"
}

# A connection with more replies that wait for commits, or more bytes of commands that wait to run,
# is not read from until there are fewer.
_MAX_OUTSTANDING: Final = 1024
_MAX_PENDING: Final = 65536
# After so many bytes of replies they are sent before the next command runs: the client may not
# have room for more.
_MAX_UNSENT: Final = 65536
# The most events of one kick or truncate in one commit, so that other clients get their turn.
_CHUNK: Final = 256


# During a drain, a client that holds events gets so many replies to `reserve` at once, and after
# those one in so many seconds: many clients reserve again as soon as they are told that there is
# nothing, and would take the server's time from those who finish their work.
_DRAIN_REPLIES: Final = 16
_DRAIN_PAUSE: Final = 1.0


class _Hold(Enum):
    """Instead of a reply: run the command again when the session resumes."""

    HOLD = 1


_HOLD: Final = _Hold.HOLD
# None: the reply comes later.
_Reply: TypeAlias = bytes | _Hold | None


@define(eq=False, repr=False)
class Session:
    """Carries out the commands of one connection (a Receiver of the broker).

    transport: a Twisted stream transport.  send: what to call instead of its `write`.

    `_has_commands`: there may be a command to run. `_outstanding` counts the replies that wait for
    a commit. `_busy`: a command is running that the next ones have to wait for. `_blocked`: the
    client does not read its replies. `_ended`: it sends no more. `_with_tube` and `_in_batch` say
    how a reserve is answered.
    """

    broker: Broker
    transport: Any  # ITransport lacks most of what every stream transport can do
    send: Callable[[bytes], None]
    statistics: Statistics
    client: Client = field(init=False)
    parser: Parser = field(init=False)
    _has_commands: bool = field(default=False, init=False)
    _held: Command | None = field(default=None, init=False)
    _outstanding: int = field(default=0, init=False)
    _busy: bool = field(default=False, init=False)
    _blocked: bool = field(default=False, init=False)
    _reading: bool = field(default=True, init=False)
    _ended: bool = field(default=False, init=False)
    _draining: bool = field(default=False, init=False)
    _drain_replies: int = field(default=0, init=False)
    _drain_pause: IDelayedCall | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)
    _with_tube: bool = field(default=False, init=False)
    _in_batch: bool = field(default=False, init=False)
    _out: list[bytes] = field(factory=list, init=False)
    _out_size: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.client = self.broker.connect(self)
        self.parser = Parser(self.broker.core.limits.max_job_size)

    # The flow of commands and replies.

    def feed(self, data: bytes) -> None:
        """Receive bytes, and run the commands that can run now."""
        if not self._closed:
            self.broker.tick()
            self.parser.feed(data)
            self._has_commands = True
            self.resume()
            self.broker.pump()

    def resume(self) -> None:
        """Run the commands that can run now, and send the replies that are ready."""
        if self._has_commands:
            self._run_commands()
        if self._out:
            self._flush()
        # Without a command to run, less than a command is pending.
        if self._has_commands or not self._reading:
            self._pause_or_read()
        if (self._ended or self._draining) and not self._closed:
            self._close_when_done()

    def _run_commands(self) -> None:
        next_command, counts = self.parser.next_command, self.statistics.counts
        while not (self._busy or self._blocked or self._closed):
            if self._outstanding >= _MAX_OUTSTANDING:
                return
            command = self._held
            if command is not None:
                self._held = None
            elif (command := next_command()) is None:
                self._has_commands = False
                return
            name, arguments = command
            verb = VERBS[name]
            waits = verb.waits and self._outstanding
            reply = _HOLD if waits else verb.run(self, *arguments)
            if reply is _HOLD:
                self._held = command
                return
            if verb.counter is not None:
                counts[verb.counter] += 1
            if reply is not None:
                self._reply(reply)

    def _pause_or_read(self) -> None:
        """Read no more while too many bytes of commands wait to run."""
        reading = self.parser.pending < _MAX_PENDING
        if reading is not self._reading:
            self._reading = reading
            if reading:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    def _reply(self, text: bytes) -> None:
        """Send a reply, behind those that wait for a commit."""
        if self._outstanding:
            self._outstanding += 1
            self.broker.submit(partial(self._in_turn, text))
            return
        self._out.append(text)
        self._out_size += len(text)
        if self._out_size > _MAX_UNSENT:
            self._flush()

    def _in_turn(self, text: bytes, _outcome: Outcome) -> None:
        # The command has been carried out, whatever becomes of the others in that commit.
        self._committed(text, Outcome.COMMITTED)

    def _commit(
        self, text: bytes, changes: Sequence[Change], record: Record | None = None
    ) -> _Reply:
        """Reply with `text` when `changes` and `record` have been committed."""
        self._outstanding += 1
        self.broker.submit(partial(self._committed, text), changes, record)
        return None

    def _look_again(self) -> _Reply:
        """Run the command again when the next commit has decided about what it looks at."""
        self._outstanding += 1
        self.broker.submit(partial(self._in_turn, b""))
        return _HOLD

    def _committed(self, text: bytes, outcome: Outcome) -> None:
        self._outstanding -= 1
        self._out.append(text if outcome is Outcome.COMMITTED else _FAILURES[outcome])
        self.broker.wake(self)

    def _finish_busy(self, text: bytes) -> None:
        """Send the reply of a command that the next ones had to wait for."""
        self._busy = False
        self._out.append(text)
        self.broker.wake(self)

    def _flush(self) -> None:
        if self._out:
            out, self._out, self._out_size = self._out, [], 0
            self.send(out[0] if len(out) == 1 else b"".join(out))

    def block(self) -> None:
        """Run no commands: the client does not read its replies."""
        self._blocked = True

    def unblock(self) -> None:
        """Go on: the client reads again."""
        self._blocked = False
        self._resume_soon()

    def end_input(self) -> None:
        """Run the commands that were received, then close: the client sends no more."""
        self._ended = True
        self._resume_soon()

    def drain(self) -> None:
        """Let the client settle its reservations and get its replies, then close."""
        self._draining = True
        self._resume_soon()

    @property
    def is_busy(self) -> bool:
        """Whether the client waits for a reply, or has reserved events."""
        return bool(self._busy or self._outstanding or self.client.reserved)

    def _resume_soon(self) -> None:
        self.broker.wake(self)
        self.broker.pump()

    def _close_when_done(self) -> None:
        waiting = self.client.wait is not None
        working = self._draining and bool(self.client.reserved)
        if waiting and (working or not self._draining):
            self.broker.core.end_wait(self.client)
            return
        if self._ended:
            working = False  # it can settle nothing any more
        if waiting or not (self._outstanding or self._busy or self._blocked or working):
            self.close()

    def close(self) -> None:
        """Close the connection when everything has been sent; ignore what is received later."""
        self._closed = True
        self._flush()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """Close now: after a lost reply, the client would take the next one for it."""
        self._closed = True
        self._out.clear()
        self.transport.abortConnection()

    def connection_lost(self) -> None:
        """Give back the client's reservations."""
        self._closed = True
        if self._drain_pause is not None:
            self._drain_pause.cancel()
        self.broker.disconnect(self.client)

    # Verbs of producers.

    def put(
        self, pri: int, delay: int, ttr: int, body: bytes, *, key: str | None = None
    ) -> _Reply:
        """Put an event, and copies of it in the tubes bound to its own."""
        client, broker = self.client, self.broker
        client.is_producer = True
        tube = client.use
        # The records of buried events are put all the same: what was reserved is still settled.
        if (broker.draining or self._draining) and tube.name != ERRORS:
            return _DRAINING
        made = broker.core.put(
            tube, body, broker.now(), pri=pri, delay=delay, ttr=ttr or 1, key=key
        )
        if isinstance(made, list):
            return self._commit(b"INSERTED %d\r\n" % made[0].event.id, made)
        if isinstance(made, Refusal):
            # This connection may have made room just now.
            return _HOLD if self._outstanding else made.value
        if not made.is_settled:
            return self._look_again()
        # A failed store may hold that event or not: only a restart tells.
        return _INTERNAL_ERROR if broker.broken else b"EXISTS %d\r\n" % made.id

    def put_key(self, key: str, pri: int, delay: int, ttr: int, body: bytes) -> _Reply:
        """Put an event, unless its tube has one with its key."""
        return self.put(pri, delay, ttr, body, key=key)

    def advance(self, sequence: str, number: int, *event: Any) -> _Reply:
        """Move a sequence forward and, for advance-put, put an event in the same commit.

        event: the tube, priority, TTR and body.
        """
        broker, core = self.broker, self.broker.core
        if sequence in core.advancing:
            return self._look_again()
        if core.has_reached(sequence, number):
            return b"NOT_ADVANCED\r\n"
        changes: list[Change] = []
        if event:
            tube, pri, ttr, body = event
            self.client.is_producer = True
            if broker.draining or self._draining:
                return _DRAINING
            made = core.put(core.tube(tube), body, broker.now(), pri=pri, ttr=ttr or 1)
            if not isinstance(made, list):  # there is no room
                return _HOLD if self._outstanding else _OUT_OF_MEMORY
            changes = made
        self._outstanding += 1
        broker.advance(partial(self._committed, b"ADVANCED\r\n"), sequence, number, changes)
        return None

    def use(self, tube: str) -> _Reply:
        """Put into `tube` from now on."""
        self.broker.core.use(self.client, tube)
        return b"USING %b\r\n" % tube.encode()

    def bind(self, source: str, target: str) -> _Reply:
        """Copy each event put into `source` into `target` too."""
        if source == target:
            return _BAD_FORMAT
        return self._set_binding(source, target, bound=True)

    def unbind(self, source: str, target: str) -> _Reply:
        """Undo a binding."""
        if target not in self.broker.core.bindings.get(source, {}):
            return _NOT_FOUND
        return self._set_binding(source, target, bound=False)

    def list_bindings(self) -> _Reply:
        """Show all bindings, one a line."""
        bindings = self.broker.core.bindings
        pairs = sorted((source, target) for source in bindings for target in bindings[source])
        return name_list(f"{source} {target}" for source, target in pairs)

    def _set_binding(self, source: str, target: str, *, bound: bool) -> _Reply:
        """Set a binding at once, for puts in the same commit too; undo it if that fails."""
        core = self.broker.core
        was_bound = target in core.bindings.get(source, {})

        def on_commit(outcome: Outcome) -> None:
            if outcome is not Outcome.COMMITTED:
                (core.bind if was_bound else core.unbind)(source, target)
            self._committed(b"BOUND\r\n" if bound else b"UNBOUND\r\n", outcome)

        (core.bind if bound else core.unbind)(source, target)
        self._outstanding += 1
        self.broker.submit(on_commit, record=Binding(source, target, bound))
        return None

    # Verbs of consumers.

    def reserve(
        self,
        timeout: int | None = None,
        most: int = 1,
        *,
        with_tube: bool = False,
        in_batch: bool = False,
    ) -> _Reply:
        """Wait for an event, for `timeout` seconds, and take others that are ready with it.

        with_tube, in_batch: reply as for reserve-from, as for reserve-batch.
        """
        if self._draining:
            # The commands that settle the client's reservations follow, so this one must not wait.
            return self._refuse_reserve() if self.client.reserved else _HOLD
        self._with_tube, self._in_batch = with_tube, in_batch
        answer = self.broker.reserve(self.client, timeout, most)
        if answer is None:
            self._busy = True
            return None
        return self._format(answer)

    def _refuse_reserve(self) -> _Reply:
        if self._drain_replies < _DRAIN_REPLIES:
            self._drain_replies += 1
            return Refusal.TIMED_OUT.value
        self._busy = True
        self._drain_pause = self.broker.clock.callLater(_DRAIN_PAUSE, self._end_drain_pause)
        return None

    def _end_drain_pause(self) -> None:
        self._drain_pause = None
        self._finish_busy(Refusal.TIMED_OUT.value)
        self.broker.pump()

    def reserve_batch(self, most: int, timeout: int) -> _Reply:
        """Wait for an event, and take up to `most` that are ready."""
        return self.reserve(timeout, most, with_tube=True, in_batch=True)

    def answer(self, answer: Delivered) -> None:
        """Send the answer to a reserve that had to wait."""
        self._finish_busy(self._format(answer))

    def _format(self, answer: Delivered) -> bytes:
        if isinstance(answer, Refusal):
            return answer.value
        if not self._in_batch:
            return self._format_event(*answer[0])
        texts = [self._format_event(event, body) for event, body in answer]
        return b"RESERVED_BATCH %d\r\n%b" % (len(texts), b"".join(texts))

    def _format_event(self, event: Event, body: bytes) -> bytes:
        if self._with_tube:
            tube = event.tube.name.encode()
            return b"RESERVED %d %d %b\r\n%b\r\n" % (event.id, len(body), tube, body)
        return b"RESERVED %d %d\r\n%b\r\n" % (event.id, len(body), body)

    def reserve_job(self, event_id: int) -> _Reply:
        """Reserve one event by its id."""
        if self._draining and not self.client.reserved:
            return _HOLD
        self._with_tube = self._in_batch = False
        return self._format(self.broker.reserve_job(self.client, event_id))

    def delete(self, event_id: int) -> _Reply:
        """Delete an event."""
        broker = self.broker
        change = broker.core.delete(self.client, event_id)
        if broker.keep and isinstance(change, Change):
            return self._keep(change, b"DELETED\r\n", broker.keep)
        return self._change(change, b"DELETED\r\n")

    def delete_keep(self, event_id: int, seconds: int, result: bytes) -> _Reply:
        """Delete an event that this client has reserved, and keep it with its result."""
        if event_id not in self.client.reserved:
            return _HOLD if self._outstanding else _NOT_FOUND
        change = self.broker.core.delete(self.client, event_id)
        assert isinstance(change, Change)  # the client has it
        return self._keep(change, b"DELETED\r\n", seconds, result=result)

    def _keep(
        self, change: Change, text: bytes, seconds: float, result: bytes = b"", error: str = ""
    ) -> _Reply:
        """Reply on a commit that also puts a reserved event into the history."""
        kept = self.broker.kept(change, seconds, result=result, error=error)
        return self._commit(text, (change,), kept)

    def release(self, event_id: int, pri: int, delay: int) -> _Reply:
        """Make a reserved event ready or delayed."""
        broker = self.broker
        change = broker.core.release(self.client, event_id, broker.now(), pri=pri, delay=delay)
        return self._change(change, b"RELEASED\r\n")

    def bury(self, event_id: int, pri: int) -> _Reply:
        """Set a reserved event aside."""
        broker = self.broker
        change = broker.core.bury(self.client, event_id, broker.now(), pri=pri)
        if broker.keep and isinstance(change, Change):
            return self._keep(change, b"BURIED\r\n", broker.keep)
        return self._change(change, b"BURIED\r\n")

    def bury_keep(self, event_id: int, pri: int, seconds: int, error: bytes) -> _Reply:
        """Set a reserved event aside, and keep a copy with the reason."""
        broker = self.broker
        change = broker.core.bury(self.client, event_id, broker.now(), pri=pri)
        if isinstance(change, Refusal):
            return self._change(change, b"")
        text = error.decode(errors="backslashreplace").replace("\0", "\\x00")
        return self._keep(change, b"BURIED\r\n", seconds, error=text)

    def touch(self, event_id: int) -> _Reply:
        """Restart a reserved event's TTR."""
        broker = self.broker
        change = broker.core.touch(self.client, event_id, broker.now())
        return self._change(change, b"TOUCHED\r\n")

    def kick_job(self, event_id: int) -> _Reply:
        """Make one buried or delayed event ready."""
        return self._change(self.broker.core.kick_job(event_id), b"KICKED\r\n")

    def _change(self, change: Change | Refusal, text: bytes) -> _Reply:
        if isinstance(change, Refusal):
            # This connection may have put or changed the event just now.
            return _HOLD if self._outstanding else change.value
        return self._commit(text, (change,))

    def watch(self, tube: str) -> _Reply:
        """Add `tube` to the watch list."""
        self.broker.core.watch(self.client, tube)
        return b"WATCHING %d\r\n" % len(self.client.watch)

    def ignore(self, tube: str) -> _Reply:
        """Remove `tube` from the watch list."""
        if self.broker.core.ignore(self.client, tube):
            return b"WATCHING %d\r\n" % len(self.client.watch)
        return b"NOT_IGNORED\r\n"

    # Verbs on many events.

    def kick(self, bound: int) -> _Reply:
        """Make up to `bound` buried events ready or, if there are none, delayed ones."""
        tube, core = self.client.use, self.broker.core
        state = State.BURIED if tube.buried else State.DELAYED

        def chunks() -> Iterator[list[Change]]:
            left = bound
            while left and (changes := core.kick(tube, state, min(left, _CHUNK))):
                left -= len(changes)
                yield changes

        return self._commit_chunks(b"KICKED", chunks())

    def truncate(self, name: str) -> _Reply:
        """Delete every event of the tube `name` that is not reserved."""
        core = self.broker.core
        tube = core.tubes.get(name)
        if tube is None:
            return _NOT_FOUND
        ids = iter(list(tube.arrivals))
        id_chunks = iter(lambda: list(islice(ids, _CHUNK)), [])
        return self._commit_chunks(b"TRUNCATED", map(core.delete_unreserved, id_chunks))

    def _commit_chunks(self, verb: bytes, chunks: Iterator[list[Change]]) -> _Reply:
        """Commit one chunk after another, then reply with the number of events."""
        count = 0

        def commit_next(size: int, outcome: Outcome = Outcome.COMMITTED) -> None:
            nonlocal count
            if outcome is not Outcome.COMMITTED:
                self._finish_busy(_FAILURES[outcome])
                return
            count += size
            chunk = next(chunks, None)
            if chunk is None:
                self._finish_busy(b"%b %d\r\n" % (verb, count))
            else:
                self.broker.submit(partial(commit_next, len(chunk)), chunk)

        self._busy = True
        commit_next(0)
        return None

    # Verbs that look at the queue.

    def position(self, sequence: str) -> _Reply:
        """Show the number that a sequence has reached."""
        number = self.broker.core.sequences.get(sequence)
        return _NOT_FOUND if number is None else b"POSITION %d\r\n" % number

    def history_tube(self, tube: str, most: int) -> _Reply:
        """Show what was kept of a tube, the last first."""
        return self.history(most, tube)

    def history(self, most: int, tube: str | None = None) -> _Reply:
        """Show what was kept, the last first: a line of JSON for each event."""
        broker = self.broker
        try:
            rows = broker.store.history(tube, most, broker.now())
        except StoreError:
            return _INTERNAL_ERROR
        data = "".join(f"{json.dumps(_kept_object(row))}\n" for row in rows).encode()
        return b"OK %d\r\n%b\r\n" % (len(data), data)

    def peek(self, event_id: int) -> _Reply:
        """Show an event."""
        return self._found(self.broker.core.events.get(event_id))

    def peek_ready(self) -> _Reply:
        """Show the next ready event of the tube in use."""
        return self._found(self.client.use.first_ready())

    def peek_delayed(self) -> _Reply:
        """Show the event of the tube in use whose delay ends next."""
        return self._found(self.client.use.first_delayed())

    def peek_buried(self) -> _Reply:
        """Show the event of the tube in use that was buried first."""
        return self._found(self.client.use.first_buried())

    def _found(self, event: Event | None) -> bytes:
        if event is None:
            return _NOT_FOUND
        try:
            body = self.broker.body(event)
        except StoreError:
            return _INTERNAL_ERROR
        return b"FOUND %d %d\r\n%b\r\n" % (event.id, len(body), body)

    def stats(self) -> _Reply:
        """Show the server's statistics, which count this command."""
        self.statistics.counts["stats"] += 1
        broker = self.broker
        return self.statistics.server_stats(broker.now(), draining=broker.draining)

    def stats_job(self, event_id: int) -> _Reply:
        """Show an event's statistics."""
        event = self.broker.core.events.get(event_id)
        return _NOT_FOUND if event is None else event_stats(event, self.broker.now())

    def stats_tube(self, name: str) -> _Reply:
        """Show a tube's statistics."""
        tube = self.broker.core.tubes.get(name)
        return _NOT_FOUND if tube is None else tube_stats(tube, self.broker.now())

    def list_tubes(self) -> _Reply:
        """Show the names of all tubes."""
        return name_list(self.broker.core.tubes)

    def list_tube_used(self) -> _Reply:
        """Show the tube in use."""
        return b"USING %b\r\n" % self.client.use.name.encode()

    def list_tubes_watched(self) -> _Reply:
        """Show the watch list."""
        return name_list(self.client.watch)

    # The rest.

    def pause_tube(self, name: str, seconds: int) -> _Reply:
        """Reserve nothing from the tube `name` for some time."""
        tube = self.broker.core.tubes.get(name)
        if tube is None:
            return _NOT_FOUND
        self.broker.core.pause(tube, seconds, self.broker.now())
        return b"PAUSED\r\n"

    def drain_puts(self, switch: str) -> _Reply:
        """Refuse puts from now on, or accept them again."""
        draining = switch == "on"
        if draining is not self.broker.draining:
            _log.info("drain {switch}, as a client asked for", switch=switch)
        self.broker.draining = draining
        return b"DRAIN %b\r\n" % switch.encode()

    def quit(self) -> None:
        """Close the connection."""
        self.close()

    def refuse(self, reply: bytes) -> _Reply:
        """Reply to a line or body that the parser did not accept."""
        return reply


def _kept_object(row: Kept) -> dict[str, Any]:
    fields = row._asdict()
    for name in ("body", "result"):
        fields[name] = b64encode(fields[name]).decode()
    del fields["expires"]
    return fields


@frozen
class _Verb:
    """The method that runs a verb.

    waits: whether it looks at the queue, so that it has to wait until this connection's own
    changes are committed.  counter: its name in `stats`.
    """

    run: Callable[..., _Reply]
    waits: bool = False
    counter: str | None = None


_TIMED: Final = "reserve-with-timeout"

# What beanstalkd's dispatch_cmd does; the arguments of each verb are in parser.py.
VERBS: Final[dict[str, _Verb]] = {
    # Producers.
    "put": _Verb(Session.put, counter="put"),
    "put-key": _Verb(Session.put_key, counter="put"),
    "use": _Verb(Session.use, counter="use"),
    "advance": _Verb(Session.advance),
    "advance-put": _Verb(Session.advance, counter="put"),
    "bind": _Verb(Session.bind),
    "unbind": _Verb(Session.unbind),
    "list-bindings": _Verb(Session.list_bindings, waits=True),
    # Consumers.
    "reserve": _Verb(Session.reserve, waits=True, counter="reserve"),
    "reserve-with-timeout": _Verb(Session.reserve, waits=True, counter=_TIMED),
    "reserve-from": _Verb(partial(Session.reserve, with_tube=True), waits=True, counter=_TIMED),
    "reserve-batch": _Verb(Session.reserve_batch, waits=True, counter=_TIMED),
    "reserve-job": _Verb(Session.reserve_job, waits=True),
    "delete": _Verb(Session.delete, counter="delete"),
    "release": _Verb(Session.release, counter="release"),
    "bury": _Verb(Session.bury, counter="bury"),
    "delete-keep": _Verb(Session.delete_keep, counter="delete"),
    "bury-keep": _Verb(Session.bury_keep, counter="bury"),
    "touch": _Verb(Session.touch, counter="touch"),
    "watch": _Verb(Session.watch, counter="watch"),
    "ignore": _Verb(Session.ignore, counter="ignore"),
    # Operators.
    "peek": _Verb(Session.peek, waits=True, counter="peek"),
    "peek-ready": _Verb(Session.peek_ready, waits=True, counter="peek-ready"),
    "peek-delayed": _Verb(Session.peek_delayed, waits=True, counter="peek-delayed"),
    "peek-buried": _Verb(Session.peek_buried, waits=True, counter="peek-buried"),
    "kick": _Verb(Session.kick, waits=True, counter="kick"),
    "kick-job": _Verb(Session.kick_job),
    "truncate": _Verb(Session.truncate, waits=True),
    "position": _Verb(Session.position, waits=True),
    "history": _Verb(Session.history, waits=True),
    "history-tube": _Verb(Session.history_tube, waits=True),
    "stats": _Verb(Session.stats, waits=True),
    "stats-job": _Verb(Session.stats_job, waits=True, counter="stats-job"),
    "stats-tube": _Verb(Session.stats_tube, waits=True, counter="stats-tube"),
    "list-tubes": _Verb(Session.list_tubes, waits=True, counter="list-tubes"),
    "list-tube-used": _Verb(Session.list_tube_used, counter="list-tube-used"),
    "list-tubes-watched": _Verb(Session.list_tubes_watched, counter="list-tubes-watched"),
    "pause-tube": _Verb(Session.pause_tube, waits=True, counter="pause-tube"),
    "drain": _Verb(Session.drain_puts),
    "quit": _Verb(Session.quit, waits=True),
    # Lines and bodies that the parser did not accept.
    "refuse": _Verb(Session.refuse),
    "refuse-put": _Verb(Session.refuse, counter="put"),
}
