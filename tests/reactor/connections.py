"""Runs a scenario on a uvloop reactor made for it, and connects protocols on that reactor."""

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Factory, Protocol

from evserve.reactor import new_reactor


SECONDS = 120  # after which a scenario counts as hung


class Recorder(Protocol):
    """Keeps what it receives; `made` fires with it, `lost` with the type of the reason."""

    def __init__(self):
        self.got = b""
        self.made = Deferred()
        self.lost = Deferred()
        self._wanted = None

    def connectionMade(self):
        self.made.callback(self)

    def dataReceived(self, data):
        self.got += data
        self._check()

    def receive(self, count):
        """Return a Deferred that fires once `count` bytes have come."""
        self._wanted = count, Deferred()
        deferred = self._wanted[1]
        self._check()
        return deferred

    def _check(self):
        if self._wanted is not None and len(self.got) >= self._wanted[0]:
            (_, deferred), self._wanted = self._wanted, None
            deferred.callback(self.got)

    def connectionLost(self, reason):
        self.why = reason.getErrorMessage()
        self.lost.callback(reason.type)


def run(test, scenario, signals=False):
    """Run `await scenario(reactor)` on a new reactor and return its result."""
    reactor = new_reactor()
    outcome = []

    def start():
        deferred = Deferred.fromCoroutine(scenario(reactor))
        deferred.addTimeout(SECONDS, reactor)
        deferred.addBoth(outcome.append)
        deferred.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run(installSignalHandlers=signals)
    reactor.loop.close()
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    return outcome[0]


def listen(reactor, server):
    """Listen on loopback; every connection gets the protocol that `server()` returns."""
    return reactor.listenTCP(0, Factory.forProtocol(server), interface="127.0.0.1")


def connect(reactor, port, client):
    """Connect the protocol `client` to a port; the Deferred fires with it."""
    factory = ClientFactory.forProtocol(lambda: client)
    reactor.connectTCP("127.0.0.1", port.getHost().port, factory)
    return client.made


async def pair(reactor, server=None):
    """Return a connected client and its server's protocol, and the port."""
    server, client = server or Recorder(), Recorder()
    port = listen(reactor, lambda: server)
    await connect(reactor, port, client)
    await server.made
    return client, server, port


def turn(reactor, seconds=0):
    """Return a Deferred that fires in a later turn."""
    deferred = Deferred()
    reactor.callLater(seconds, deferred.callback, None)
    return deferred
