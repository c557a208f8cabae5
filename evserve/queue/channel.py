"""One connection's order: replies leave in the order of their commands.

Some replies wait for a commit, and the commands behind them should not: a producer that pipelines
a thousand puts must not wait a thousand syncs. So a reply that follows one that waits is queued
behind it in the same journal, and only commands that look at what is not committed yet are held.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Protocol

from attrs import define, field

from evserve.queue.engine import Engine
from evserve.queue.journal import Outcome, Ticket
from evserve.queue.ledger import Change
from evserve.queue.line import Answer
from evserve.queue.model import Client
from evserve.queue.statistics import Statistics
from evserve.queue.wire import Flow, Parser, Put, Then


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
