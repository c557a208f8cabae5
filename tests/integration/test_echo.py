"""Echo on real sockets, in this process."""

import tempfile
from pathlib import Path

from twisted.internet import endpoints
from twisted.internet.defer import DeferredQueue
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.logger import eventAsText, globalLogPublisher
from twisted.trial.unittest import TestCase

from evserve.echo.protocol import EchoFactory, Transform
from evserve.echo.service import Options, makeService
from evserve.host.options import with_listening_options
from evserve.testing import MemoryHost
from tests.certificates import make_certificates
from tests.integration.stream_client import StreamClient


PLAIN = Transform()
LOUD = Transform(upper=True, suffix=b"!")
BULK = bytes(range(256)) * 4096  # 1 MiB, more than any buffer on the way


class EchoTestCase(TestCase):
    """Serves echo at an endpoint and connects clients to it."""

    def setUp(self):
        from twisted.internet import reactor

        self.reactor = reactor

    async def serve(self, transform=PLAIN, delay=0.0):
        self.factory = EchoFactory(transform, delay, self.reactor)
        port = await self.server_endpoint().listen(self.factory)
        self.address = port.getHost()
        self.addCleanup(self.close, port)

    async def close(self, port):
        await port.stopListening()
        while self.factory.connections:
            await deferLater(self.reactor, 0)

    async def connect(self):
        client = StreamClient()
        await endpoints.connectProtocol(self.client_endpoint(), client)
        self.addCleanup(client.hang_up)
        return client


class Streams:
    """Tests of every kind of stream; each kind below is one TestCase."""

    async def test_every_byte_comes_back_in_order(self):
        await self.serve()
        client = await self.connect()
        client.transport.write(BULK)
        self.assertEqual(await client.receive(len(BULK)), BULK)

    async def test_transforms_are_applied(self):
        await self.serve(LOUD)
        client = await self.connect()
        client.transport.write(b"one\ntwo\n")
        self.assertEqual(await client.receive(10), b"ONE!\nTWO!\n")

    async def test_delayed_answers_keep_their_order(self):
        await self.serve(delay=0.01)
        client = await self.connect()
        client.transport.write(BULK)
        self.assertEqual(await client.receive(len(BULK)), BULK)

    async def test_draining_closes_after_the_last_byte(self):
        await self.serve(delay=0.01)
        client = await self.connect()
        client.transport.write(b"owed")
        await client.receive(4)
        for connection in list(self.factory.connections):
            connection.drain()
        self.assertEqual(await client.closed, b"owed")

    async def test_what_came_before_the_end_comes_back_before_the_end(self):
        await self.serve(LOUD)
        client = await self.connect()
        client.transport.write(b"last words\n")
        self.end_writing(client)
        self.assertEqual(await client.closed, b"LAST WORDS!\n")


class HalfClosing:
    """Tests of streams that close each direction separately."""

    def end_writing(self, client):
        client.transport.loseWriteConnection()

    async def test_more_than_fits_any_buffer_comes_back_after_a_half_close(self):
        await self.serve()
        client = await self.connect()
        client.transport.write(BULK)
        self.end_writing(client)
        self.assertEqual(await client.closed, BULK)

    async def test_what_is_delayed_comes_back_after_a_half_close(self):
        await self.serve(LOUD, delay=0.01)
        client = await self.connect()
        client.transport.write(b"one\ntwo")
        self.end_writing(client)
        self.assertEqual(await client.closed, b"ONE!\nTWO!")


class TCPTests(Streams, HalfClosing, EchoTestCase):
    def server_endpoint(self):
        return endpoints.TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1")

    def client_endpoint(self):
        return endpoints.TCP4ClientEndpoint(self.reactor, "127.0.0.1", self.address.port)


class UNIXTests(Streams, HalfClosing, EchoTestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()  # a socket's name is short: mktemp's are not
        self.addCleanup(folder.cleanup)
        self.path = str(Path(folder.name, "echo"))

    def server_endpoint(self):
        return endpoints.UNIXServerEndpoint(self.reactor, self.path)

    def client_endpoint(self):
        return endpoints.UNIXClientEndpoint(self.reactor, self.path)


class TLSTests(Streams, EchoTestCase):
    def setUp(self):
        super().setUp()
        self.certificates = make_certificates()

    def server_endpoint(self):
        options = self.certificates.server_options()
        return endpoints.SSL4ServerEndpoint(self.reactor, 0, options, interface="127.0.0.1")

    def client_endpoint(self):
        options = self.certificates.client_options()
        tcp = endpoints.TCP4ClientEndpoint(self.reactor, "127.0.0.1", self.address.port)
        return endpoints.wrapClientTLS(options, tcp)

    def end_writing(self, client):
        client.transport.loseConnection()

    async def test_more_than_fits_any_buffer_comes_back_before_the_end(self):
        await self.serve()
        client = await self.connect()
        client.transport.write(BULK)
        self.end_writing(client)
        self.assertEqual(await client.closed, BULK)


class UDPClient(DatagramProtocol):
    def __init__(self):
        self.got = DeferredQueue()

    def datagramReceived(self, datagram, addr):
        self.got.put(datagram)


class UDPTests(TestCase):
    async def serve(self, *words):
        from twisted.internet import reactor

        options = with_listening_options(Options)()
        options.parseOptions(["--udp", "--port", "0", *words])
        self.host = MemoryHost(reactor)
        service = makeService(options, self.host)
        logged = []
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        globalLogPublisher.addObserver(logged.append)
        service.startService()
        self.addCleanup(service.stopService)
        lines = [eventAsText(event, includeTimestamp=False) for event in logged]
        (line,) = [line for line in lines if "echo: listening on udp 127.0.0.1:" in line]
        self.port = int(line.rpartition(":")[2])
        self.client = UDPClient()
        client_port = reactor.listenUDP(0, self.client, "127.0.0.1", 65535)
        self.addCleanup(client_port.stopListening)

    def send(self, datagram):
        self.client.transport.write(datagram, ("127.0.0.1", self.port))

    async def test_a_datagram_comes_back(self):
        await self.serve("--transform", "upper", "--suffix", "!")
        self.send(b"hello")
        self.assertEqual(await self.client.got.get(), b"HELLO!")

    async def test_the_longest_datagram_comes_back_whole(self):
        await self.serve()
        self.send(bytes(65507))
        self.assertEqual(await self.client.got.get(), bytes(65507))

    async def test_delayed_datagrams_come_back_in_order(self):
        await self.serve("--delay", "0.01")
        for datagram in (b"one", b"two"):
            self.send(datagram)
        self.assertEqual(await self.client.got.get(), b"one")
        self.assertEqual(await self.client.got.get(), b"two")

    async def test_a_second_server_on_the_port_fails_in_one_line(self):
        await self.serve()
        options = with_listening_options(Options)()
        options.parseOptions(["--udp", "--port", str(self.port)])
        host = MemoryHost(self.host.reactor)
        service = makeService(options, host)
        service.startService()
        self.addCleanup(service.stopService)
        line = f"cannot listen on udp 127.0.0.1:{self.port}: Address already in use"
        self.assertEqual(host.failures, [line])
