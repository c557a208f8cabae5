"""What Twisted's own tests do not ask of a stream, or ask of Twisted's classes only."""

import socket
import sys

from attrs import define, field
from twisted.internet.defer import Deferred
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
from twisted.internet.protocol import ClientCreator
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.reactor.running import Recorder, connect, listen, pair, run, turn


@define(eq=False)
class Slotted:
    """A protocol whose dataReceived nobody can replace, as the host's connections are."""

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
    def test_the_reactor_and_what_it_makes_keep_their_promises(self):
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
            self.assertIs(server.transport.write.__self__, server.transport.uv)

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
