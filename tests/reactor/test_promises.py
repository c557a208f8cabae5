"""Promises of Twisted's transports that its own tests leave to its own classes."""

import socket
import tempfile

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.error import ConnectionDone, ConnectionLost, UserError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    ISystemHandle,
    ITLSTransport,
    IUNIXTransport,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.threads import deferToThreadPool
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.certificates import make_certificates
from tests.reactor.running import Recorder, pair, run, turn


MEGABYTE = bytes(range(256)) * 4096


class Failing(ClientFactory):
    """Fires with the reason why there is no connection."""

    noisy = False

    def __init__(self):
        self.failed = Deferred()

    def clientConnectionFailed(self, connector, reason):
        self.failed.callback(reason.type)


class Reasons(Recorder):
    """Keeps the words on its end, too."""

    def connectionLost(self, reason):
        self.why = reason.getErrorMessage()
        super().connectionLost(reason)


class TransportTests(SynchronousTestCase):
    def test_options_of_a_TCP_stream_are_those_of_its_socket(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            for transport in (client.transport, server.transport):
                for wanted in (False, True):
                    transport.setTcpNoDelay(wanted)
                    transport.setTcpKeepAlive(wanted)
                    self.assertIs(transport.getTcpNoDelay(), wanted)
                    self.assertIs(transport.getTcpKeepAlive(), wanted)

        run(self, scenario)

    def test_text_is_refused(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            self.assertRaises(TypeError, client.transport.write, "text")
            self.assertRaises(TypeError, client.transport.writeSequence, ["text"])
            client.transport.write(b"bytes")
            self.assertEqual(await server.receive(5), b"bytes")

        run(self, scenario)

    def test_the_reason_for_an_end_reads_as_twisteds(self):
        async def scenario(reactor):
            for end, why in (
                ("loseConnection", "Connection was closed cleanly."),
                ("abortConnection", "Connection to the other side was lost in a non-clean fash"),
            ):
                client, server, port = await pair(reactor, Reasons())
                getattr(client.transport, end)()
                await server.lost
                self.assertTrue(server.why.startswith(why), server.why)
                self.assertTrue(server.why.endswith("."))
                self.assertNotIn(": Connection", server.why)
                await port.stopListening()

        run(self, scenario)

    def test_so_does_that_of_a_descriptor_that_cannot_be_sent(self):
        async def scenario(reactor):
            with tempfile.TemporaryDirectory() as folder:
                client = Reasons()
                port = reactor.listenUNIX(f"{folder}/s", Factory.forProtocol(Protocol))
                reactor.connectUNIX(f"{folder}/s", ClientFactory.forProtocol(lambda: client))
                await client.made
                client.transport.sendFileDescriptor(-1)
                client.transport.write(b"x")
                await client.lost
                self.assertEqual(client.why, str(ConnectionLost()))
                await port.stopListening()

        run(self, scenario)

    def test_a_thread_writes_through_the_reactor(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            pool = reactor.getThreadPool()
            write = client.transport.write
            await deferToThreadPool(reactor, pool, reactor.callFromThread, write, b"hello")
            self.assertEqual(await server.receive(5), b"hello")

        run(self, scenario)

    def test_a_UNIX_stream_keeps_its_promises(self):
        async def scenario(reactor):
            with tempfile.TemporaryDirectory() as folder:
                server, client = Recorder(), Recorder()
                port = reactor.listenUNIX(f"{folder}/s", Factory.forProtocol(lambda: server))
                reactor.connectUNIX(f"{folder}/s", ClientFactory.forProtocol(lambda: client))
                await client.made
                await server.made
                for transport in (client.transport, server.transport):
                    for interface in (IUNIXTransport, ITLSTransport, ISystemHandle):
                        verifyObject(interface, transport)
                    verifyObject(IConsumer, transport)
                    verifyObject(IPushProducer, transport)
                client.transport.loseConnection()
                self.assertIs(await server.lost, ConnectionDone)
                await client.lost
                await port.stopListening()

        run(self, scenario)

    def test_TLS_carries_a_megabyte_both_ways_and_ends_in_good_order(self):
        certificates = make_certificates()

        class Back(Recorder):
            def dataReceived(self, data):
                super().dataReceived(data)
                self.transport.write(data)

        async def scenario(reactor):
            server, client = Back(), Recorder()
            options = certificates.server_options()
            endpoint = SSL4ServerEndpoint(reactor, 0, options, interface="127.0.0.1")
            port = await endpoint.listen(Factory.forProtocol(lambda: server))
            plain = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
            await connectProtocol(wrapClientTLS(certificates.client_options(), plain), client)
            client.transport.write(MEGABYTE)
            self.assertEqual(await client.receive(len(MEGABYTE)), MEGABYTE)
            client.transport.loseConnection()
            self.assertIs(await client.lost, ConnectionDone)
            self.assertIs(await server.lost, ConnectionDone)

        run(self, scenario)


class ConnectingTests(SynchronousTestCase):
    def full(self):
        """Return a port that answers nobody any more."""
        server = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.addCleanup(server.close)
        for _ in range(3):
            client = socket.socket()
            self.addCleanup(client.close)
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        return server.getsockname()[1]

    def test_a_server_that_does_not_answer_is_given_up_in_time(self):
        async def scenario(reactor):
            factory = Failing()
            reactor.connectTCP("127.0.0.1", self.full(), factory, timeout=0.1)
            self.assertIs(await factory.failed, ConnectTimeout)

        run(self, scenario)

    def test_an_attempt_can_be_stopped(self):
        async def scenario(reactor):
            factory = Failing()
            connector = reactor.connectTCP("127.0.0.1", self.full(), factory)
            await turn(reactor)
            connector.stopConnecting()
            self.assertIs(await factory.failed, UserError)

        run(self, scenario)
