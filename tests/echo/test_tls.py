"""Echo under Twisted's own TLS and socket buffering, without sockets."""

from twisted.internet.abstract import FileDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from evserve.echo.protocol import Change, EchoFactory
from tests.certificates import make_certificates


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


class ClosingTests(SynchronousTestCase):
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
        echo = EchoFactory(Change(), delay, self.socket.reactor)
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

    def test_with_a_delay_the_socket_is_closed_all_the_same(self):
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

    def test_a_client_that_reads_again_is_served_on(self):
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
