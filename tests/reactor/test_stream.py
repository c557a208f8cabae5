"""Streams, where Twisted's own tests test nothing or only Twisted's classes."""

import socket
import sys

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IListeningPort,
    IPushProducer,
    IReactorCore,
    IReactorFDSet,
    IReactorSocket,
    IReactorSSL,
    IReactorTCP,
    IReactorThreads,
    IReactorUNIX,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
)
from twisted.internet.protocol import ClientCreator, Factory
from twisted.internet.threads import deferToThreadPool
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.certificates import make_certificates
from tests.reactor.connections import SECONDS, Recorder, connect, listen, pair, run, turn


MEGABYTE = bytes(range(256)) * 4096


@define(eq=False)
class Slotted:
    """A protocol whose dataReceived can't be replaced, like the host's connections."""

    frames: list = field(factory=list)
    made: Deferred = field(factory=Deferred)
    lost: Deferred = field(factory=Deferred)
    transport: object = None
    factory: object = None

    def __getattr__(self, name):
        return getattr(self.made, name)  # as wrappers do

    def makeConnection(self, transport):
        self.transport = transport
        self.made.callback(self)

    def dataReceived(self, data):
        self.frames.append(sys._getframe(1).f_code.co_filename)
        self.transport.write(data)

    def connectionLost(self, reason):
        self.lost.callback(reason.type)


class InterfaceTests(SynchronousTestCase):
    def test_the_reactor_its_ports_and_its_transports_provide_their_interfaces(self):
        async def scenario(reactor):
            client, server, port = await pair(reactor)
            for interface in (
                *(IReactorCore, IReactorTCP, IReactorUNIX, IReactorSSL, IReactorSocket),
                *(IReactorFDSet, IReactorThreads),
            ):
                verifyObject(interface, reactor)
            verifyObject(IListeningPort, port)
            for transport in (client.transport, server.transport):
                for interface in (ITCPTransport, ITLSTransport, ISystemHandle):
                    verifyObject(interface, transport)
                verifyObject(IConsumer, transport)
                verifyObject(IPushProducer, transport)

        run(self, scenario)

    def test_a_handle_answers_about_its_socket_while_there_is_a_connection(self):
        async def scenario(reactor):
            client, _, _ = await pair(reactor)
            transport = client.transport
            kind = transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
            self.assertEqual(kind, socket.SOCK_STREAM)
            self.assertEqual(transport.getHandle().fileno(), transport.fileno())
            transport.loseConnection()
            await client.lost
            self.assertEqual(transport.fileno(), -1)
            self.assertRaises(OSError, transport.getHandle)
            self.assertEqual(transport.getPeer().host, "127.0.0.1")

        run(self, scenario)


class ReadingTests(SynchronousTestCase):
    def test_no_python_stands_between_uvloop_and_a_protocol_that_cannot_change(self):
        async def scenario(reactor):
            server = Slotted()
            client, _, _ = await pair(reactor, server)
            client.transport.write(b"hello")
            self.assertEqual(await client.receive(5), b"hello")
            self.assertNotIn("reactor/stream", server.frames[0])

        run(self, scenario)

    def test_a_protocol_may_replace_its_dataReceived_at_any_time(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            client.transport.write(b"one")
            await server.receive(3)
            replaced = Deferred()
            server.dataReceived = replaced.callback
            client.transport.write(b"two")
            self.assertEqual(await replaced, b"two")

        run(self, scenario)

    def test_assigning_another_protocol_takes_effect_with_the_next_byte(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            other = Recorder()
            server.transport.protocol = other
            client.transport.write(b"two")
            self.assertEqual(await other.receive(3), b"two")
            client.transport.loseConnection()
            self.assertIs(await other.lost, ConnectionDone)

        run(self, scenario)

    def test_a_protocol_that_pauses_in_connectionMade_gets_nothing_until_it_resumes(self):
        class Shy(Recorder):
            def connectionMade(self):
                self.transport.pauseProducing()
                super().connectionMade()

        async def scenario(reactor):
            client, server, _ = await pair(reactor, Shy())
            client.transport.write(b"early")
            client.transport.loseConnection()
            await turn(reactor, 0.05)
            self.assertEqual(server.got, b"")
            server.transport.resumeProducing()
            self.assertEqual(await server.receive(5), b"early")
            self.assertIs(await server.lost, ConnectionDone)

        run(self, scenario)

    def test_what_a_client_puts_off_until_the_next_turn_comes_before_its_first_bytes(self):
        class Greeting(Recorder):
            def connectionMade(self):
                super().connectionMade()
                self.transport.write(b"hello")

        async def scenario(reactor):
            port = listen(reactor, Greeting)
            creator = ClientCreator(reactor, Recorder)
            client = await creator.connectTCP("127.0.0.1", port.getHost().port)
            self.assertEqual(client.got, b"")
            self.assertEqual(await client.receive(5), b"hello")

        for _ in range(20):
            run(self, scenario)

    def test_a_client_that_pauses_in_connectionMade_gets_nothing_until_it_resumes(self):
        class Shy(Recorder):
            def connectionMade(self):
                self.transport.pauseProducing()
                super().connectionMade()

        async def scenario(reactor):
            server, client = Recorder(), Shy()
            port = listen(reactor, lambda: server)
            await connect(reactor, port, client)
            await server.made
            server.transport.write(b"early")
            server.transport.loseConnection()
            await turn(reactor, 0.05)
            self.assertEqual(client.got, b"")
            client.transport.resumeProducing()
            self.assertEqual(await client.receive(5), b"early")
            self.assertIs(await client.lost, ConnectionDone)

        run(self, scenario)

    def test_an_OSError_raised_by_a_protocol_is_logged_and_is_the_reason(self):
        class Broken(Recorder):
            def dataReceived(self, data):
                raise FileNotFoundError("a bug")

        async def scenario(reactor):
            client, server, _ = await pair(reactor, Broken())
            client.transport.write(b"x")
            self.assertIs(await server.lost, FileNotFoundError)
            await client.lost

        run(self, scenario)
        self.assertEqual(len(self.flushLoggedErrors(FileNotFoundError)), 1)

    def test_a_reset_is_a_lost_connection(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            client.transport.abortConnection()
            self.assertIs(await client.lost, ConnectionAborted)
            self.assertIs(await server.lost, ConnectionLost)

        run(self, scenario)


def receive_rest(client):
    with client.makefile("rb") as stream:
        return stream.read()


class WritingTests(SynchronousTestCase):
    def test_what_is_written_after_loseConnection_in_the_same_turn_is_sent(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            client.transport.loseConnection()
            client.transport.write(b"last words")
            self.assertIs(await server.lost, ConnectionDone)
            return server.got

        self.assertEqual(run(self, scenario), b"last words")

    def test_an_answer_reaches_a_peer_that_half_closed_right_after_its_question(self):
        class Answering(Recorder):
            def dataReceived(self, data):
                self.transport.write(b"<" + data)
                self.transport.write(b">")

        async def scenario(reactor):
            server = Answering()
            port = listen(reactor, lambda: server)
            client = socket.create_connection(("127.0.0.1", port.getHost().port), SECONDS)
            self.addCleanup(client.close)
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)  # both are there before the reactor looks
            self.assertIs(await server.lost, ConnectionDone)
            return client

        self.assertEqual(receive_rest(run(self, scenario)), b"<question>")

    def test_writing_to_a_lost_connection_is_ignored(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            server.transport.loseConnection()
            await DeferredList([client.lost, server.lost])
            client.transport.write(b"x")
            client.transport.writeSequence([b"x"])
            client.transport.loseConnection()
            client.transport.abortConnection()

        run(self, scenario)

    def test_a_push_producer_is_paused_by_a_peer_that_does_not_read_and_resumed_when_it_does(self):
        class Producer:
            def __init__(self):
                self.paused, self.resumed = Deferred(), Deferred()

            def pauseProducing(self):
                self.paused.callback(None)

            def resumeProducing(self):
                self.resumed.callback(None)

            def stopProducing(self):
                pass

        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            client.transport.pauseProducing()
            producer = Producer()
            server.transport.registerProducer(producer, True)
            server.transport.write(b"x" * 20_000_000)
            await producer.paused
            client.transport.resumeProducing()
            await producer.resumed
            await client.receive(20_000_000)

        run(self, scenario)


class TransportTests(SynchronousTestCase):
    def test_text_is_refused(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            self.assertRaises(TypeError, client.transport.write, "text")
            self.assertRaises(TypeError, client.transport.writeSequence, ["text"])
            client.transport.write(b"bytes")
            self.assertEqual(await server.receive(5), b"bytes")

        run(self, scenario)

    def test_the_reason_for_an_end_reads_as_in_Twisted(self):
        async def scenario(reactor):
            for end, why in (
                ("loseConnection", "Connection was closed cleanly."),
                ("abortConnection", "Connection to the other side was lost in a non-clean fash"),
            ):
                client, server, port = await pair(reactor)
                getattr(client.transport, end)()
                await server.lost
                self.assertTrue(server.why.startswith(why), server.why)
                self.assertTrue(server.why.endswith("."))
                self.assertNotIn(": Connection", server.why)
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
