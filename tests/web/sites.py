"""Sites in memory, and conversations with them."""

import re

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web import server
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from evserve.web import fast


CLIENT = IPv4Address("TCP", "192.0.2.1", 54321)


class Page(Resource):
    """Answers with the target and the body of the request."""

    isLeaf = True

    def render_GET(self, request):
        return b"got " + request.uri

    def render_POST(self, request):
        return b"took " + request.content.read()


class Held(Resource):
    """Keeps its requests, for a test to answer them."""

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.requests = []

    def render(self, request):
        self.requests.append(request)
        return NOT_DONE_YET


class Connection:
    """A client's connection to a site in memory."""

    def __init__(self, site, transport=None):
        self.clock = site.reactor
        self.transport = transport or StringTransport(peerAddress=CLIENT)
        self.channel = site.buildProtocol(CLIENT)
        self.channel.makeConnection(self.transport)

    def send(self, *pieces):
        for piece in pieces:
            self.channel.dataReceived(piece)

    @property
    def received(self):
        """What the site has written, without dates."""
        return re.sub(rb"Date: [^\r]+\r\n", b"", self.transport.value())

    @property
    def is_closed(self):
        return self.transport.disconnecting


def fast_site(resource=None, factory=Site, **options):
    return fast(factory(resource or Page(), reactor=Clock(), **options))


def answer(body, *headers, status=b"200 OK"):
    """Return what `Connection.received` has after an answer of a page."""
    lines = [
        b"HTTP/1.1 " + status,
        *headers,
        b"Server: " + server.version,
        b"Content-Length: %d" % len(body),
        b"Content-Type: text/html",
    ]
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


REFUSAL = b"HTTP/1.1 400 Bad Request\r\n\r\n"
