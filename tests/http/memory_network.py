"""A network in memory: the test advances the reactor's clock and plays the servers."""

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from evserve.http.client import Client
from evserve.http.settings import Settings


HOST = "http://192.0.2.1"


class Wire(StringTransport):
    """A transport that tells its protocol when it is closed, from either side."""

    aborted = False
    lost = False

    def setTcpNoDelay(self, enabled):
        self.no_delay = enabled

    def loseConnection(self):
        self.disconnecting = True
        self.end()

    def abortConnection(self):
        self.aborted = True
        self.end()

    def end(self, reason=None):
        if not self.lost:
            self.lost = self.disconnected = True
            self.protocol.connectionLost(Failure(reason or ConnectionDone()))


@define(eq=False)
class Peer:
    """The server's end of one connection."""

    protocol: object
    wire: Wire

    @property
    def requests(self):
        """All bytes that were sent to this server."""
        return self.wire.value()

    def take(self):
        """Return the bytes that were sent since the last call."""
        sent = self.wire.value()
        self.wire.clear()
        return sent

    def answer(self, data):
        self.protocol.dataReceived(data)

    def ok(self, body=b"ok", *lines, status=b"200 OK"):
        head = b"".join(line + b"\r\n" for line in lines)
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        self.answer(b"HTTP/1.1 " + status + b"\r\n" + head + length + body)

    def close(self):
        self.wire.end()

    def reset(self):
        self.wire.end(ConnectionLost())

    @property
    def is_open(self):
        return not self.wire.lost


@define(eq=False)
class Network:
    reactor: MemoryReactorClock = field(factory=MemoryReactorClock)
    taken: int = 0

    def client(self, cookies=None, tls=None, **settings):
        more = {} if tls is None else {"tls": tls}
        return Client(self.reactor, Settings(**settings), cookies, **more)

    @property
    def attempts(self):
        """The number of connections that were tried."""
        return len(self.reactor.tcpClients)

    @property
    def waiting(self):
        """The number of connections that were neither accepted nor refused yet."""
        return self.attempts - self.taken

    def _next(self):
        entry = self.reactor.tcpClients[self.taken]
        self.taken += 1
        return entry

    def accept(self):
        """Make the next connection; return the server's end."""
        host, port, factory, *_ = self._next()
        address = IPv4Address("TCP", host, port)
        protocol = factory.buildProtocol(address)
        wire = Wire(peerAddress=address)
        wire.protocol = protocol
        protocol.makeConnection(wire)
        return Peer(protocol, wire)

    def refuse(self, error):
        """Make the next connection fail."""
        _, _, factory, *_ = self._next()
        factory.clientConnectionFailed(None, Failure(error))

    @property
    def last_place(self):
        return self.reactor.tcpClients[-1][:2]

    def advance(self, seconds, step=0.1):
        self.reactor.pump([step] * round(seconds / step))
