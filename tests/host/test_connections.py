"""Connections: limits, drain, metrics, idle time-outs, file descriptors."""

import os

from prometheus_client import CollectorRegistry
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import (
    IFileDescriptorReceiver,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocolNegotiationFactory,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import alsoProvides, implementer

from evserve.host.connections import (
    DESCRIPTOR_RETRY,
    DRAIN_INTERVAL,
    Connection,
    ConnectionLimiter,
    DescriptorLimiter,
    IdleSweep,
    RefusedConnection,
)
from evserve.host.options import Limits
from evserve.interfaces import IBusy, IDrainable
from tests.host.timed_transport import Handle, TimedTransport


class Recorder(Protocol):
    """Remembers what happened to it."""

    def __init__(self):
        self.happened = []

    def connectionMade(self):
        self.happened.append("made")

    def dataReceived(self, data):
        self.happened.append(data)

    def connectionLost(self, reason=None):
        self.happened.append("lost")


@implementer(IHalfCloseableProtocol, IDrainable)
class Drainable(Recorder):
    def drain(self):
        self.happened.append("drain")

    def readConnectionLost(self):
        self.happened.append("read lost")

    def writeConnectionLost(self):
        self.happened.append("write lost")


class Stubborn(Recorder):
    def drain(self):
        raise RuntimeError("no")


class Case(SynchronousTestCase):
    protocol = Recorder

    def setUp(self):
        self.clock = Clock()
        self.logged = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)
        self.open()

    def open(self, **limits):
        self.factory = Factory.forProtocol(self.protocol)
        descriptors = DescriptorLimiter(self.clock, 1024)
        self.limiter = ConnectionLimiter(
            "echo", self.factory, Limits(**limits), self.clock, descriptors
        )

    def connect(self, host="192.0.2.1"):
        address = IPv4Address("TCP", host, 1) if host else UNIXAddress(None)
        connection = self.limiter.buildProtocol(address)
        connection.makeConnection(StringTransport())
        return connection

    def build(self, protocol):
        """Let the factory build nothing but this."""
        self.factory.buildProtocol = lambda _: protocol

    def lose(self, connection):
        connection.connectionLost(Failure(RuntimeError()))

    def metric(self, name, **labels):
        registry = CollectorRegistry()
        registry.register(self.limiter)
        return registry.get_sample_value(name, labels)


class ForwardingTests(Case):
    protocol = Drainable

    def test_the_protocol_gets_every_call(self):
        connection = self.connect()
        connection.dataReceived(b"x")
        connection.readConnectionLost()
        connection.writeConnectionLost()
        self.lose(connection)
        self.assertEqual(
            connection.inner.happened, ["made", b"x", "read lost", "write lost", "lost"]
        )

    def test_the_protocol_writes_to_the_real_transport(self):
        connection = self.connect()
        self.assertIs(connection.inner.transport, connection.transport)

    def test_the_kernel_looks_whether_a_silent_client_is_still_there(self):
        class TCPTransport(StringTransport):
            def setTcpKeepAlive(self, enabled):
                self.keeps_alive = enabled
                raise OSError("the client is gone")

        connection = self.limiter.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        connection.makeConnection(TCPTransport())
        self.assertTrue(connection.transport.keeps_alive)

    def test_connection_made_may_be_called_again(self):
        connection = self.connect()
        connection.connectionMade()
        self.assertEqual(connection.inner.happened, ["made", "made"])

    def test_attributes_are_those_of_the_protocol(self):
        connection = self.connect()
        self.assertIs(connection.factory, self.factory)

    def test_attributes_of_the_factory_can_be_reached(self):
        self.factory.rooms = 3
        self.assertEqual(self.limiter.rooms, 3)

    def test_the_factory_is_started_and_stopped(self):
        self.limiter.doStart()
        self.assertEqual(self.factory.numPorts, 1)
        self.limiter.doStop()
        self.assertEqual(self.factory.numPorts, 0)

    def test_twisteds_own_lines_about_the_port_can_be_recognized(self):
        self.assertEqual(self.limiter.logPrefix(), "evserve limiter")

    def test_optional_interfaces_of_the_protocol_are_provided(self):
        for interface in (IHandshakeListener, IFileDescriptorReceiver):
            self.assertFalse(interface.providedBy(self.connect()))
            inner = Recorder()
            alsoProvides(inner, interface)
            self.build(inner)
            self.assertTrue(interface.providedBy(self.connect()))
            self.assertTrue(interface.providedBy(self.limiter.buildProtocol(UNIXAddress(None))))
            self.open()

    def test_a_factory_that_negotiates_protocols_still_does(self):
        alsoProvides(self.factory, IProtocolNegotiationFactory)
        limiter = ConnectionLimiter(
            "x", self.factory, Limits(), self.clock, self.limiter.descriptors
        )
        self.assertTrue(IProtocolNegotiationFactory.providedBy(limiter))
        self.assertFalse(IProtocolNegotiationFactory.providedBy(self.limiter))

    def test_a_factory_without_a_protocol_for_the_client_refuses_it(self):
        self.build(None)
        refusal = self.connect()
        self.assertIsInstance(refusal, RefusedConnection)
        self.assertTrue(refusal.transport is None)


class HalfCloseTests(Case):
    def test_a_protocol_that_knows_no_half_close_gets_its_writes_sent_first(self):
        connection = self.connect()
        connection.inner.transport.write(b"answer")
        connection.readConnectionLost()
        connection.writeConnectionLost()
        self.assertEqual(connection.transport.value(), b"answer")
        self.assertTrue(connection.transport.disconnecting)
        self.assertFalse(connection.transport.disconnected)


class LimitTests(Case):
    def refused(self, host="192.0.2.1"):
        protocol = self.limiter.buildProtocol(IPv4Address("TCP", host, 1))
        if isinstance(protocol, Connection):
            return False
        transport = StringTransport()
        protocol.makeConnection(transport)
        self.assertTrue(transport.disconnected)
        return True

    def test_beyond_max_connections_clients_are_refused_until_one_leaves(self):
        self.open(max_connections=2)
        first, _ = self.connect(), self.connect("192.0.2.2")
        self.assertTrue(self.refused("192.0.2.3"))
        self.lose(first)
        self.assertFalse(self.refused("192.0.2.3"))

    def test_each_address_has_its_own_limit(self):
        self.open(max_per_peer=1)
        first = self.connect()
        self.assertTrue(self.refused())
        self.assertFalse(self.refused("192.0.2.2"))
        self.lose(first)
        self.assertFalse(self.refused())

    def test_max_per_peer_does_not_apply_to_a_unix_socket(self):
        self.open(max_per_peer=1)
        self.connect(None)
        self.assertIsInstance(self.connect(None), Connection)

    def test_nothing_is_kept_about_peers_that_are_gone(self):
        self.open(max_per_peer=2)
        connections = [self.connect(), self.connect()]
        for each in connections:
            self.lose(each)
        self.assertEqual(dict(self.limiter._peers), {})

    def test_refusals_are_logged_once_a_second(self):
        self.open(max_connections=1)
        self.connect()
        for _ in range(1000):
            self.refused()
        self.assertEqual(self.refusals(), [])
        self.clock.advance(1)
        self.assertEqual(self.refusals(), [(1000, "max-connections")])
        self.clock.advance(5)
        self.refused()
        self.clock.advance(1)
        self.assertEqual(self.refusals(), [(1000, "max-connections"), (1, "max-connections")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def refusals(self):
        return [(event["count"], event["reason"]) for event in self.logged if "reason" in event]


class DrainTests(Case):
    def test_without_connections_the_drain_is_done_at_once(self):
        self.successResultOf(self.limiter.drain())

    def test_draining_closes_every_connection_and_waits_for_the_last(self):
        first, second = self.connect(), self.connect()
        drained = self.limiter.drain()
        self.assertTrue(first.transport.disconnecting and second.transport.disconnecting)
        self.lose(first)
        self.assertNoResult(drained)
        self.lose(second)
        self.successResultOf(drained)

    def test_a_protocol_that_knows_how_to_finish_is_asked_to(self):
        self.protocol = Drainable
        self.open()
        connection = self.connect()
        self.limiter.drain()
        self.assertEqual(connection.inner.happened, ["made", "drain"])
        self.assertFalse(connection.transport.disconnecting)

    def test_a_connection_is_closed_once_nothing_is_in_flight(self):
        connection = self.connect()
        connection.dataReceived(b"x")
        transport = connection.transport
        transport.registerProducer(self, False)
        transport.streamingProducer = False
        self.limiter.drain()
        self.clock.advance(DRAIN_INTERVAL)
        self.assertFalse(transport.disconnecting)
        transport.unregisterProducer()
        self.clock.advance(DRAIN_INTERVAL)
        self.assertTrue(transport.disconnecting)

    def test_an_idle_producer_does_not_keep_it_open(self):
        connection = self.connect()
        transport = connection.transport
        transport.registerProducer(self, True)
        transport.streamingProducer, transport.producerPaused = True, False
        self.limiter.drain()
        self.assertTrue(transport.disconnecting)
        self.assertIsNone(transport.producer)

    def test_a_tls_client_need_not_answer_the_close_alert(self):
        connection = self.connect()
        tls = TLSMemoryBIOProtocol(None, None)
        tls.transport, connection.transport = connection.transport, tls
        tls.wrappedProtocol, tls.loseConnection = connection, lambda: None
        tls.disconnecting, tls._appSendBuffer = True, [b"unsent"]
        self.limiter.drain()
        self.clock.advance(DRAIN_INTERVAL)
        self.assertFalse(tls.transport.disconnecting)
        tls._appSendBuffer.clear()
        self.clock.advance(DRAIN_INTERVAL)
        self.assertTrue(tls.transport.disconnecting)

    def test_a_protocol_is_asked_once_to_drain(self):
        self.protocol = Drainable
        self.open()
        connection = self.connect()
        self.limiter.drain()
        self.clock.pump([DRAIN_INTERVAL] * 3)
        self.assertEqual(connection.inner.happened, ["made", "drain"])
        self.lose(connection)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_protocol_that_fails_to_drain_is_aborted_and_delays_no_other(self):
        inner = Stubborn()
        alsoProvides(inner, IDrainable)
        self.build(inner)
        stubborn = self.connect()
        self.protocol = Recorder
        other = Connection(Recorder(), self.limiter, None)
        other.makeConnection(StringTransport())
        drained = self.limiter.drain()
        self.assertTrue(stubborn.transport.disconnected)
        self.assertTrue(other.transport.disconnecting)
        self.lose(stubborn)
        self.lose(other)
        self.successResultOf(drained)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_aborting_cuts_every_connection_and_counts_them(self):
        connections = [self.connect(), self.connect()]
        self.assertEqual(self.limiter.abort(), 2)
        self.assertTrue(all(each.transport.disconnected for each in connections))


class MetricsTests(Case):
    def test_connections_come_and_go(self):
        first, _ = self.connect(), self.connect()
        self.lose(first)
        self.assertEqual(self.metric("evserve_connections"), 1)
        self.assertEqual(self.metric("evserve_connections_accepted_total"), 2)

    def test_bytes_of_past_and_present_connections_count(self):
        first, second = self.connect(), self.connect()
        first.dataReceived(b"123")
        second.dataReceived(b"45")
        self.lose(first)
        self.assertEqual(self.metric("evserve_received_bytes_total"), 5)

    def test_the_count_of_a_transport_is_used(self):
        class Knowing(StringTransport):
            bytes_received = 7

        connection = self.limiter.buildProtocol(UNIXAddress(None))
        connection.makeConnection(Knowing())
        connection.dataReceived(b"x")
        self.assertEqual(connection.inner.happened, ["made", b"x"])
        self.assertEqual(self.metric("evserve_received_bytes_total"), 7)
        self.lose(connection)
        self.assertEqual(self.metric("evserve_received_bytes_total"), 7)

    def test_the_count_below_a_layer_is_not_used(self):
        class Layer(StringTransport):
            def __getattr__(self, name):
                if name != "bytes_received":
                    raise AttributeError(name)
                return 7

            def fileno(self):
                return 3

        connection = self.limiter.buildProtocol(UNIXAddress(None))
        connection.makeConnection(Layer())
        connection.dataReceived(b"x")
        self.assertEqual(self.metric("evserve_received_bytes_total"), 1)

    def test_refusals_count_by_reason(self):
        self.open(max_connections=1)
        self.connect()
        self.limiter.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        name = "evserve_connections_refused_total"
        self.assertEqual(self.metric(name, reason="max-connections"), 1)
        self.assertIsNone(self.metric(name, reason="max-per-peer"))


class ReplacedProtocolTests(Case):
    """A protocol that replaces itself: the connection's end is reported to the new one."""

    def replaced(self):
        connection = self.connect()
        connection.transport.protocol = Drainable()
        return connection

    def test_its_end_is_noticed_during_the_drain(self):
        transport = self.replaced().transport
        drained = self.limiter.drain()
        self.assertEqual(transport.protocol.happened, ["drain"])
        self.assertNoResult(drained)
        transport.abortConnection()
        self.clock.advance(DRAIN_INTERVAL)
        self.successResultOf(drained)

    def test_its_end_is_noticed_before_another_is_refused(self):
        self.open(max_connections=1)
        connection = self.replaced()
        connection.transport.abortConnection()
        self.clock.advance(2)
        self.assertIsInstance(self.limiter.buildProtocol(UNIXAddress(None)), Connection)

    def test_its_end_is_noticed_by_the_metrics(self):
        connection = self.replaced()
        self.assertEqual(self.metric("evserve_connections"), 1)
        connection.transport.abortConnection()
        self.assertEqual(self.metric("evserve_connections"), 0)
        self.lose(connection)
        self.assertEqual(self.metric("evserve_connections"), 0)


class Poll(Resource):
    isLeaf = True

    def render_GET(self, request):
        return NOT_DONE_YET


class IdleSweepTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.open(4.0)

    def open(self, timeout):
        descriptors = DescriptorLimiter(self.clock, 1024)
        factory = Factory.forProtocol(Protocol)
        self.limiter = ConnectionLimiter(
            "echo", factory, Limits(idle_timeout=timeout), self.clock, descriptors
        )
        self.sweep = IdleSweep(self.limiter)
        self.sweep.start()

    def connect(self, handle=None):
        connection = self.limiter.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        connection.makeConnection(TimedTransport(handle))
        return connection

    def advance(self, seconds):
        self.clock.pump([1.0] * seconds)

    def test_a_silent_connection_is_cut_after_the_time_out(self):
        connection = self.connect()
        self.advance(4)
        self.assertFalse(connection.transport.disconnected)
        self.advance(1)
        self.assertTrue(connection.transport.disconnected)

    def test_received_bytes_restart_the_time_out(self):
        connection = self.connect()
        for _ in range(5):
            self.advance(3)
            connection.dataReceived(b"x")
        self.assertFalse(connection.transport.disconnected)

    def test_the_time_out_does_not_run_while_a_connection_is_busy(self):
        """A consumer that waits for an event is silent for hours."""
        connection = self.connect()
        alsoProvides(connection.inner, IBusy)
        connection.inner.busy = lambda: True
        self.advance(20)
        self.assertFalse(connection.transport.disconnected)
        connection.inner.busy = lambda: False
        self.advance(5)
        self.assertTrue(connection.transport.disconnected)

    def test_a_busy_connection_whose_client_reads_nothing_is_cut(self):
        connection = self.connect(Handle(4.0, unsent=1))
        alsoProvides(connection.inner, IBusy)
        connection.inner.busy = lambda: True
        self.advance(5)
        self.assertTrue(connection.transport.disconnected)

    def test_a_request_that_is_handled_keeps_its_connection(self):
        """A long poll. The rest of a request that never comes does not."""
        self.limiter.inner = Site(Poll(), reactor=self.clock, timeout=None)
        polling, sending = self.connect(), self.connect()
        polling.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        sending.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n")
        self.advance(20)
        self.assertFalse(polling.transport.disconnected)
        self.assertTrue(sending.transport.disconnected)

    def test_sent_bytes_restart_the_time_out(self):
        connection = self.connect(Handle(3.9))
        self.advance(20)
        self.assertFalse(connection.transport.disconnected)
        connection.transport.handle = Handle(4.0)
        self.advance(1)
        self.assertTrue(connection.transport.disconnected)

    def test_without_a_time_out_there_is_no_sweep(self):
        self.sweep.stop()
        self.open(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.sweep.stop()

    def test_stopping_ends_the_sweeps(self):
        self.sweep.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_is_kept_about_connections_that_are_gone(self):
        connection = self.connect()
        self.advance(1)
        self.limiter.closed(connection)
        del connection
        self.assertEqual(len(self.sweep._seen), 0)


class PausablePort:
    numberAccepts = 100
    reading = True

    def stopReading(self):
        self.reading = False

    def startReading(self):
        self.reading = True


class NumberedTransport:
    def __init__(self, number):
        self.number = number

    def fileno(self):
        return self.number


class DescriptorLimiterTests(SynchronousTestCase):
    limit = 1024

    def setUp(self):
        self.clock = Clock()
        self.in_use = None
        self.descriptors = DescriptorLimiter(
            self.clock, self.limit, count_open=lambda: self.in_use
        )
        self.port = PausablePort()
        self.lowest = 0
        self.probes = []
        self.patch(os, "open", self.open_null)
        self.patch(os, "close", self.probes.remove)
        self.descriptors.watch(self.port)

    def open_null(self, path, flags):
        if self.lowest + len(self.probes) >= self.limit:
            raise OSError
        self.probes.append(self.lowest + len(self.probes))
        return self.probes[-1]

    def fill(self):
        self.descriptors.opened(NumberedTransport(self.limit - self.descriptors.reserve))

    def test_low_numbers_change_nothing(self):
        self.descriptors.opened(NumberedTransport(self.limit - self.descriptors.reserve - 1))
        self.assertTrue(self.port.reading)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_when_few_are_left_no_port_accepts(self):
        other = PausablePort()
        self.descriptors.watch(other)
        self.fill()
        self.assertFalse(self.port.reading or other.reading)

    def test_many_connections_count_although_low_numbers_are_free(self):
        most = self.limit - self.descriptors.reserve
        for _ in range(most - 1):
            self.descriptors.opened(NumberedTransport(5))
        self.assertTrue(self.port.reading)
        self.descriptors.opened(NumberedTransport(5))
        self.clock.advance(DESCRIPTOR_RETRY)
        self.assertFalse(self.port.reading)
        self.descriptors.closed()
        self.clock.advance(DESCRIPTOR_RETRY)
        self.assertTrue(self.port.reading)

    def test_connections_that_never_reported_their_end_do_not_count(self):
        """A protocol may replace itself, so that nothing is told of the connection's end."""
        most = self.limit - self.descriptors.reserve
        self.in_use = 10
        for _ in range(most + 1):
            self.descriptors.opened(NumberedTransport(5))
        self.assertTrue(self.port.reading)
        self.in_use = most
        for _ in range(most):
            self.descriptors.opened(NumberedTransport(5))
        self.assertFalse(self.port.reading)

    def test_ports_accept_again_once_descriptors_are_free(self):
        self.fill()
        self.lowest = self.limit
        self.clock.advance(DESCRIPTOR_RETRY)
        self.lowest = (
            self.limit - self.descriptors.reserve - 1
        )  # which the port may want for itself
        self.clock.advance(DESCRIPTOR_RETRY)
        self.assertFalse(self.port.reading)
        self.lowest -= 1
        self.clock.advance(DESCRIPTOR_RETRY)
        self.assertTrue(self.port.reading)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_second_alarm_adds_no_second_timer(self):
        self.fill()
        self.fill()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_a_port_that_opens_during_the_pause_waits_with_the_others(self):
        self.fill()
        late = PausablePort()
        self.descriptors.watch(late)
        self.assertFalse(late.reading)

    def test_a_port_that_is_closed_is_not_read_again(self):
        self.fill()
        self.descriptors.forget(self.port)
        self.clock.advance(DESCRIPTOR_RETRY)
        self.assertFalse(self.port.reading)

    def test_one_turn_never_accepts_more_than_the_reserve(self):
        """Twisted accepts 20 more after each full batch."""
        for _ in range(5):
            self.descriptors.opened(NumberedTransport(5))
            self.assertTrue(self.port.numberAccepts + 20 <= self.descriptors.reserve)
            self.port.numberAccepts += 20

    def test_transports_and_ports_without_numbers_are_left_alone(self):
        class Strange:
            """Accepts in ways of its own."""

            stopReading = startReading = lambda _: None

        self.descriptors.watch(Strange())
        self.descriptors.opened(object())
        self.assertFalse(self.descriptors.paused)

    def test_the_reserve_grows_with_the_limit_within_reason(self):
        reserves = [
            DescriptorLimiter(self.clock, limit).reserve for limit in (48, 64, 512, 1_048_576)
        ]
        self.assertEqual(reserves, [24, 32, 128, 256])
