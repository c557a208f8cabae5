"""The fast channel on real sockets: TLS, uploads, slow readers, pipelines, upgrades."""

import hashlib
import importlib.util
import re
import shutil
import socket
import ssl
import tempfile
import threading
from pathlib import Path
from unittest import skipUnless

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from evserve.web import fast
from tests.certificates import NAME, make_certificates
from tests.integration.processes import TWISTD, run_python
from tests.integration.test_echo_memory import resident


MIB = 1024 * 1024
LARGE = 100 * MIB
ALLOWED = 8 * MIB  # what the server may grow by
PIPELINE = 50_000
STALLED = 1.0  # seconds without a byte taken: the server has stopped reading
APPLICATION = """
import hashlib
from twisted.application import service, strports
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.static import Data, File

from evserve.web import fast
from tests.web.resources import PIECE, Push


class Digest(Resource):
    isLeaf = True

    def render_POST(self, request):
        digest = hashlib.file_digest(request.content, "sha256").hexdigest()
        return f"{type(request.content).__name__} {digest}".encode()


class Pushed(Resource):
    isLeaf = True

    def render_GET(self, request):
        Push(request, int(request.uri.partition(b"?")[2]) // PIECE)
        return NOT_DONE_YET


root = Resource()
root.putChild(b"small", Data(b"small", "text/plain"))
root.putChild(b"file", File("file"))
root.putChild(b"digest", Digest())
root.putChild(b"push", Pushed())
application = service.Application("site")
for place in ("tcp:0:interface=127.0.0.1", "ssl:0:interface=127.0.0.1:privateKey=pem"):
    strports.service(place, fast(Site(root))).setServiceParent(application)
"""


PORTS = re.compile(rb"(?:Site|TLSMemoryBIOFactory|\(TLS\)).* starting on (\d+)\n")
RUN = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"


class Received:
    """What a client has of an answer, read in a thread."""

    def __init__(self, client):
        self.client, self.got = client, b""

    def head(self):
        while b"\r\n\r\n" not in self.got:
            self._more()
        head, _, self.got = self.got.partition(b"\r\n\r\n")
        return head

    def body(self, length):
        """Return the SHA-256 of a body."""
        digest = hashlib.sha256()
        while length:
            if not self.got:
                self._more()
            piece, self.got = self.got[:length], self.got[length:]
            digest.update(piece)
            length -= len(piece)
        return digest.hexdigest()

    def chunks(self):
        """Return the length of a body in chunks."""
        total = 0
        while True:
            while b"\r\n" not in self.got:
                self._more()
            size, _, self.got = self.got.partition(b"\r\n")
            total += int(size, 16)
            self.body(int(size, 16) + 2)
            if not int(size, 16):
                return total

    def _more(self):
        piece = self.client.recv(65536)
        assert piece, "the server has closed the connection"
        self.got += piece


def length_of(head):
    return int(re.search(rb"(?i)content-length: (\d+)", head)[1])


class ServedTests(TestCase):
    """The site runs in a process of its own, by twistd."""

    async def serve(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "application.py").write_text(APPLICATION)
        self.certificates = make_certificates()
        (self.folder / "pem").write_bytes(self.certificates.server_pem)
        with (self.folder / "file").open("wb") as file:
            file.truncate(LARGE)
        words = ("-n", "--pidfile=", "-y", "application.py")
        self.server = run_python(self, TWISTD, *words, folder=self.folder, stdin=False)
        self.port, self.tls_port = await self.server.until(self._ports)

    def _ports(self):
        found = [int(port) for port in PORTS.findall(self.server.out)]
        return found if len(found) == 2 else None

    def connect(self, small_buffer=False):
        client = socket.socket()
        if small_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.settimeout(60)
        client.connect(("127.0.0.1", self.port))
        self.addCleanup(client.close)
        return client

    def connect_tls(self):
        context = ssl.create_default_context(cadata=self.certificates.authority_pem.decode())
        context.set_alpn_protocols(["http/1.1"])
        plain = socket.create_connection(("127.0.0.1", self.tls_port), 60)
        client = context.wrap_socket(plain, server_hostname=NAME)
        self.addCleanup(client.close)
        return client

    async def test_keep_alive(self):
        await self.serve()
        await deferToThread(self.ask_three_times, self.connect())
        await deferToThread(lambda: self.ask_three_times(self.connect_tls()))

    def ask_three_times(self, client):
        received = Received(client)
        for target in (b"small", b"file", b"small"):
            client.sendall(b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % target)
            head = received.head()
            self.assertEqual(head.partition(b"\r\n")[0], b"HTTP/1.1 200 OK")
            digest = received.body(length_of(head))
            expected = b"small" if target == b"small" else bytes(LARGE)
            self.assertEqual(digest, hashlib.sha256(expected).hexdigest())

    @skipUnless(Path("/proc/self/status").exists(), "memory is measured in /proc")
    async def test_clients_that_do_not_read_cost_little(self):
        def read_pushed(received):
            received.head()
            self.assertEqual(received.chunks(), LARGE)

        def read_file(received):
            received.body(length_of(received.head()))

        await self.serve()
        await self.do_not_read(b"/push?%d" % LARGE, read_pushed)
        await self.do_not_read(b"/file", read_file)

    async def do_not_read(self, target, read):
        """Ask for `target` and wait until the server writes no more; then `read`."""
        warm = self.connect()
        warm.sendall(b"GET /push?1 HTTP/1.1\r\nHost: a\r\n\r\n")
        await deferToThread(Received(warm).head)
        before = resident(self.server.transport.pid)
        slow = self.connect(small_buffer=True)
        slow.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % target)
        await deferToThread(slow.recv, 1, socket.MSG_PEEK)
        for _ in range(200):  # answered between the turns in which more would be written
            warm.sendall(b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n")
            await deferToThread(Received(warm).head)
        self.assertLess(resident(self.server.transport.pid) - before, ALLOWED)
        received = Received(slow)
        await deferToThread(read, received)

    @skipUnless(Path("/proc/self/status").exists(), "memory is measured in /proc")
    async def test_50_000_requests_of_a_client_that_reads_late(self):
        await self.serve()
        client = self.connect()
        received = Received(client)
        client.sendall(b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n")
        await deferToThread(lambda: received.body(length_of(received.head())))
        before = resident(self.server.transport.pid)
        requests = memoryview(b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n" * PIPELINE)
        taken = await deferToThread(send_until_stalled, client, requests)
        self.assertLess(resident(self.server.transport.pid) - before, ALLOWED)
        sender = threading.Thread(target=client.sendall, args=(requests[taken:],))
        sender.start()
        self.addCleanup(sender.join)
        count, rest = await deferToThread(count_answers, client, PIPELINE)
        self.assertEqual((count, rest), (PIPELINE, b""))

    async def test_a_large_upload_is_kept_in_a_file(self):
        await self.serve()
        data = bytes(range(256)) * 80_000
        client = self.connect()
        head = b"POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(data)
        await deferToThread(client.sendall, head + data)
        self.assertEqual(
            await deferToThread(answer_to, client),
            f"BufferedRandom {hashlib.sha256(data).hexdigest()}".encode(),
        )
        chunk = b"%x\r\n%s\r\n" % (len(data) // 8, data[: len(data) // 8])
        head = b"POST /digest HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        await deferToThread(client.sendall, head + chunk * 8 + b"0\r\n\r\n")
        self.assertEqual(
            await deferToThread(answer_to, client),
            f"BufferedRandom {hashlib.sha256(data).hexdigest()}".encode(),
        )

    async def curl(self, *words):
        if shutil.which("curl") is None:
            raise SkipTest("curl is not installed")
        curl = run_python(self, "-c", RUN, shutil.which("curl"), "-sSk", *words, stdin=False)
        self.assertEqual(await curl.ended, 0, curl.err.decode())
        return curl

    async def test_curl_waits_for_100_Continue(self):
        await self.serve()
        data = b"z" * 2 * MIB
        (self.folder / "data").write_bytes(data)
        words = ("-v", "-H", "Expect: 100-continue", "--data-binary", f"@{self.folder}/data")
        curl = await self.curl(
            "--expect100-timeout", 60, *words, f"http://127.0.0.1:{self.port}/digest"
        )
        self.assertIn(b"< HTTP/1.1 100 Continue", curl.err)
        self.assertEqual(curl.out, f"BufferedRandom {hashlib.sha256(data).hexdigest()}".encode())

    async def test_HTTP_2_is_spoken_with_those_who_ask_for_it(self):
        if importlib.util.find_spec("h2") is None or importlib.util.find_spec("priority") is None:
            raise SkipTest("twisted[http2] is not installed")
        await self.serve()
        words = ("--http2", "-w", "%{http_version}", f"https://127.0.0.1:{self.tls_port}/small")
        self.assertEqual((await self.curl(*words)).out, b"small2")
        self.assertEqual((await self.curl("--http1.1", *words[1:])).out, b"small1.1")


def send_until_stalled(client, data):
    """Send as much of `data` as the server takes; return how much that is."""
    client.settimeout(STALLED)
    taken = 0
    try:
        while taken < len(data):
            taken += client.send(data[taken : taken + 65536])
    except TimeoutError:
        pass
    client.settimeout(60)
    return taken


def count_answers(client, count):
    """Read so many answers; return how many came, and what came behind the last."""
    answers, rest = 0, b""
    while answers < count:
        piece = client.recv(MIB)
        if not piece:
            break
        *whole, rest = (rest + piece).split(b"\r\n\r\nsmall")
        answers += len(whole)
    return answers, rest


def answer_to(client):
    received = Received(client)
    length = length_of(received.head())
    while len(received.got) < length:
        received._more()
    return received.got


class Shouting(Protocol):
    def dataReceived(self, data):
        self.transport.write(data.upper())


class Upgrade(Resource):
    """Takes a connection over as Autobahn's WebSocketResource does."""

    isLeaf = True

    def render(self, request):
        request.setResponseCode(101, b"Switching Protocols")
        transport, request.channel.transport = request.channel.transport, None
        protocol = Shouting()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        transport.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: shout\r\n\r\n")
        transport.resumeProducing()
        return NOT_DONE_YET


class UpgradeTests(TestCase):
    def test_a_resource_may_take_the_connection(self):
        return Deferred.fromCoroutine(self._take())

    async def _take(self):
        clock = Clock()
        site = fast(Site(Upgrade(), reactor=clock))
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        with socket.create_connection(("127.0.0.1", port.getHost().port), 60) as client:
            client.sendall(
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: s\r\n\r\n"
            )
            head = await deferToThread(Received(client).head)
            self.assertTrue(head.startswith(b"HTTP/1.1 101 "))
            client.sendall(b"hello")
            self.assertEqual(await deferToThread(client.recv, 5), b"HELLO")
            clock.advance(600)  # the time-outs of the channel are over
            client.sendall(b"more")
            self.assertEqual(await deferToThread(client.recv, 5), b"MORE")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(await deferToThread(client.recv, 5), b"")
