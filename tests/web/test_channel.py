"""Behaviour of `FastChannel`."""

from types import ModuleType
from unittest.mock import patch

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import AccumulatingProtocol, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import http
from twisted.web.http import HTTPChannel
from twisted.web.server import Request, Site

from evserve.web import fast
from evserve.web.channel import FastChannel
from evserve.web.request import FastRequest
from tests.web.sites import REFUSAL, Connection, Held, Page, answer, fast_site


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class ReadingTests(SynchronousTestCase):
    def test_a_request_is_answered_in_one_write(self):
        connection = Connection(fast_site())
        writes = []
        connection.transport.write = writes.append
        connection.send(GET)
        self.assertEqual(len(writes), 1)

    def test_a_request_may_arrive_byte_by_byte(self):
        connection = Connection(fast_site())
        connection.send(*[GET[n : n + 1] for n in range(len(GET))])
        self.assertEqual(connection.received, answer(b"got /"))

    def test_pipelined_requests_are_answered_in_order(self):
        connection = Connection(fast_site())
        connection.send(b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % n for n in range(3)))
        expected = answer(b"got /0") + answer(b"got /1") + answer(b"got /2")
        self.assertEqual(connection.received, expected)

    def test_any_number_of_pipelined_requests_takes_no_stack(self):
        connection = Connection(fast_site())
        connection.send(GET * 5000)
        self.assertEqual(connection.received.count(b"got /"), 5000)

    def test_requests_after_a_slow_one_wait_for_it(self):
        page = Held()
        connection = Connection(fast_site(page))
        connection.send(GET + GET[:5], GET[5:])
        self.assertEqual(len(page.requests), 1)
        page.requests[0].finish()
        self.assertEqual(len(page.requests), 2)

    def test_all_requests_of_one_piece_may_be_slow(self):
        page = Held()
        connection = Connection(fast_site(page))
        connection.send(GET * 2)
        for request in page.requests:
            request.finish()
        self.assertEqual(len(page.requests), 2)
        connection.send(GET)
        self.assertEqual(len(page.requests), 3)

    def test_what_arrives_while_a_piece_is_served_is_served(self):
        class Sending(Page):
            def render_GET(self, request):
                if request.uri == b"/":
                    connection.send(b"GET /more HTTP/1.1\r\n\r\n")
                return super().render_GET(request)

        connection = Connection(fast_site(Sending()))
        connection.send(GET)
        self.assertEqual(connection.received, answer(b"got /") + answer(b"got /more"))

    def test_more_than_a_bound_that_waits_pauses_reading(self):
        page = Held()
        connection = Connection(fast_site(page))
        connection.send(GET, b"x" * 16_384)
        self.assertEqual(connection.transport.producerState, "producing")
        connection.send(b"x")
        self.assertEqual(connection.transport.producerState, "paused")

    def test_reading_goes_on_when_what_waited_is_served(self):
        page = Held()
        connection = Connection(fast_site(page))
        large = b"GET / HTTP/1.1\r\nX: %b\r\n\r\n" % (b"x" * 16_000)
        connection.send(GET, large + large[:1000])
        self.assertEqual(connection.transport.producerState, "paused")
        page.requests[0].finish()
        self.assertEqual(len(page.requests), 2)
        page.requests[1].finish()
        self.assertEqual(connection.transport.producerState, "producing")
        connection.send(large[1000:])
        self.assertEqual(len(page.requests), 3)

    def test_pipelined_requests_wait_while_the_client_does_not_read(self):
        page = Held()
        connection = Connection(fast_site(page))
        connection.send(GET * 3)
        connection.channel.pauseProducing()
        page.requests[0].finish()
        self.assertEqual(len(page.requests), 1)
        connection.channel.resumeProducing()
        self.assertEqual(len(page.requests), 2)

    def test_the_bound_holds_after_the_client_has_read(self):
        page = Held()
        connection = Connection(fast_site(page))
        connection.send(GET)
        connection.channel.pauseProducing()
        page.requests[0].finish()
        connection.send(GET, b"x" * 17_000)
        self.assertEqual(connection.transport.producerState, "paused")
        connection.channel.resumeProducing()
        self.assertEqual(len(page.requests), 2)
        self.assertEqual(connection.transport.producerState, "paused")

    def test_a_request_in_pieces_waits_while_the_client_does_not_read(self):
        page = Held()
        connection = Connection(fast_site(page))
        connection.send(GET)
        connection.channel.pauseProducing()
        page.requests[0].finish()
        connection.send(*[GET[n : n + 1] for n in range(len(GET))])
        self.assertEqual(len(page.requests), 1)
        connection.channel.resumeProducing()
        self.assertEqual(len(page.requests), 2)

    def test_a_body_may_arrive_in_pieces_with_the_next_request(self):
        connection = Connection(fast_site())
        connection.send(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe", b"llo" + GET)
        self.assertEqual(connection.received, answer(b"took hello") + answer(b"got /"))

    def test_a_body_may_come_in_chunks(self):
        connection = Connection(fast_site())
        connection.send(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n2;a=b\r\nhe\r",
            b"\n3\r\nllo\r\n0\r\nA: b\r\n\r\n" + GET,
        )
        self.assertEqual(connection.received, answer(b"took hello") + answer(b"got /"))

    def test_one_empty_line_before_a_request_is_skipped(self):
        connection = Connection(fast_site())
        connection.send(b"\r\n" + GET)
        self.assertEqual(connection.received, answer(b"got /"))

    def test_nothing_is_served_after_a_request_that_closes(self):
        connection = Connection(fast_site())
        connection.send(b"GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n" + GET)
        self.assertEqual(connection.received, answer(b"got /", b"Connection: close"))
        self.assertTrue(connection.is_closed)

    def test_nothing_is_served_after_a_resource_has_closed_the_connection(self):
        for close in (
            lambda request: request.loseConnection(),
            lambda request: request.transport.loseConnection(),
        ):

            class Closing(Page):
                def render_GET(self, request, close=close):
                    close(request)
                    return super().render_GET(request)

            connection = Connection(fast_site(Closing()))
            connection.send(GET * 2)
            self.assertEqual(connection.received, answer(b"got /"))

            page = Held()  # which answers later
            connection = Connection(fast_site(page))
            connection.send(GET * 2, GET)
            close(page.requests[0])
            page.requests[0].finish()
            self.assertEqual(len(page.requests), 1)

    def test_reading_goes_on_when_the_connection_closes(self):
        page = Held()
        connection = Connection(fast_site(page))
        connection.send(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b"x" * 20_000)
        self.assertEqual(connection.transport.producerState, "paused")
        page.requests[0].finish()
        self.assertEqual(connection.transport.producerState, "producing")

    def test_unknown_methods_reach_the_resource(self):
        connection = Connection(fast_site())
        connection.send(b"BREW / HTTP/1.1\r\n\r\n")
        self.assertIn(b"treat a BREW request", connection.received)

    def test_an_expected_100_is_sent_before_the_body_comes(self):
        connection = Connection(fast_site())
        connection.send(
            b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n", b"x"
        )
        expected = b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"took x")
        self.assertEqual(connection.received, expected)


class RefusalTests(SynchronousTestCase):
    def assert_refused(self, *pieces):
        page = Held()
        connection = Connection(fast_site(page))
        connection.send(*pieces, GET)
        self.assertEqual((connection.received, page.requests), (REFUSAL, []), pieces)
        self.assertTrue(connection.is_closed)

    def test_what_two_servers_may_read_in_two_ways(self):
        for lines in (
            b"Content-Length: 1\r\nTransfer-Encoding: chunked",
            b"Content-Length: 1\r\nContent-Length: 1",
            b"Content-Length: 1, 1",
            b"Content-Length: +1",
            b"Content-Length:",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: identity",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding : chunked",
            b"Transfer-Encoding: \x0bchunked",
            b"Host: a\r\nHost: b",
            b"A: b\r\n c",
            b"A: b\nC: d",
            b"A: b\rC: d",
            b"A: \0",
            b"A",
            b": a",
        ):
            self.assert_refused(b"POST / HTTP/1.1\r\n" + lines + b"\r\n\r\n")

    def test_invalid_request_lines(self):
        for line in (
            b"GET",
            b"GET  / HTTP/1.1",
            b"GET /  HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b"GET / HTTP/1.2",
            b"GET / HTTP/2.0",
            b"GET / http/1.1",
            b"GET /a b HTTP/1.1",
            b"GET /\xff HTTP/1.1",
            b"GET a HTTP/1.1",
            b"G(T / HTTP/1.1",
        ):
            self.assert_refused(line + b"\r\n\r\n")

    def test_chunks_in_http_1_0(self):
        self.assert_refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n")

    def test_an_invalid_request_line_before_the_rest_of_the_head(self):
        self.assert_refused(b"GET /\r\n")

    def test_a_head_that_is_too_long(self):
        self.assert_refused(b"GET / HTTP/1.1\r\nA: " + b"x" * 16_384 + b"\r\n\r\n")
        self.assert_refused(b"GET / HTTP/1.1\r\nA: " + b"x" * 20_000)

    def test_smaller_limits_of_a_channel(self):
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n"):
            connection = Connection(fast_site())
            connection.channel.totalHeadersSize = 13
            connection.send(data)
            self.assertEqual(connection.received, REFUSAL)

    def test_more_than_500_lines(self):
        line = b"A: b\r\n"
        self.assert_refused(b"GET / HTTP/1.1\r\n" + line * 501 + b"\r\n")
        connection = Connection(fast_site())
        connection.send(b"GET / HTTP/1.1\r\n" + line * 500 + b"\r\n")
        self.assertEqual(connection.received, answer(b"got /"))

    def test_invalid_chunks(self):
        for chunks in (b"x\r\n", b"0x1\r\na\r\n", b"1\na\r\n", b"1 \r\na\r\n", b"1\r\nab"):
            self.assert_refused(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)

    def test_invalid_trailers(self):
        self.assert_refused(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA b: c\r\n\r\n"
        )

    def test_many_bytes_of_chunk_extensions(self):
        chunk = b"1;" + b"e" * 1000 + b"\r\na\r\n"
        self.assert_refused(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", *[chunk] * 200
        )


class TimeoutTests(SynchronousTestCase):
    def connection(self, page=None, timeout=60):
        transport = AbortableTransport()
        return Connection(fast_site(page, timeout=timeout), transport)

    def test_an_idle_connection_closes(self):
        connection = self.connection()
        connection.clock.advance(59)
        self.assertFalse(connection.is_closed)
        connection.clock.advance(1)
        self.assertTrue(connection.is_closed)

    def test_the_time_counts_from_the_last_answer(self):
        page = Held()
        connection = self.connection(page)
        connection.clock.advance(50)
        connection.send(GET)
        connection.clock.advance(500)
        self.assertFalse(connection.is_closed)
        page.requests[0].finish()
        connection.clock.advance(59)
        self.assertFalse(connection.is_closed)
        connection.clock.advance(1)
        self.assertTrue(connection.is_closed)

    def test_more_of_a_head_does_not_prolong_the_time(self):
        connection = self.connection()
        connection.clock.advance(30)
        connection.send(b"GET / HT")
        connection.clock.pump([20, 20])
        connection.send(b"TP/1.1\r\n")
        connection.clock.advance(20)
        self.assertTrue(connection.is_closed)

    def test_more_of_a_body_prolongs_the_time(self):
        connection = self.connection()
        connection.send(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        for _ in range(5):
            connection.clock.advance(59)
            connection.send(b"x")
        self.assertFalse(connection.is_closed)
        connection.clock.advance(60)
        self.assertTrue(connection.is_closed)

    def test_a_connection_that_does_not_close_is_aborted(self):
        connection = self.connection()
        connection.clock.advance(60)
        connection.clock.advance(14)
        self.assertFalse(connection.transport.is_aborted)
        connection.clock.advance(1)
        self.assertTrue(connection.transport.is_aborted)

    def test_none_is_no_timeout(self):
        connection = self.connection(timeout=None)
        connection.send(GET)
        self.assertEqual(connection.clock.getDelayedCalls(), [])

    def test_an_answer_that_closes_leaves_no_delayed_call(self):
        connection = self.connection()
        connection.send(b"GET / HTTP/1.0\r\n\r\n")
        self.assertEqual(connection.clock.getDelayedCalls(), [])

    def test_a_lost_connection_leaves_no_delayed_call(self):
        connection = self.connection()
        connection.send(GET)
        connection.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(connection.clock.getDelayedCalls(), [])


class AbortableTransport(StringTransport):
    is_aborted = False

    def abortConnection(self):
        self.is_aborted = True


class FactoryTests(SynchronousTestCase):
    def test_a_channel_needs_no_factory(self):
        page = Page()
        channel, transport = FastChannel(), StringTransport()
        channel.requestFactory, channel.site = FastRequest, Site(page, reactor=Clock())
        channel.makeConnection(transport)
        channel.dataReceived(GET)
        self.assertTrue(transport.value().endswith(b"got /"))

    def test_another_class_of_channels_is_refused(self):
        class OwnChannel(HTTPChannel):
            totalHeadersSize = 100

        class Own(Site):
            protocol = OwnChannel

        self.assertRaises(ValueError, fast, Own(Held()))
        Own.protocol = HTTPChannel
        self.assertIs(fast(Own(Held())).protocol, FastChannel)

    def test_a_subclass_of_the_channel_stays(self):
        class EmptyRequest(http.Request):
            def process(self):
                self.finish()

        class OwnChannel(FastChannel):  # as twisted.web.proxy.Proxy is one of HTTPChannel
            requestFactory = EmptyRequest

        factory = http.HTTPFactory(reactor=Clock())
        factory.protocol = OwnChannel
        connection = Connection(fast(factory))
        self.assertIsInstance(connection.channel, OwnChannel)
        connection.send(GET)
        self.assertIn(b"200 OK", connection.received)

    def test_a_factory_that_is_fast_stays_as_it_is(self):
        site = fast_site()
        protocol = site.protocol
        self.assertIs(fast(site).protocol, protocol)


class SwitchingTests(SynchronousTestCase):
    """The channel hands its connection over."""

    def test_http_2_goes_to_twisted(self):
        class FakeH2Connection(Protocol):
            def dataReceived(self, data):
                self.data = data

        module = ModuleType("twisted.web._http2")
        module.H2Connection = FakeH2Connection
        modules = patch.dict("sys.modules", {"twisted.web._http2": module})
        modules.start()
        self.addCleanup(modules.stop)
        transport = StringTransport()
        transport.negotiatedProtocol = b"h2"
        connection = Connection(fast_site(), transport)
        connection.send(b"PRI *")
        channel = connection.channel.wrappedProtocol
        self.assertEqual((channel.data, channel.transport), (b"PRI *", transport))
        self.assertIs(channel.requestFactory, Request)
        self.assertEqual((channel.timeOut, connection.clock.getDelayedCalls()), (60, []))
        self.assertIs(transport.producer, channel)

    def test_tls_without_http_2_is_http_1(self):
        transport = StringTransport()
        transport.negotiatedProtocol = None
        connection = Connection(fast_site(), transport)
        connection.send(GET)
        self.assertEqual(connection.received, answer(b"got /"))

    def test_a_websocket_gets_what_follows(self):
        page = Held()
        connection = Connection(fast_site(page))
        connection.send(GET)
        websocket = AccumulatingProtocol()
        page.requests[0].channel._protocolUpgradeForWebsockets(websocket)
        connection.send(b"frame")
        connection.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((websocket.data, websocket.closed), (b"frame", 1))
        self.assertEqual(connection.clock.getDelayedCalls(), [])
