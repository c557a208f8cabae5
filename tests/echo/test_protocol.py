"""Echo on transports in memory: transforms, delays, draining, TLS."""

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from evserve.echo.protocol import DELAY_CAPACITY, LINGER, DelayedEcho, EchoFactory, Transform
from evserve.interfaces import IBusy, IDrainable
from tests.certificates import make_certificates


EVERY_BYTE = bytes(range(256))


def echoed(transform, *chunks):
    stream = transform.stream()
    return b"".join(map(stream.feed, chunks)) + stream.end()


class TransformTests(SynchronousTestCase):
    def test_without_a_transform_it_is_binary_safe(self):
        self.assertEqual(echoed(Transform(), EVERY_BYTE), EVERY_BYTE)

    def test_only_a_transform_that_does_nothing_is_the_identity(self):
        self.assertTrue(Transform().is_identity)
        self.assertFalse(Transform(upper=True).is_identity)
        self.assertFalse(Transform(suffix=b"!").is_identity)

    def test_upper_changes_only_the_letters_a_to_z(self):
        upper = echoed(Transform(upper=True), EVERY_BYTE)
        self.assertEqual(upper, EVERY_BYTE[:97] + EVERY_BYTE[65:91] + EVERY_BYTE[123:])

    def test_upper_leaves_utf8_whole(self):
        self.assertEqual(echoed(Transform(upper=True), "größe".encode()), "GRößE".encode())

    def test_the_suffix_stands_before_each_line_break(self):
        self.assertEqual(echoed(Transform(suffix=b"!"), b"one\ntwo\r\n\n"), b"one!\ntwo!\r\n!\n")

    def test_the_suffix_ends_a_last_line_that_has_no_end(self):
        self.assertEqual(echoed(Transform(suffix=b"!"), b"one\ntwo"), b"one!\ntwo!")
        self.assertEqual(echoed(Transform(suffix=b"!"), b"one\r"), b"one\r!")

    def test_an_empty_stream_gets_no_suffix(self):
        self.assertEqual(echoed(Transform(suffix=b"!")), b"")

    def test_a_stream_ends_only_once(self):
        stream = Transform(suffix=b"!").stream()
        stream.feed(b"one")
        self.assertEqual([stream.end(), stream.end()], [b"!", b""])

    def test_the_suffix_is_taken_literally_and_never_transformed(self):
        transform = Transform(upper=True, suffix=rb"\1 \g<0> ok")
        self.assertEqual(echoed(transform, b"go\n"), rb"GO\1 \g<0> ok" + b"\n")

    def test_a_line_is_sent_back_before_it_ends(self):
        self.assertEqual(Transform(suffix=b"!").stream().feed(b"hel"), b"hel")

    def test_the_result_is_the_same_wherever_the_stream_is_cut(self):
        transform = Transform(upper=True, suffix=b"\r\n+")
        text = b"a\r\nb\r\rc\n\r\n\nd\r\n\r"
        whole = echoed(transform, text)
        for first in range(len(text) + 1):
            for second in range(first, len(text) + 1):
                chunks = text[:first], text[first:second], text[second:]
                self.assertEqual(echoed(transform, *chunks), whole, chunks)

    def test_a_datagram_is_a_stream_of_its_own(self):
        self.assertEqual(Transform(upper=True, suffix=b"!").datagram(b"one\ntwo"), b"ONE!\nTWO!")


PLAIN = Transform()
LOUD = Transform(upper=True, suffix=b"!")


class EchoTestCase(SynchronousTestCase):
    """Connects a protocol of the factory that the options would make."""

    def connect(self, transform=PLAIN, delay=0.0):
        self.clock = Clock()
        self.factory = EchoFactory(transform, delay, self.clock)
        self.echo = self.factory.buildProtocol(None)
        self.transport = StringTransport()
        self.echo.makeConnection(self.transport)

    def lose(self):
        if self.transport.producer is not None:
            self.transport.unregisterProducer()
        self.echo.connectionLost()


class SocketTransport(StringTransport):
    """A transport with two halves, as those of TCP and UNIX sockets are."""

    half_closed = False

    def loseWriteConnection(self):
        self.half_closed = True


class DrainTests(EchoTestCase):
    def drain(self, transform=PLAIN):
        self.connect(transform)
        self.transport = SocketTransport()
        self.echo.makeConnection(self.transport)
        self.echo.dataReceived(b"owed")
        self.transport.pauseProducing()
        self.echo.drain()

    def test_the_client_gets_what_is_owed_and_the_end(self):
        self.drain(LOUD)
        self.assertEqual(self.transport.value(), b"OWED!")
        self.assertTrue(self.transport.half_closed)

    def test_what_still_arrives_is_read_and_discarded(self):
        self.drain()
        self.assertEqual(self.transport.producerState, "producing")
        self.echo.dataReceived(b"late")
        self.assertEqual(self.transport.value(), b"owed")
        self.assertFalse(self.transport.disconnecting)

    def test_it_closes_when_the_client_does(self):
        self.drain(LOUD)
        self.echo.readConnectionLost()
        self.assertEqual(self.transport.value(), b"OWED!")
        self.assertTrue(self.transport.disconnecting)

    def test_a_client_that_does_not_close_gets_a_moment_after_the_last_byte(self):
        self.drain()
        self.clock.advance(60)
        self.assertFalse(self.transport.disconnecting)
        self.echo.writeConnectionLost()
        self.clock.advance(LINGER)
        self.assertTrue(self.transport.disconnecting)

    def test_a_lost_connection_leaves_no_timer(self):
        self.drain()
        self.echo.writeConnectionLost()
        self.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class EchoTests(EchoTestCase):
    def test_every_byte_comes_back(self):
        self.connect()
        self.echo.dataReceived(bytes(range(256)))
        self.assertEqual(self.transport.value(), bytes(range(256)))

    def test_plain_echo_runs_no_code_of_ours_per_chunk(self):
        self.connect()
        self.assertEqual(self.echo.dataReceived, self.transport.write)

    def test_transforms_are_applied(self):
        self.connect(LOUD)
        self.echo.dataReceived(b"hello\n")
        self.assertEqual(self.transport.value(), b"HELLO!\n")

    def test_the_transport_is_its_own_producer(self):
        for transform in (PLAIN, LOUD):
            self.connect(transform)
            self.assertIs(self.transport.producer, self.transport)
            self.assertTrue(self.transport.streaming)

    def test_a_half_close_is_answered_after_the_last_byte(self):
        self.connect(LOUD)
        self.echo.dataReceived(b"bye")
        self.echo.readConnectionLost()
        self.assertEqual(self.transport.value(), b"BYE!")
        self.assertTrue(self.transport.disconnecting)

    def test_closing_leaves_no_producer_for_the_transport_to_wait_for(self):
        self.connect()
        self.echo.drain()
        self.assertIsNone(self.transport.producer)
        self.assertTrue(self.transport.disconnecting)

    def test_connections_are_counted_while_they_last(self):
        self.connect()
        self.assertEqual(list(self.factory.connections), [self.echo])
        self.lose()
        self.assertEqual(list(self.factory.connections), [])
        self.assertEqual(self.factory.opened, 1)

    def test_the_protocols_provide_their_interfaces(self):
        for transform, delay in [(PLAIN, 0), (LOUD, 0), (PLAIN, 1)]:
            self.connect(transform, delay)
            verifyObject(IHalfCloseableProtocol, self.echo)
            verifyObject(IDrainable, self.echo)
            self.echo.writeConnectionLost()
            self.lose()
        verifyObject(IPushProducer, self.echo)


class DelayedEchoTests(EchoTestCase):
    def test_answers_come_later_and_in_order(self):
        self.connect(LOUD, delay=2)
        self.echo.dataReceived(b"one\n")
        self.clock.advance(1)
        self.echo.dataReceived(b"two\n")
        self.assertEqual(self.transport.value(), b"")
        self.clock.advance(1)
        self.assertEqual(self.transport.value(), b"ONE!\n")
        self.clock.advance(1)
        self.assertEqual(self.transport.value(), b"ONE!\nTWO!\n")

    def test_a_connection_whose_answer_is_due_is_busy(self):
        self.connect(delay=2)
        verifyObject(IBusy, self.echo)
        self.assertFalse(self.echo.busy())
        self.echo.dataReceived(b"one")
        self.assertTrue(self.echo.busy())
        self.clock.advance(2)
        self.assertFalse(self.echo.busy())

    def test_a_chunk_that_leaves_nothing_to_send_takes_no_place(self):
        self.connect(LOUD, delay=2)
        self.echo.dataReceived(b"\r")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_full_queue_stops_reading_until_it_has_room(self):
        self.connect(delay=2)
        self.echo.dataReceived(bytes(DELAY_CAPACITY))
        self.assertEqual(self.transport.producerState, "paused")
        self.clock.advance(2)
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(len(self.transport.value()), DELAY_CAPACITY)

    def test_reading_stays_stopped_while_the_queue_stays_full(self):
        self.connect(delay=2)
        self.echo.dataReceived(b"first")
        self.clock.advance(1)
        self.echo.dataReceived(bytes(DELAY_CAPACITY))
        self.clock.advance(1)
        self.assertEqual(self.transport.value(), b"first")
        self.assertEqual(self.transport.producerState, "paused")

    def test_a_client_that_does_not_read_pauses_the_queue(self):
        self.connect(delay=2)
        self.echo.dataReceived(b"one")
        self.transport.producer.pauseProducing()
        self.clock.advance(10)
        self.assertEqual(self.transport.value(), b"")
        self.transport.producer.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), b"one")

    def test_a_half_closed_connection_closes_after_what_is_owed(self):
        self.connect(LOUD, delay=2)
        self.echo.dataReceived(b"one")
        self.clock.advance(1)
        self.echo.readConnectionLost()
        self.clock.advance(1)
        self.assertEqual(self.transport.value(), b"ONE")
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(1)
        self.assertEqual(self.transport.value(), b"ONE!")
        self.assertTrue(self.transport.disconnecting)

    def test_a_half_closed_connection_is_never_read_again(self):
        self.connect(delay=2)
        self.echo.dataReceived(bytes(DELAY_CAPACITY))
        self.echo.readConnectionLost()
        self.echo.drain()
        self.clock.advance(2)
        self.assertEqual(self.transport.producerState, "paused")

    def test_a_connection_that_owes_nothing_closes_at_once(self):
        for end in ("readConnectionLost", "drain"):
            self.connect(delay=2)
            getattr(self.echo, end)()
            self.assertTrue(self.transport.disconnecting)

    def test_draining_takes_no_new_work_and_finishes_the_old(self):
        self.connect(delay=2)
        self.echo.dataReceived(b"old")
        self.echo.drain()
        self.echo.dataReceived(b"new")
        self.echo.readConnectionLost()
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(2)
        self.assertEqual(self.transport.value(), b"old")
        self.assertTrue(self.transport.disconnecting)

    def test_draining_reads_on_so_that_closing_does_not_reset(self):
        self.connect(delay=2)
        self.echo.dataReceived(bytes(DELAY_CAPACITY))
        self.echo.drain()
        self.assertEqual(self.transport.producerState, "producing")

    def test_a_lost_connection_leaves_no_timer(self):
        self.connect(delay=2)
        self.echo.dataReceived(b"one")
        self.transport.producer.stopProducing()
        self.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_client_that_vanishes_during_a_half_close_leaves_no_timer(self):
        self.connect(delay=2)
        self.echo.dataReceived(b"one")
        self.echo.readConnectionLost()
        self.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_bytes_that_wait_can_be_measured(self):
        self.connect(delay=2)
        self.assertIsInstance(self.echo, DelayedEcho)
        self.echo.dataReceived(b"12345")
        self.assertGreaterEqual(self.factory.delayed_bytes, 5)
        self.clock.advance(2)
        self.assertEqual(self.factory.delayed_bytes, 0)


class Watcher(Clock):
    """A reactor that knows which sockets wait to write; the test says when they can."""

    def __init__(self):
        super().__init__()
        self.writers = set()
        self.addReader, self.removeReader = set().add, set().discard
        self.addWriter, self.removeWriter = self.writers.add, self.writers.discard


class Socket(FileDescriptor):
    """A socket with the buffering of a real one, whose peer reads when the test says so."""

    connected = 1

    def __init__(self):
        super().__init__(Watcher())
        self.sent = b""
        self.is_open = True

    def writeSomeData(self, data):
        self.sent += data
        return len(data)

    def _postLoseConnection(self):
        return CONNECTION_DONE

    def flush(self):
        """The peer reads all there is, as often as it takes."""
        while self.is_open and self in self.reactor.writers:
            self.is_open = self.doWrite() is not CONNECTION_DONE


class Reader(Protocol):
    got = b""

    def dataReceived(self, data):
        self.got += data


class TLSClosingTests(SynchronousTestCase):
    """A TLS client that writes and closes, while the server's socket is full."""

    def setUp(self):
        certificates = make_certificates()
        self.reader = Reader()
        self.client = TLSMemoryBIOFactory(
            certificates.client_options(), True, Factory.forProtocol(lambda: self.reader)
        ).buildProtocol(None)
        self.options = certificates.server_options()
        self.socket = Socket()

    def connect(self, delay):
        echo = EchoFactory(Transform(), delay, self.socket.reactor)
        factory = TLSMemoryBIOFactory(self.options, False, echo, clock=self.socket.reactor)
        self.server = factory.buildProtocol(None)
        self.wire = StringTransport()
        self.client.makeConnection(self.wire)
        self.server.makeConnection(self.socket)
        for _ in range(3):
            self.to_server()
            self.to_client()

    def to_server(self):
        sent = self.wire.value()
        self.wire.clear()
        if sent:
            self.server.dataReceived(sent)

    def to_client(self):
        self.socket.flush()
        sent, self.socket.sent = self.socket.sent, b""
        if sent:
            self.client.dataReceived(sent)

    def write_and_close(self):
        self.client.write(bytes(100_000))
        self.client._aggregator.flush()
        self.to_server()
        self.client.write(b"last")
        self.client.loseConnection()
        self.to_server()

    def test_it_gets_every_byte_and_the_socket_is_closed(self):
        self.connect(delay=0)
        self.write_and_close()
        self.assertTrue(self.socket.producerPaused)
        self.to_client()
        self.assertEqual(self.reader.got, bytes(100_000) + b"last")
        self.assertFalse(self.socket.is_open)

    def test_with_a_delay_the_socket_is_closed_too(self):
        self.connect(delay=1)
        self.client.write(bytes(100_000))
        self.client._aggregator.flush()
        self.to_server()
        self.socket.reactor.advance(1)
        self.socket.reactor.advance(0)
        self.assertTrue(self.socket.producerPaused)
        self.client.loseConnection()
        self.to_server()
        self.to_client()
        self.assertEqual(self.reader.got, bytes(100_000))
        self.assertFalse(self.socket.is_open)
        self.assertEqual(self.socket.reactor.getDelayedCalls(), [])

    def test_a_client_that_reads_again_is_served_again(self):
        self.connect(delay=0)
        self.client.write(bytes(100_000))
        self.client._aggregator.flush()
        self.to_server()
        self.assertTrue(self.socket.producerPaused)
        self.to_client()
        self.client.write(b"more")
        self.client._aggregator.flush()
        self.to_server()
        self.to_client()
        self.assertEqual(self.reader.got, bytes(100_000) + b"more")
        self.assertTrue(self.socket.is_open)

    def test_a_lost_socket_leaves_no_timer(self):
        self.connect(delay=1)
        self.client.write(b"never answered")
        self.client._aggregator.flush()
        self.to_server()
        self.socket.connectionLost(Failure(CONNECTION_DONE))
        self.server.connectionLost(Failure(CONNECTION_DONE))
        self.assertEqual(self.socket.reactor.getDelayedCalls(), [])
