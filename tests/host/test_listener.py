"""The service that listens."""

import errno

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.connections import ConnectionLimiter, DescriptorLimiter
from evserve.host.listener import ListenerService, format_address
from evserve.host.options import Limits
from evserve.testing import MemoryHost


class Port:
    """A listening port in memory."""

    reading, stopped = True, False

    def __init__(self, address=None):
        self.address = address or IPv4Address("TCP", "127.0.0.1", 9000)

    def getHost(self):
        return self.address

    def startReading(self):
        self.reading = True

    def stopReading(self):
        self.reading = False

    def stopListening(self):
        self.stopped = True


class Endpoint:
    def __init__(self, result):
        self.result = result
        self.asked = 0

    def listen(self, factory):
        self.asked += 1
        return self.result


class Case(SynchronousTestCase):
    def setUp(self):
        self.host = MemoryHost()
        self.logged = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def service(self, **results):
        clock = self.host.reactor
        descriptors = DescriptorLimiter(clock, 1024)
        self.limiter = ConnectionLimiter(
            "echo", Factory.forProtocol(Protocol), Limits(None, None, 4), clock, descriptors
        )
        self.endpoints = {f"{kind}:x": Endpoint(result) for kind, result in results.items()}
        return ListenerService(self.host, dict(self.endpoints), self.limiter)

    def addresses(self):
        return [event["address"] for event in self.logged if "address" in event]


class StartTests(Case):
    def test_it_listens_with_privileges_and_announces_it_when_all_have(self):
        service = self.service(tcp=succeed(Port()), unix=succeed(Port(UNIXAddress(b"/run/x"))))
        service.privilegedStartService()
        self.assertEqual([each.asked for each in self.endpoints.values()], [1, 1])
        self.assertEqual(self.addresses(), [])
        service.startService()
        self.assertEqual(self.addresses(), ["tcp 127.0.0.1:9000", "unix /run/x"])
        self.assertEqual([each.asked for each in self.endpoints.values()], [1, 1])

    def test_without_the_privileged_start_it_listens_all_the_same(self):
        service = self.service(tcp=succeed(Port()))
        service.startService()
        self.assertEqual(self.addresses(), ["tcp 127.0.0.1:9000"])

    def test_an_endpoint_that_takes_its_time_is_announced_when_it_is_ready(self):
        listening = Deferred()
        self.service(tcp=listening).startService()
        self.assertEqual(self.addresses(), [])
        listening.callback(Port())
        self.assertEqual(self.addresses(), ["tcp 127.0.0.1:9000"])

    def test_the_descriptor_limiter_watches_its_ports(self):
        port = Port()
        self.service(tcp=succeed(port)).startService()
        self.assertEqual(self.limiter.descriptors.ports, {port})

    def test_what_an_endpoint_returns_need_not_be_a_port(self):
        service = self.service(strange=succeed(object()))
        service.startService()
        self.assertEqual((self.addresses(), self.host.failures), ([], []))
        self.successResultOf(service.stopService())


class FailureTests(Case):
    def failure(self, error):
        self.service(unix=fail(error)).startService()
        (reason,) = self.host.failures
        return reason

    def test_a_port_in_use_stops_the_process(self):
        in_use = OSError(errno.EADDRINUSE, "Address already in use")
        reason = self.failure(CannotListenError("::1", 9000, in_use))
        self.assertEqual(reason, "cannot listen on [::1]:9000: Address already in use")

    def test_any_other_mistake_names_the_endpoint(self):
        reason = self.failure(FileNotFoundError(errno.ENOENT, "No such file", "7", None, "x.lock"))
        self.assertEqual(reason, "cannot listen on unix:x: No such file: x.lock")

    def test_a_defect_is_logged_with_its_traceback(self):
        self.assertEqual(self.failure(KeyError("x")), "cannot listen on unix:x: KeyError: 'x'")
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_an_endpoint_that_raises_fails_like_one_that_returns_a_failure(self):
        service = self.service(tcp=None)
        self.endpoints["tcp:x"].listen = {}.__getitem__
        service.startService()
        self.assertEqual(len(self.host.failures), 1)
        self.flushLoggedErrors(KeyError)


class StopTests(Case):
    def test_ports_close_first_and_connections_finish_after(self):
        port = Port()
        service = self.service(tcp=succeed(port))
        service.startService()
        connection = self.limiter.buildProtocol(port.address)
        connection.makeConnection(StringTransport())
        stopped = service.stopService()
        self.assertTrue(port.stopped and connection.transport.disconnecting)
        self.assertEqual(self.limiter.descriptors.ports, set())
        self.assertNoResult(stopped)
        self.host.reactor.advance(1)
        connection.connectionLost()
        self.successResultOf(stopped)
        self.assertEqual(self.host.reactor.getDelayedCalls(), [])

    def test_silent_connections_are_still_closed_while_it_waits(self):
        port = Port()
        service = self.service(tcp=succeed(port))
        service.startService()
        connection = self.limiter.buildProtocol(port.address)
        connection.makeConnection(StringTransport())
        service.stopService()
        self.host.reactor.pump([1.0] * 5)
        self.assertTrue(connection.transport.disconnected)


class FormatAddressTests(SynchronousTestCase):
    def test_addresses_are_shown_as_users_write_them(self):
        for kind, address, text in (
            ("tcp", IPv4Address("TCP", "127.0.0.1", 1), "tcp 127.0.0.1:1"),
            ("ssl", IPv6Address("TCP", "::1", 2), "ssl [::1]:2"),
            ("unix", UNIXAddress(b"/run/x"), "unix /run/x"),
            ("odd", object(), "odd "),
        ):
            self.assertEqual(format_address(kind, address), text)
