"""A queue server in memory, on a Clock, with connections that a test drives by hand."""

import json
from base64 import b64decode

from attrs import Factory, define, field
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from evserve.queue.broker import Broker
from evserve.queue.core import Core
from evserve.queue.model import Limits
from evserve.queue.protocol import QueueProtocol
from evserve.queue.stats import Statistics
from evserve.queue.store import Batch, InlineWriter, MemoryStore, Outcome, WriteResult


COMMITTED = WriteResult(Outcome.COMMITTED, Outcome.COMMITTED)


@define(eq=False)
class HeldWriter:
    """A Writer that holds batches until the test calls `finish` with a result."""

    batches: list[tuple[Batch, object]] = Factory(list)
    stopped: bool = False

    def submit(self, batch, done):
        self.batches.append((batch, done))

    def finish(self, written=COMMITTED):
        batch, done = self.batches.pop(0)
        done(batch, written)
        return batch

    def stop(self):
        self.stopped = True


class Transport(StringTransport):
    """A StringTransport whose bytes are taken out once."""

    def take(self):
        data = self.value()
        self.clear()
        return data


@define(eq=False)
class MemoryServer:
    """A broker on a Clock; `connect` makes connections to it."""

    limits: Limits = Factory(Limits)
    writer: object = None
    store: object = Factory(MemoryStore)
    clock: Clock = Factory(Clock)
    broker: Broker = field(init=False)
    statistics: Statistics = field(init=False)

    def __attrs_post_init__(self):
        self.clock.advance(1_000_000)
        core = Core(self.limits)
        self.store.load(core)
        writer = self.writer or InlineWriter(self.store)
        self.statistics = Statistics(core, self.clock.seconds())
        self.broker = Broker(core, self.store, writer, self.clock)

    def connect(self):
        return Connection(self)

    def turn(self):
        """End the reactor's turn: what was gathered is flushed."""
        self.clock.advance(0)


class Connection:
    """A client in memory: `ask` sends, ends the turn and returns the replies."""

    def __init__(self, server):
        self.server = server
        self.transport = Transport()
        self.protocol = QueueProtocol(server.broker, server.statistics)
        self.protocol.makeConnection(self.transport)

    def send(self, data):
        self.protocol.dataReceived(data)

    def ask(self, data):
        self.send(data)
        self.server.turn()
        return self.transport.take()

    def put(self, body=b"body", pri=1, delay=0, ttr=60):
        reply = self.ask(b"put %d %d %d %d\r\n%b\r\n" % (pri, delay, ttr, len(body), body))
        assert reply.startswith(b"INSERTED "), reply
        return int(reply.split()[1])

    def history(self, request=b"history 1000\r\n"):
        _, _, lines = self.ask(request).partition(b"\r\n")
        rows = [json.loads(line) for line in lines[:-2].splitlines()]
        return [row | {name: b64decode(row[name]) for name in ("body", "result")} for row in rows]

    def lose(self):
        self.protocol.connectionLost()
        self.server.turn()
