"""Echo on a transport in memory."""

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from evserve.echo.protocol import CAPACITY, LINGER, Change, DelayedEcho, EchoFactory
from evserve.interfaces import IDrainable


PLAIN = Change()
LOUD = Change(upper=True, suffix=b"!")


class Case(SynchronousTestCase):
    """Connects a protocol of the factory that the options would make."""

    def connect(self, change=PLAIN, delay=0.0):
        self.clock = Clock()
        self.factory = EchoFactory(change, delay, self.clock)
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


class DrainTests(Case):
    def drain(self, change=PLAIN):
        self.connect(change)
        self.transport = SocketTransport()
        self.echo.makeConnection(self.transport)
        self.echo.dataReceived(b"owed")
        self.transport.pauseProducing()
        self.echo.drain()

    def test_the_client_is_told_that_no_more_comes(self):
        self.drain(LOUD)
        self.assertEqual(self.transport.value(), b"OWED!")
        self.assertTrue(self.transport.half_closed)

    def test_what_still_comes_is_read_and_thrown_away(self):
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


class EchoTests(Case):
    def test_every_byte_comes_back(self):
        self.connect()
        self.echo.dataReceived(bytes(range(256)))
        self.assertEqual(self.transport.value(), bytes(range(256)))

    def test_plain_echo_runs_no_code_of_ours_per_chunk(self):
        self.connect()
        self.assertEqual(self.echo.dataReceived, self.transport.write)

    def test_changes_are_applied(self):
        self.connect(LOUD)
        self.echo.dataReceived(b"hello\n")
        self.assertEqual(self.transport.value(), b"HELLO!\n")

    def test_the_transport_is_its_own_producer(self):
        for change in (PLAIN, LOUD):
            self.connect(change)
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
        self.assertEqual(list(self.factory.connections.since), [self.echo])
        self.lose()
        self.assertEqual(list(self.factory.connections.since), [])
        self.assertEqual(self.factory.connections.opened, 1)

    def test_the_protocols_keep_their_promises(self):
        for change, delay in [(PLAIN, 0), (LOUD, 0), (PLAIN, 1)]:
            self.connect(change, delay)
            verifyObject(IHalfCloseableProtocol, self.echo)
            verifyObject(IDrainable, self.echo)
            self.echo.writeConnectionLost()
            self.lose()
        verifyObject(IPushProducer, self.echo)


class DelayedEchoTests(Case):
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

    def test_a_chunk_that_leaves_nothing_to_send_takes_no_place(self):
        self.connect(LOUD, delay=2)
        self.echo.dataReceived(b"\r")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_full_line_stops_reading_until_it_has_room(self):
        self.connect(delay=2)
        self.echo.dataReceived(bytes(CAPACITY))
        self.assertEqual(self.transport.producerState, "paused")
        self.clock.advance(2)
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(len(self.transport.value()), CAPACITY)

    def test_reading_stays_stopped_while_the_line_stays_full(self):
        self.connect(delay=2)
        self.echo.dataReceived(b"first")
        self.clock.advance(1)
        self.echo.dataReceived(bytes(CAPACITY))
        self.clock.advance(1)
        self.assertEqual(self.transport.value(), b"first")
        self.assertEqual(self.transport.producerState, "paused")

    def test_a_client_that_does_not_read_holds_the_line(self):
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
        self.echo.dataReceived(bytes(CAPACITY))
        self.echo.readConnectionLost()
        self.echo.drain()
        self.clock.advance(2)
        self.assertEqual(self.transport.producerState, "paused")

    def test_one_that_owes_nothing_closes_at_once(self):
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
        self.echo.dataReceived(bytes(CAPACITY))
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
        self.assertGreaterEqual(self.factory.held, 5)
        self.clock.advance(2)
        self.assertEqual(self.factory.held, 0)
