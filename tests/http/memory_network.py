"""A network in memory: a reactor whose time the test tells, servers played by hand."""

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
        """What was sent, without what the engine adds to every request."""
        return self.wire.value()

    def take(self):
        """Return what was sent since the last time."""
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
        """How many connections have been asked for."""
        return len(self.reactor.tcpClients)

    @property
    def waiting(self):
        """How many connections nobody has accepted or refused yet."""
        return self.attempts - self.taken

    def _next(self):
        entry = self.reactor.tcpClients[self.taken]
        self.taken += 1
        return entry

    def accept(self):
        """Let the next connection be made; return the server's end."""
        host, port, factory, *_ = self._next()
        address = IPv4Address("TCP", host, port)
        protocol = factory.buildProtocol(address)
        wire = Wire(peerAddress=address)
        wire.protocol = protocol
        protocol.makeConnection(wire)
        return Peer(protocol, wire)

    def refuse(self, error):
        """Let the next connection fail."""
        _, _, factory, *_ = self._next()
        factory.clientConnectionFailed(None, Failure(error))

    @property
    def last_place(self):
        return self.reactor.tcpClients[-1][:2]

    def advance(self, seconds, step=0.1):
        self.reactor.pump([step] * round(seconds / step))
