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
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
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
from twisted.internet.protocol import ClientCreator, ClientFactory, Factory
from twisted.internet.threads import deferToThreadPool
from twisted.protocols import tls
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

    def test_an_endpoints_wrapper_does_not_stand_there_either(self):
        async def scenario(reactor):
            server, client = Recorder(), Slotted()
            port = listen(reactor, lambda: server)
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
            await endpoint.connect(Factory.forProtocol(lambda: client))
            await server.made
            server.transport.write(b"hello")
            self.assertEqual(await server.receive(5), b"hello")
            self.assertNotIn("endpoints", client.frames[0])
            self.assertNotIn("twisted/python", client.frames[0])

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


class Calls:
    """uvloop's transport, and the sizes of what it is asked to write."""

    def __init__(self, uv):
        self._uv, self.sizes = uv, []

    def write(self, data):
        if data:
            self.sizes.append(len(data))
        self._uv.write(data)

    def __getattr__(self, name):
        return getattr(self._uv, name)


def watch(protocol):
    """Return the sizes of the writes that uvloop is asked for on a protocol's connection."""
    stream = protocol.transport
    stream.uv = Calls(stream.uv)
    return stream.uv.sizes


class Looping:
    """A push producer that writes until it is paused, as that of Twisted's documentation."""

    def __init__(self, transport, chunk):
        self.transport, self.chunk = transport, chunk
        self.paused, self.stopped, self.written = False, False, []

    def pauseProducing(self):
        self.paused = True

    def resumeProducing(self):
        self.paused = False
        self.written.append(0)
        while not self.paused:
            self.transport.write(self.chunk)
            self.written[-1] += len(self.chunk)

    def stopProducing(self):
        self.paused = self.stopped = True


class GatheringTests(SynchronousTestCase):
    """What is written in a turn is sent at its end, by one system call for each stream."""

    def test_small_writes_of_a_turn_are_one_system_call_for_each_stream(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            sent, back = watch(client), watch(server)
            for each in range(10):
                client.transport.write(b"%d" % each)
                client.transport.writeSequence([b"-", b"-"])
                server.transport.write(b"x")
            self.assertEqual(sent, [])
            self.assertEqual(await server.receive(30), b"0--1--2--3--4--5--6--7--8--9--")
            await client.receive(10)
            self.assertEqual((sent, back), ([30], [10]))

        run(self, scenario)

    def test_large_and_small_writes_keep_their_order(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            chunks = [b"a", b"b" * 20_000, b"c", b"d" * 3_000_000, b"e", b"f" * 20_000, b"g"]
            for each in chunks:
                client.transport.write(each)
            client.transport.loseConnection()
            client.transport.write(b"h")
            await server.lost
            self.assertEqual(server.got, b"".join(chunks) + b"h")

        run(self, scenario)

    def test_many_small_writes_while_the_kernel_takes_no_more_keep_their_order(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            server.transport.pauseProducing()
            chunks = [b"%7d" % each for each in range(100_000)]
            client.transport.write(b"x" * 10_000_000)
            for each in chunks[:50_000]:
                client.transport.write(each)
            await turn(reactor)
            self.assertTrue(client.transport.busy)
            for each in chunks[50_000:]:
                client.transport.write(each)
            server.transport.resumeProducing()
            await server.receive(10_700_000)
            self.assertEqual(server.got[10_000_000:], b"".join(chunks))

        run(self, scenario)

    def test_a_push_producer_that_writes_until_it_is_paused_is_paused_in_every_turn(self):
        for size in (1, 1000, 100_000):

            async def scenario(reactor, size=size):
                client, server, _ = await pair(reactor)
                producer = Looping(client.transport, b"x" * size)
                client.transport.registerProducer(producer, True)
                producer.resumeProducing()
                await server.receive(1_000_000)
                self.assertLessEqual(max(producer.written), 65536 + 16384 + size)
                server.transport.loseConnection()
                await client.lost
                self.assertTrue(producer.stopped)

            run(self, scenario)

    def test_what_was_written_can_be_sent_before_the_end_of_the_turn(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            sizes = watch(client)
            client.transport.write(b"he")
            client.transport.write(b"l")
            client.transport.flush()
            self.assertEqual(sizes, [3])
            client.transport.write(b"lo")
            await server.receive(5)
            self.assertEqual((sizes, server.got), ([3, 2], b"hello"))

        run(self, scenario)

    def test_what_is_written_is_sent_although_calls_without_delay_never_end(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)

            def again():
                if not server.got:
                    reactor.callLater(0, again)
                    reactor.callFromThread(int)

            client.transport.write(b"x")
            again()
            await server.receive(1)

        run(self, scenario)

    def test_what_a_connection_wrote_in_the_turn_in_which_it_ended_disturbs_no_other(self):
        class Writes(Recorder):
            def connectionLost(self, reason):
                self.transport.write(b"late")
                super().connectionLost(reason)

        async def scenario(reactor):
            other, server, _ = await pair(reactor)
            port = listen(reactor, Recorder)
            for end in ("abortConnection", "loseConnection", "loseWriteConnection"):
                client = Writes()
                await connect(reactor, port, client)
                client.transport.write(b"x")
                getattr(client.transport, end)()
                client.transport.write(b"y")
                other.transport.write(b"z")
                if end == "loseWriteConnection":
                    await turn(reactor)
                    client.transport.write(b"dropped")
                    client.transport.abortConnection()
                await client.lost
            await server.receive(3)

        run(self, scenario)

    def test_unsent_bytes_are_counted_by_Twisteds_names(self):
        def unsent(transport):
            return len(transport.dataBuffer) + transport._tempDataLen

        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            self.assertEqual(unsent(client.transport), 0)
            client.transport.write(b"hello")
            self.assertEqual(unsent(client.transport), 5)
            await server.receive(5)
            self.assertEqual(unsent(client.transport), 0)
            server.transport.pauseProducing()
            client.transport.write(b"x" * 20_000_000)
            self.assertGreater(unsent(client.transport), 1_000_000)
            client.transport.write(b"x" * 1_000_000)
            self.assertGreater(unsent(client.transport), 2_000_000)
            client.transport.abortConnection()
            await client.lost
            self.assertEqual(unsent(client.transport), 0)

        run(self, scenario)


class HandleTests(SynchronousTestCase):
    def test_a_duplicate_is_a_socket_of_its_own(self):
        async def scenario(reactor):
            client, server, port = await pair(reactor)
            for handle in (client.transport.getHandle(), port.socket):
                copy = handle.dup()
                self.assertEqual(copy.family, socket.AF_INET)
                self.assertEqual(copy.getsockname(), handle.getsockname())
                copy.close()
                self.assertNotEqual(handle.fileno(), -1)
            client.transport.write(b"x")
            await server.receive(1)

        run(self, scenario)

    def test_it_knows_its_family_and_kind_and_does_not_block(self):
        async def scenario(reactor):
            for address in ("127.0.0.1", "::1"):
                server, client = Recorder(), Recorder()
                try:
                    port = reactor.listenTCP(
                        0, Factory.forProtocol(lambda server=server: server), interface=address
                    )
                except CannotListenError:
                    continue  # no IPv6
                factory = ClientFactory.forProtocol(lambda client=client: client)
                reactor.connectTCP(address, port.getHost().port, factory)
                await client.made
                await server.made
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                for each in (client, server):
                    handle = each.transport.getHandle()
                    self.assertEqual(handle.family, family)
                    self.assertEqual(handle.type, socket.SOCK_STREAM)
                    self.assertFalse(handle.getblocking())
                    self.assertRaises(BlockingIOError, handle.recv, 1)

        run(self, scenario)

    def test_to_detach_it_ends_the_connection_and_returns_a_descriptor_that_stays_open(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            with socket.socket(fileno=client.transport.getHandle().detach()) as taken:
                self.assertEqual(client.transport.fileno(), -1)
                await turn(reactor, 0.01)
                taken.sendall(b"hello")
                self.assertEqual(await server.receive(5), b"hello")

        run(self, scenario)


class LateTests(SynchronousTestCase):
    def test_methods_that_were_kept_say_nothing_once_the_connection_is_lost(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            kept = {
                "write": [b"x"],
                "writeSequence": [[b"x"]],
                "loseConnection": [],
                "loseWriteConnection": [],
                "abortConnection": [],
                "unregisterProducer": [],
                "pauseProducing": [],
                "resumeProducing": [],
                "stopProducing": [],
                "stopConsuming": [],
            }
            methods = [(getattr(client.transport, name), kept[name]) for name in kept]
            server.transport.abortConnection()
            await client.lost
            for method, words in methods:
                method(*words)
                await turn(reactor)
            producer = Looping(client.transport, b"x")
            client.transport.registerProducer(producer, True)
            self.assertTrue(producer.stopped)

        run(self, scenario)

    def test_a_write_that_was_kept_from_before_startTLS_is_encrypted(self):
        certificates = make_certificates()

        async def scenario(reactor):
            self.patch(tls, "_get_default_clock", lambda: reactor)  # not trial's reactor
            client, server, _ = await pair(reactor)
            write = client.transport.write
            server.transport.startTLS(certificates.server_options())
            client.transport.startTLS(certificates.client_options())
            write(b"secret")
            self.assertEqual(await server.receive(6), b"secret")

        run(self, scenario)


class TransportTests(SynchronousTestCase):
    def test_after_startTLS_socket_options_are_still_those_of_the_socket(self):
        certificates = make_certificates()

        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            client.transport.startTLS(certificates.client_options())
            server.transport.startTLS(certificates.server_options())
            for transport in (client.transport, server.transport):
                transport.setTcpNoDelay(False)
                self.assertFalse(transport.getTcpNoDelay())
                transport.setTcpKeepAlive(True)
                self.assertTrue(transport.getTcpKeepAlive())
                self.assertIsInstance(transport.socket, socket.socket)
                self.assertEqual(transport.socket.fileno(), transport.fileno())
                self.assertTrue(hasattr(transport.getHandle(), "get_cipher_name"))

        run(self, scenario)

    def test_connections_are_numbered_by_their_port(self):
        async def scenario(reactor):
            first, second = Recorder(), Recorder()
            servers = [first, second]
            port = listen(reactor, lambda: servers.pop(0))
            number = port.getHost().port
            for _ in range(2):
                await connect(reactor, port, Recorder())
            await second.made
            self.assertEqual(repr(first.transport), f"<Recorder #0 on {number}>")
            self.assertEqual(second.transport.logPrefix(), "Recorder,1,127.0.0.1")

        run(self, scenario)

    def test_what_uvloop_would_take_and_Twisted_does_not_is_refused(self):
        async def scenario(reactor):
            client, _, _ = await pair(reactor)
            for data in (bytearray(b"x"), memoryview(b"x"), None):
                self.assertRaises(TypeError, client.transport.write, data)
                self.assertRaises(TypeError, client.transport.writeSequence, [data])

        run(self, scenario)

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
