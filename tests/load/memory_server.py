"""A server in memory, reached through a reactor whose clock the test moves."""

from attrs import define, field
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from evserve.load import LoadRun, Plan


@define(eq=False)
class MemoryConnection(StringTransport):
    """A connection to a server that answers after `reactor.delay` seconds."""

    reactor: "MemoryServerReactor"
    protocol: object = None
    sent: list = field(factory=list)

    def __attrs_post_init__(self):
        StringTransport.__init__(self)

    def write(self, data):
        self.sent.append(data)
        if self.reactor.delay is not None:
            self.reactor.callLater(self.reactor.delay, self.deliver, self.reactor.answer(data))

    def deliver(self, data):
        if self.connected and data:
            self.protocol.dataReceived(data)

    def lose(self, reason):
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(Failure(reason))

    def loseConnection(self):
        if not self.reactor.keeps_open:
            self.lose(error.ConnectionDone())

    def abortConnection(self):
        self.reactor.aborted += 1
        self.lose(error.ConnectionLost())


class MemoryServerReactor(MemoryReactorClock):
    """Connects every client at once, unless `refusals` says otherwise."""

    def __init__(self, delay=0.1, answer=lambda data: data):
        MemoryReactorClock.__init__(self)
        self.delay, self.answer = delay, answer
        self.connections, self.refusals, self.aborted = [], [], 0
        self.keeps_open = self.hangs = False

    def connectTCP(self, host, port, factory, timeout=30, bindAddress=None):
        connector = MemoryReactorClock.connectTCP(self, host, port, factory, timeout, bindAddress)
        if self.refusals:
            refusal = self.refusals.pop(0)
            factory.clientConnectionFailed(connector, Failure(refusal))
        elif not self.hangs:
            connection = MemoryConnection(self)
            connection.protocol = factory.buildProtocol(None)
            self.connections.append(connection)
            connection.protocol.makeConnection(connection)
        return connector


def begin(reactor, on_progress=None, **plan):
    """Start a run; return it and the Deferred of its report."""
    given = {"connect": "tcp:127.0.0.1:1", "connections": 2, "size": 8, **plan}
    run = LoadRun(reactor, Plan(**given), on_progress, reactor.seconds)
    return run, Deferred.fromCoroutine(run.run())


class RunTestCase(SynchronousTestCase):
    def setUp(self):
        self.reactor = MemoryServerReactor()

    def report(self, steps, **plan):
        """Return the report of a run that is over after `steps` seconds."""
        _, report = begin(self.reactor, **plan)
        self.pass_time(steps)
        return self.successResultOf(report)

    def pass_time(self, seconds):
        self.reactor.pump([0.01] * round(seconds * 100))
