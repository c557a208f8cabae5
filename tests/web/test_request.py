"""Behaviour of `FastRequest`."""

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Request
from twisted.web.test.requesthelper import DummyChannel

from evserve.web.request import FastRequest
from tests.web.sites import Connection, Held, fast_site


class Failing(Resource):
    isLeaf = True

    def render(self, request):
        raise ZeroDivisionError


class Returning(Resource):
    isLeaf = True

    def __init__(self, value):
        super().__init__()
        self.value = value

    def render(self, request):
        return self.value


class OwnRequest(Request):
    def process(self):
        self.setHeader(b"X-Own", b"yes")
        super().process()


def exchange(resource, data, **options):
    connection = Connection(fast_site(resource, **options))
    connection.send(data)
    return connection.received


class RequestTests(SynchronousTestCase):
    def held(self, data=b"GET / HTTP/1.1\r\n\r\n"):
        page = Held()
        connection = Connection(fast_site(page))
        connection.send(data)
        return connection, page.requests[0]

    def test_what_arrived_is_there(self):
        _, request = self.held(
            b"GET /a%20b/c?d=e&d=f HTTP/1.1\r\nx-y: 1 \r\nX-Y: 2\r\nCookie: g=h; i\r\n\r\n"
        )
        self.assertEqual(request.method, b"GET")
        self.assertEqual(request.path, b"/a%20b/c")
        self.assertEqual(request.postpath, [b"a b", b"c"])
        self.assertEqual(request.args, {b"d": [b"e", b"f"]})
        self.assertEqual(request.requestHeaders.getRawHeaders("x-y"), ["1", "2"])
        self.assertEqual(request.getHeader(b"X-y"), b"2")
        self.assertEqual(request.getCookie(b"g"), b"h")
        self.assertEqual(request.getClientAddress().host, "192.0.2.1")

    def test_a_form_is_in_args(self):
        _, request = self.held(
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\na=b"
        )
        self.assertEqual(request.args, {b"a": [b"b"]})

    def test_an_answer_of_unknown_length_is_in_chunks(self):
        connection, request = self.held()
        request.write(b"hello")
        request.write(b"!")
        request.finish()
        head, _, body = connection.received.partition(b"\r\n\r\n")
        self.assertIn(b"Transfer-Encoding: chunked", head)
        self.assertEqual(body, b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")

    def test_an_empty_write_sends_the_head(self):
        connection, request = self.held()
        request.write(b"")
        self.assertTrue(connection.received.endswith(b"\r\n\r\n"))

    def test_line_breaks_cannot_leave_a_header_or_the_status(self):
        connection, request = self.held()
        request.setResponseCode(200, b"OK\r\nA: b")
        request.setHeader(b"X", b"y\r\nC: d")
        request.addCookie(b"e", b"f\r\nG: h")
        request.finish()
        lines = connection.received.split(b"\r\n")
        self.assertEqual(lines[0], b"HTTP/1.1 200 OK A: b")
        self.assertIn(b"X: y C: d", lines)
        self.assertIn(b"Set-Cookie: e=f G: h", lines)

    def test_head_has_no_body(self):
        received = exchange(Returning(b"hello"), b"HEAD / HTTP/1.1\r\n\r\n")
        self.assertIn(b"Content-Length: 5\r\n", received)
        self.assertTrue(received.endswith(b"\r\n\r\n"))

    def test_204_and_304_have_no_body(self):
        for code in (204, 304):
            connection, request = self.held()
            request.setResponseCode(code)
            request.write(b"hello")
            request.finish()
            self.assertTrue(connection.received.endswith(b"\r\n\r\n"))

    def test_an_error_in_a_resource_is_a_page(self):
        received = exchange(Failing(), b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(received.startswith(b"HTTP/1.1 500 Internal Server Error\r\n"))

    def test_a_body_that_is_not_bytes_is_an_error(self):
        received = exchange(Returning("text"), b"GET / HTTP/1.1\r\n\r\n")
        self.assertIn(b"Request did not return bytes", received)

    def test_options_of_the_whole_server(self):
        received = exchange(None, b"OPTIONS * HTTP/1.1\r\n\r\n")
        self.assertIn(b"Content-Length: 0\r\n", received)

    def test_a_lost_connection_is_told_to_the_request(self):
        connection, request = self.held()
        finished = request.notifyFinish()
        connection.channel.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(finished, ConnectionDone)
        self.assertRaises(RuntimeError, request.finish)

    def test_the_end_is_told(self):
        _, request = self.held()
        finished = request.notifyFinish()
        request.finish()
        self.assertIsNone(self.successResultOf(finished))

    def test_a_resource_may_drop_the_body(self):
        connection, request = self.held()
        request.content = None
        request.finish()
        connection.send(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(len(request.site.resource.requests), 2)

    def test_other_requests_stay(self):
        received = exchange(None, b"GET / HTTP/1.1\r\n\r\n", requestFactory=OwnRequest)
        self.assertIn(b"X-Own: yes\r\n", received)
        self.assertTrue(received.endswith(b"got /"))

    def test_a_repeated_header_line_is_sent_repeatedly(self):
        connection, request = self.held()
        request.responseHeaders.setRawHeaders(b"A", [b"1", b"2"])
        request.finish()
        self.assertIn(b"A: 1\r\nA: 2\r\n", connection.received)

    def test_distrib_sends_it_as_a_stock_request(self):
        _, request = self.held()
        copied = Request(request.channel)
        self.assertEqual(request.getTypeToCopyFor(None), copied.getTypeToCopyFor(None))
        self.assertEqual(request.getStateToCopyFor(None)["method"], b"GET")

    def test_a_write_that_fails_comes_after_the_head(self):
        class Writing(Resource):
            isLeaf = True

            def render(self, request):
                request.write("text")

        received = exchange(Writing(), b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertTrue(received.startswith(b"HTTP/1.1 200 OK\r\n"))

    def test_a_channel_of_http_2_writes_the_head(self):
        class Own(FastRequest):
            pass

        channel, heads = DummyChannel(), []
        channel.writeHeaders = lambda *words: heads.append(words[:2])
        request = Own(channel)
        request.clientproto = b"HTTP/2"
        request.write(b"body")
        self.assertEqual(heads, [(b"HTTP/2", b"200")])
        self.assertEqual(channel.transport.written.getvalue(), b"body")

    def test_a_site_may_find_resources_by_itself(self):
        site = fast_site(Failing())
        site.getResourceFor = lambda _request: Returning(b"found")
        connection = Connection(site)
        connection.send(b"GET / HTTP/1.1\r\n\r\n")
        self.assertTrue(connection.received.endswith(b"found"))

    def test_a_request_class_parses_its_cookies(self):
        class Own(Request):
            def parseCookies(self):
                self.received_cookies[b"own"] = b"yes"

        site = fast_site(page := Held(), requestFactory=Own)
        Connection(site).send(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(page.requests[0].getCookie(b"own"), b"yes")

    def test_what_is_empty_is_no_body(self):
        connection, request = self.held()
        request.write("")
        self.assertTrue(connection.received.endswith(b"\r\n\r\n"))
