"""Echo over UDP: answers, and the datagrams that must get none."""

from prometheus_client import CollectorRegistry
from twisted.internet.error import CannotListenError, InvalidAddressError, MessageLengthError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from evserve.echo.datagrams import CAPACITY, DatagramMetrics, DatagramService, EchoDatagrams
from evserve.echo.protocol import Transform
from evserve.testing import MemoryHost


CLIENT = ("127.0.0.1", 40000)


class DatagramTransport:
    """A UDP port on 9000 that keeps what is sent."""

    def __init__(self):
        self.sent = []
        self.error = None

    def write(self, datagram, addr):
        if self.error is not None:
            raise self.error
        self.sent.append((datagram, addr))

    def getHost(self):
        return UDPHost("127.0.0.1", 9000)


class UDPHost:
    def __init__(self, host, port):
        self.host, self.port = host, port


class EchoDatagramsTests(SynchronousTestCase):
    def start(self, transform=Transform(), delay=0.0):  # noqa: B008 - a frozen value
        self.clock, self.registry = Clock(), CollectorRegistry()
        self.echo = EchoDatagrams(transform, delay, self.clock, DatagramMetrics(self.registry))
        self.transport = DatagramTransport()
        self.echo.makeConnection(self.transport)

    def dropped(self, reason):
        return self.registry.get_sample_value(
            "evserve_datagrams_dropped_total", {"reason": reason}
        )

    def test_a_datagram_goes_back_to_its_sender(self):
        self.start()
        self.echo.datagramReceived(b"hi", CLIENT)
        self.assertEqual(self.transport.sent, [(b"hi", CLIENT)])
        self.assertEqual(self.registry.get_sample_value("evserve_datagrams_total"), 1)

    def test_an_empty_datagram_is_answered_with_an_empty_one(self):
        self.start()
        self.echo.datagramReceived(b"", CLIENT)
        self.assertEqual(self.transport.sent, [(b"", CLIENT)])

    def test_a_datagram_is_transformed_as_a_whole(self):
        self.start(Transform(upper=True, suffix=b"!"))
        self.echo.datagramReceived(b"one", CLIENT)
        self.echo.datagramReceived(b"two\n", CLIENT)
        self.assertEqual(self.transport.sent, [(b"ONE!", CLIENT), (b"TWO!\n", CLIENT)])

    def test_a_delayed_datagram_goes_back_later(self):
        self.start(delay=2)
        self.echo.datagramReceived(b"hi", CLIENT)
        self.clock.advance(1.5)
        self.assertEqual(self.transport.sent, [])
        self.clock.advance(0.5)
        self.assertEqual(self.transport.sent, [(b"hi", CLIENT)])

    def test_delayed_datagrams_beyond_the_capacity_are_dropped(self):
        self.start(delay=2)
        self.echo.datagramReceived(bytes(CAPACITY), CLIENT)
        self.echo.datagramReceived(b"more", CLIENT)
        self.clock.advance(2)
        self.assertEqual(len(self.transport.sent), 1)
        self.assertEqual(self.dropped("full"), 1)

    def test_ports_where_echo_and_chargen_live_get_no_answer(self):
        self.start()
        for port in (0, 7, 19, 1023):
            self.echo.datagramReceived(b"loop", ("127.0.0.1", port))
        self.assertEqual(self.transport.sent, [])
        self.assertEqual(self.dropped("reserved_port"), 4)

    def test_our_own_port_number_gets_no_answer_wherever_it_is(self):
        self.start()
        for host in ("127.0.0.1", "192.0.2.1"):
            self.echo.datagramReceived(b"loop", (host, 9000))
        self.assertEqual(self.transport.sent, [])
        self.assertEqual(self.dropped("own_port"), 2)

    def test_an_answer_that_cannot_be_sent_is_counted_not_logged(self):
        self.start()
        for error in (PermissionError("broadcast"), MessageLengthError("too long")):
            self.transport.error = error
            self.echo.datagramReceived(b"hi", CLIENT)
        self.assertEqual(self.dropped("unsendable"), 2)

    def test_stopping_leaves_no_timer(self):
        self.start(delay=2)
        self.echo.datagramReceived(b"hi", CLIENT)
        self.echo.stopProtocol()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Port:
    def __init__(self, port):
        self.port = port
        self.is_listening = True

    def getHost(self):
        return UDPHost("0.0.0.0", self.port)

    def stopListening(self):
        self.is_listening = False


class DatagramReactor(MemoryReactorClock):
    """A reactor in memory that listens for datagrams, or fails to."""

    def __init__(self):
        super().__init__()
        self.ports = []
        self.error = None

    def listenUDP(self, port, protocol, interface="", maxPacketSize=8192):
        if self.error is not None:
            raise self.error
        self.ports.append(Port(port))
        return self.ports[-1]


class DatagramServiceTests(SynchronousTestCase):
    def setUp(self):
        self.host = MemoryHost(DatagramReactor())
        echo = EchoDatagrams(
            Transform(), 0.0, self.host.reactor, DatagramMetrics(self.host.metrics)
        )
        self.service = DatagramService(self.host, 9000, "::1", echo)

    def test_it_listens_once_whether_or_not_the_start_was_privileged(self):
        self.service.privilegedStartService()
        self.service.startService()
        self.assertEqual([port.port for port in self.host.reactor.ports], [9000])

    def test_it_stops_listening_and_can_start_again(self):
        self.service.startService()
        self.service.stopService()
        self.assertFalse(self.host.reactor.ports[0].is_listening)
        self.service.startService()
        self.assertTrue(self.host.reactor.ports[1].is_listening)

    def test_a_port_in_use_ends_the_process_with_one_line(self):
        in_use = OSError(98, "Address already in use")
        self.host.reactor.error = CannotListenError("::1", 9000, in_use)
        self.service.privilegedStartService()
        self.service.startService()
        line = "cannot listen on udp [::1]:9000: Address already in use"
        self.assertEqual(self.host.failures, [line])
        self.assertIsNone(self.service.stopService())

    def test_an_interface_that_is_no_address_is_one_line(self):
        self.host.reactor.error = InvalidAddressError("echo.test", "not an IPv4 or IPv6 address.")
        self.service.startService()
        line = "cannot listen on udp [::1]:9000: not an IPv4 or IPv6 address."
        self.assertEqual(self.host.failures, [line])
