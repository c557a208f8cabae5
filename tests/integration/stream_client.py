"""Clients for any stream."""

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from zope.interface import implementer


@implementer(IHalfCloseableProtocol)
class StreamClient(Protocol):
    """Collects what it receives; `closed` fires with that when the connection is closed."""

    def __init__(self):
        self.got = b""
        self.closed = Deferred()
        self._wanted = None

    def receive(self, count):
        """Fire with all bytes received, once there are at least `count`."""
        self._wanted = count, Deferred()
        deferred = self._wanted[1]
        self._check()
        return deferred

    def dataReceived(self, data):
        self.got += data
        self._check()

    def _check(self):
        if self._wanted is not None and len(self.got) >= self._wanted[0]:
            (_, deferred), self._wanted = self._wanted, None
            deferred.callback(self.got)

    def readConnectionLost(self):
        self.transport.loseConnection()

    def writeConnectionLost(self):
        pass

    def hang_up(self):
        if not self.closed.called:
            self.transport.abortConnection()
            return self.closed
        return None

    def connectionLost(self, reason=connectionDone):
        self.closed.callback(self.got)


class OneEcho(Protocol):
    """Sends `hello`, waits for the echo and closes; `done` fires when the echo has arrived."""

    def __init__(self):
        self.got, self.done, self.closed = b"", Deferred(), Deferred()

    def connectionMade(self):
        self.transport.write(b"hello")

    def dataReceived(self, data):
        self.got += data
        if self.got == b"hello":
            self.done.callback(None)
            self.transport.loseConnection()

    def connectionLost(self, reason=connectionDone):
        if not self.done.called:
            self.done.errback(reason)
        self.closed.callback(None)


async def echo_once(address):
    """Check that an echo server answers at an address such as `tcp:127.0.0.1:4711`."""
    from twisted.internet import reactor

    client = OneEcho()
    await connectProtocol(clientFromString(reactor, address), client)
    await client.done
    await client.closed


async def send(test, address, data=b""):
    """Connect to an address and send data; the connection is aborted at the end of `test`."""
    from twisted.internet import reactor

    protocol = Protocol()
    gone = Deferred()
    protocol.connectionLost = lambda _: gone.callback(None)
    await connectProtocol(clientFromString(reactor, f"tcp:{address}"), protocol)
    protocol.transport.write(data)

    def abort():
        protocol.transport.abortConnection()
        return gone

    test.addCleanup(abort)
    return protocol
