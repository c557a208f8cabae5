"""An HTTP proxy in the test's own process, which records requests."""

from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol


class _Far(Protocol):
    """The connection to the server at the tunnel's other end."""

    near = None

    def dataReceived(self, data):
        self.near.transport.write(data)

    def connectionLost(self, reason):
        self.near.transport.loseConnection()


class _Near(Protocol):
    """A client's connection, for plain requests and for CONNECT."""

    far = None
    head = b""

    def dataReceived(self, data):
        if self.far is not None:
            self.far.transport.write(data)
            return
        self.head += data
        if self.head.endswith(b"\r\n\r\n"):
            head, self.head = self.head, b""
            self.asked(head)

    def asked(self, head):
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.factory.asked.append((method, target))
        self.factory.heads.append(head)
        wants = self.factory.owner.wants
        if wants is not None and b"\r\nProxy-Authorization: %b\r\n" % wants not in head:
            self.transport.write(WHO)
        elif method == "CONNECT":
            self.connect(target.rpartition(":")[2]).addCallback(self.dug)
        elif self.factory.owner.relays:
            _, _, place, path = target.split("/", 3)
            head = head.replace(target.encode(), f"/{path}".encode(), 1)
            head = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
            self.connect(place.rpartition(":")[2]).addCallback(self.relayed, head)
        else:
            self.transport.write(self.factory.answers.get(target, OK))

    def connect(self, port):
        from twisted.internet import reactor

        endpoint = HostnameEndpoint(reactor, "127.0.0.1", int(port))
        return connectProtocol(endpoint, _Far())

    def relayed(self, far, head):
        far.near = self
        far.transport.write(head)

    def dug(self, far):
        far.near, self.far = self, far
        self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    def connectionLost(self, reason):
        if self.far is not None:
            self.far.transport.loseConnection()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nvia proxy"
WHO = b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"


def redirect(target):
    """Return a response that redirects."""
    return b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % target.encode()


class Proxy:
    """`answers`: whole responses by URL; for other URLs the body is "via proxy".

    `wants`: the Proxy-Authorization without which it does nothing.  `relays`: whether it asks the
    servers themselves, on this machine, instead.
    """

    wants = None
    relays = False

    def __init__(self, test):
        from twisted.internet import reactor

        factory = Factory.forProtocol(_Near)
        factory.noisy = False
        factory.owner = self
        self.asked = factory.asked = []
        self.heads = factory.heads = []
        self.answers = factory.answers = {}
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.place = f"127.0.0.1:{port.getHost().port}"
        test.addCleanup(port.stopListening)
