"""Which connections have work in flight."""

import contextlib
import socket
from types import SimpleNamespace
from unittest import SkipTest

from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from evserve.host.drain import ANSWER_TIME, PATIENCE, QUIET, Traffic, in_flight, lowest_transport
from evserve.web import fast
from tests.host.timed_transport import Handle, TimedTransport


class TrafficTests(SynchronousTestCase):
    def test_layers_around_the_connection_are_removed(self):
        layer = type("Layer", (), {})()
        layer.transport = TimedTransport(Handle(2.5, 1.5, sends=0, unsent=7))
        self.assertIs(lowest_transport(layer), layer.transport)
        traffic = Traffic(2.5, 1.5, has_sent=False, has_received=True, has_unsent=True)
        self.assertEqual(Traffic.of(layer), traffic)

    def test_the_kernel_tells_whether_the_peer_leaves_data_unread(self):
        class Transport:
            def getHandle(self):
                return client

        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            self.addCleanup(client.close)
            traffic = Traffic.of(Transport())
            if traffic is None:
                raise SkipTest("the kernel does not tell")
            self.assertFalse(traffic.has_unsent)
            client.setblocking(False)
            while not Traffic.of(Transport()).has_unsent:
                with contextlib.suppress(BlockingIOError):
                    client.send(bytes(1_000_000))

    def test_other_transports_have_no_answer(self):
        for transport in (StringTransport(), TimedTransport(Handle(1, size=8)), object()):
            self.assertIsNone(Traffic.of(transport))

    def test_an_error_of_the_kernel_is_no_answer(self):
        left, right = socket.socketpair()
        self.addCleanup(left.close)
        self.addCleanup(right.close)
        self.assertIsNone(Traffic.of(TimedTransport(left)))


def flies(sent, received, *, sends=1, receives=1, protocol=None, producer=None):
    transport = TimedTransport(Handle(sent, received, sends, receives))
    if producer is not None:
        transport.registerProducer(object(), producer == "push")
    return in_flight(protocol or Protocol(), transport)


class AnswerTests(SynchronousTestCase):
    def test_a_request_waits_for_its_answer(self):
        self.assertTrue(flies(60, ANSWER_TIME - 1))
        self.assertTrue(flies(5, 2, sends=0))

    def test_so_does_one_that_came_with_the_connection(self):
        self.assertTrue(flies(2, 2, sends=0))

    def test_what_was_not_answered_for_long_gets_no_answer(self):
        self.assertFalse(flies(60, ANSWER_TIME))

    def test_after_the_answer_the_connection_is_idle(self):
        self.assertFalse(flies(2, 5))
        self.assertFalse(flies(2, 2))

    def test_a_client_that_has_sent_nothing_is_idle(self):
        self.assertFalse(flies(5, 2, receives=0))

    def test_a_protocol_that_never_answers_is_waited_for_while_data_arrives(self):
        age = PATIENCE + 1
        self.assertTrue(flies(age, QUIET / 2, sends=0))
        self.assertFalse(flies(age, QUIET, sends=0))

    def test_where_the_kernel_does_not_tell_it_is_idle(self):
        self.assertFalse(in_flight(Protocol(), StringTransport()))


class TransferTests(SynchronousTestCase):
    def test_a_pull_producer_is_in_flight_until_it_is_unregistered(self):
        self.assertTrue(flies(60, 60, producer="pull"))

    def test_a_push_producer_is_in_flight_while_data_moves(self):
        self.assertTrue(flies(QUIET / 2, 60, producer="push"))
        self.assertFalse(flies(QUIET, 60, producer="push"))

    def test_a_paused_push_producer_waits_for_a_slow_client(self):
        transport = TimedTransport(Handle(60, 60))
        transport.registerProducer(object(), True)
        transport.producerPaused = True
        self.assertTrue(in_flight(Protocol(), transport))

    def test_an_ftp_session_is_in_flight_during_a_transfer(self):
        session = Protocol()
        session.dtpInstance = None
        self.assertFalse(flies(1, 2, protocol=session))
        session.dtpInstance = SimpleNamespace(isConnected=True)
        self.assertTrue(flies(1, 2, protocol=session))
        session.dtpInstance.isConnected = False
        self.assertFalse(flies(1, 2, protocol=session))


class Never(Resource):
    isLeaf = True

    def render_GET(self, request):
        self.request = request
        return NOT_DONE_YET


class HTTPTests(SynchronousTestCase):
    def setUp(self):
        self.resource = Never()
        self.protocol = self.site().buildProtocol(None)
        self.transport = StringTransport()
        self.protocol.makeConnection(self.transport)
        self.addCleanup(self.protocol.connectionLost, None)

    def site(self):
        return Site(self.resource)

    def flies(self):
        return in_flight(self.protocol, self.transport)

    def test_between_requests_it_is_idle(self):
        self.assertFalse(self.flies())

    def test_a_request_whose_head_arrives_meanwhile_is_served(self):
        self.protocol.dataReceived(b"GET / HTTP/1.1\r\nHo")
        self.flies()
        self.protocol.dataReceived(b"st: x\r\n\r\n")
        self.assertTrue(self.flies())
        self.resource.request.finish()
        self.assertTrue(self.transport.disconnecting)

    def test_until_the_response_is_complete_it_is_in_flight(self):
        self.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(self.flies())
        self.resource.request.finish()
        self.assertFalse(self.flies())

    def test_a_request_of_which_only_a_part_has_arrived_is_in_flight(self):
        self.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost:")
        self.assertTrue(self.flies())

    def test_after_a_request_in_flight_the_connection_is_closed(self):
        self.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.flies()
        self.resource.request.finish()
        self.assertTrue(self.transport.disconnecting)

    def test_wrappers_around_the_channel_are_removed(self):
        channel = HTTPChannel()
        channel.requests = [object()]
        wrapper = ProtocolWrapper(WrappingFactory(None), channel)
        self.assertTrue(in_flight(wrapper, StringTransport()))


class FastHTTPTests(HTTPTests):
    """The same of evserve's own channel."""

    def site(self):
        return fast(super().site())
