"""A client for any stream."""

from twisted.internet.defer import Deferred
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
