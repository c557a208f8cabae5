"""TCP streams: the kernel's count of the bytes received, and socket options."""

import socket
import sys
from unittest import SkipTest

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from evserve.host.connections import ConnectionLimiter, DescriptorLimiter
from evserve.host.options import Limits
from tests.reactor.connections import Recorder, connect, pair, run, turn


class Counting(Recorder):
    """Keeps the count as of connectionLost, where it can be read for the last time."""

    count = None

    def connectionLost(self, reason):
        self.count = self.transport.bytes_received
        super().connectionLost(reason)


@implementer(IHalfCloseableProtocol)
class HalfClosing(Counting):
    def __init__(self):
        super().__init__()
        self.ended = Deferred()

    def readConnectionLost(self):
        self.ended.callback(None)

    def writeConnectionLost(self):
        pass


class ReceivedTests(SynchronousTestCase):
    def setUp(self):
        if not hasattr(socket, "TCP_INFO"):
            raise SkipTest("only Linux counts the bytes")

    def test_bytes_count_once_they_have_arrived(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            self.assertEqual(server.transport.bytes_received, 0)
            client.transport.write(b"hello")
            await server.receive(5)
            self.assertEqual(server.transport.bytes_received, 5)
            self.assertEqual(client.transport.bytes_received, 0)

        run(self, scenario)

    def test_the_end_of_the_stream_is_no_byte(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor, Counting())
            client.transport.write(b"hello")
            client.transport.loseConnection()
            self.assertIs(await server.lost, ConnectionDone)
            self.assertEqual(server.count, 5)

        run(self, scenario)

    def test_the_ends_of_both_halves_are_no_bytes(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor, HalfClosing())
            client.transport.write(b"hello")
            client.transport.loseWriteConnection()
            await server.ended
            self.assertEqual(server.transport.bytes_received, 5)
            server.transport.loseWriteConnection()
            await client.lost
            await turn(reactor, 0.05)
            self.assertEqual(server.transport.bytes_received, 5)
            server.transport.loseConnection()
            await server.lost
            self.assertEqual(server.count, 5)

        run(self, scenario)

    def test_a_reset_connection_still_has_its_count(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor, Counting())
            client.transport.write(b"hello")
            await server.receive(5)
            client.transport.abortConnection()
            self.assertIs(await server.lost, ConnectionLost)
            self.assertEqual(server.count, 5)

        run(self, scenario)

    def test_after_the_end_the_count_stays_and_is_not_that_of_another_socket(self):
        async def scenario(reactor):
            client, server, port = await pair(reactor, Counting())
            client.transport.write(b"hello")
            await server.receive(5)
            number = server.transport.fileno()
            server.transport.loseConnection()
            await server.lost
            await client.lost
            others = [socket.create_connection(("127.0.0.1", port.getHost().port))]
            while others[-1].fileno() < number:
                others.append(others[-1].dup())
            self.assertEqual(server.transport.bytes_received, 5)
            for each in others:
                each.close()

        run(self, scenario)


class OptionTests(SynchronousTestCase):
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


class Frames(Recorder):
    """Notes who called it."""

    def dataReceived(self, data):
        self.caller = sys._getframe(1).f_code.co_filename
        self.callers_caller = sys._getframe(2).f_code.co_name
        super().dataReceived(data)


class LimiterTests(SynchronousTestCase):
    """The host, which counts by this where it can."""

    def listen(self, reactor, server):
        factory = Factory.forProtocol(lambda: server)
        limiter = ConnectionLimiter(
            "echo", factory, Limits(), Clock(), DescriptorLimiter(Clock(), 1024)
        )
        return limiter, reactor.listenTCP(0, limiter, interface="127.0.0.1")

    def test_the_limiter_counts_the_bytes_of_open_and_closed_connections(self):
        async def scenario(reactor):
            server, client = Recorder(), Recorder()
            limiter, port = self.listen(reactor, server)
            await connect(reactor, port, client)
            client.transport.write(b"hello")
            await server.receive(5)
            self.assertEqual(self.received(limiter), 5)
            client.transport.loseConnection()
            await server.lost
            self.assertEqual(self.received(limiter), 5)
            self.assertEqual(limiter.connections, set())

        run(self, scenario)

    def received(self, limiter):
        return next(
            each.samples[0].value
            for each in limiter.collect()
            if each.name == "evserve_received_bytes"
        )

    def test_one_frame_of_python_stands_between_uvloop_and_a_services_protocol(self):
        async def scenario(reactor):
            server, client = Frames(), Recorder()
            _, port = self.listen(reactor, server)
            await connect(reactor, port, client)
            client.transport.write(b"hello")
            await server.receive(5)
            self.assertIn("host/connections.py", server.caller)
            self.assertEqual(server.callers_caller, "run")  # the reactor's

        run(self, scenario)

    def test_a_service_may_replace_its_dataReceived_at_any_time(self):
        async def scenario(reactor):
            server, client = Recorder(), Recorder()
            _, port = self.listen(reactor, server)
            await connect(reactor, port, client)
            client.transport.write(b"one")
            await server.receive(3)
            replaced = Deferred()
            server.dataReceived = replaced.callback
            client.transport.write(b"two")
            self.assertEqual(await replaced, b"two")

        run(self, scenario)
