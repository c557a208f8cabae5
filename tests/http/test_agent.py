"""The client behaves as an IAgent."""

import gc

from twisted.internet.defer import CancelledError
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IClientRequest, IResponse
from zope.interface.verify import verifyObject

from evserve.http.agent import Agent
from evserve.http.errors import BadURL, Cancelled, ConnectionLost, CorruptBody, TruncatedBody
from tests.http.memory_network import HOST, Network


URI = HOST.encode()


class Reader(Protocol):
    def __init__(self, pausing=False):
        self.body = b""
        self.reason = None
        self.pausing = pausing

    def dataReceived(self, data):
        self.body += data
        if self.pausing:
            self.transport.pauseProducing()

    def connectionLost(self, reason):
        self.reason = reason


class Case(SynchronousTestCase):
    def setUp(self):
        self.network = Network()

    def ask(self, method=b"GET", uri=URI, headers=None, body=None, follow=False):
        self.client = self.network.client()
        result = Agent(self.client, follow).request(method, uri, headers, body)
        return result, self.network.accept()

    def read(self, response, pausing=False):
        reader = Reader(pausing)
        response.deliverBody(reader)
        return reader


class ResponseTests(Case):
    def test_agent_and_response_provide_their_interfaces(self):
        self.assertTrue(verifyObject(IAgent, Agent(self.network.client())))
        result, peer = self.ask(b"PUT", b"http://192.0.2.1/a b", Headers({"X-One": ["1", "2"]}))
        self.assertIn(b"X-One: 1\r\nX-One: 2\r\n", peer.take())
        peer.ok(b"hello", b"X-Two: 3", status=b"404 Not there")
        response = self.successResultOf(result)
        self.assertTrue(verifyObject(IResponse, response))
        self.assertTrue(verifyObject(IClientRequest, response.request))
        self.assertEqual((response.code, response.phrase), (404, b"Not there"))
        self.assertEqual((response.version, response.length), ((b"HTTP", 1, 1), 5))
        self.assertEqual(response.headers.getRawHeaders("x-two"), ["3"])
        self.assertEqual(response.request.absoluteURI, b"http://192.0.2.1/a%20b")
        self.assertEqual(response.request.headers.getRawHeaders("x-one"), ["1", "2"])

    def test_decoded_bodies_no_longer_say_that_they_were_coded(self):
        import gzip

        result, peer = self.ask()
        peer.ok(gzip.compress(b"hello"), b"Content-Encoding: gzip")
        response = self.successResultOf(result)
        self.assertEqual(self.read(response).body, b"hello")
        self.assertIs(response.length, UNKNOWN_LENGTH)
        self.assertFalse(response.headers.hasHeader("content-encoding"))

    def test_errors_keep_their_classes(self):
        client = self.network.client()
        self.failureResultOf(Agent(client).request(b"GET", b"nowhere"), BadURL)
        result, peer = self.ask()
        peer.close()
        self.failureResultOf(result, ConnectionLost)

    def test_a_request_can_be_cancelled(self):
        result, peer = self.ask()
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertFalse(peer.is_open)

    def test_redirects_are_the_callers_or_followed_with_their_history(self):
        result, peer = self.ask()
        peer.ok(b"", b"Location: /b", status=b"302 Found")
        self.assertEqual(self.successResultOf(result).code, 302)
        result, peer = self.ask(follow=True)
        peer.ok(b"", b"Location: /b", status=b"302 Found")
        peer.ok(b"", b"Location: /c", status=b"301 Moved")
        peer.ok()
        response = self.successResultOf(result)
        codes = []
        while response is not None:
            codes.append((response.code, response.request.absoluteURI[-2:]))
            last, response = response, response.previousResponse
        self.assertEqual(codes, [(200, b"/c"), (301, b"/b"), (302, b"1/")])
        self.assertTrue(self.read(last).reason.check(ResponseDone))


class BodyTests(Case):
    def test_a_body_may_be_delivered_late(self):
        for late in (False, True):
            result, peer = self.ask()
            peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
            response = self.successResultOf(result)
            if late:
                peer.answer(b"cd")
            reader = self.read(response)
            if not late:
                peer.answer(b"cd")
            self.assertEqual(reader.body, b"abcd")
            self.assertTrue(reader.reason.check(ResponseDone))

    def test_the_reader_learns_how_a_body_ends(self):
        for wire, reason in (
            (b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ResponseDone),
            (b"\r\nx", PotentialDataLoss),
            (b"Transfer-Encoding: identity\r\n\r\nx", PotentialDataLoss),
            (b"Content-Length: 9\r\n\r\nx", TruncatedBody),
            (b"Content-Length: 9\r\nContent-Encoding: gzip\r\n\r\nnot gzip!", CorruptBody),
        ):
            result, peer = self.ask()
            peer.answer(b"HTTP/1.1 200 OK\r\n" + wire)
            peer.close()
            reader = self.read(self.successResultOf(result))
            self.assertTrue(reader.reason.check(reason), (wire, reader.reason))

    def test_a_long_body_waits_for_its_reader(self):
        result, peer = self.ask()
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n")
        peer.answer(bytes(50_000))
        self.assertEqual(peer.wire.producerState, "producing")
        peer.answer(bytes(50_000))
        self.assertEqual(peer.wire.producerState, "paused")
        response = self.successResultOf(result)
        reader = self.read(response)
        self.assertEqual((len(reader.body), peer.wire.producerState), (100_000, "producing"))
        peer.answer(bytes(100_000))
        self.assertTrue(reader.reason.check(ResponseDone))
        del response

    def test_a_reader_may_pause(self):
        result, peer = self.ask()
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na")
        peer.answer(b"b")
        reader = self.read(self.successResultOf(result), pausing=True)
        self.assertEqual((reader.body, peer.wire.producerState), (b"a", "paused"))
        reader.transport.resumeProducing()
        self.assertEqual(reader.body, b"ab")
        peer.answer(b"cd")
        self.assertIsNone(reader.reason)
        reader.transport.resumeProducing()
        reader.transport.resumeProducing()
        self.assertEqual(reader.body, b"abcd")
        self.assertTrue(reader.reason.check(ResponseDone))

    def test_a_reader_may_close_the_body(self):
        result, peer = self.ask()
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na")
        reader = self.read(self.successResultOf(result))
        reader.transport.loseConnection()
        self.assertTrue(reader.reason.check(Cancelled))
        self.assertFalse(peer.is_open)

    def test_a_redirects_body_without_a_reader_keeps_no_connection(self):
        result, peer = self.ask()
        peer.answer(b"HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\n" + bytes(60_000))
        self.assertTrue(peer.is_open)
        peer.answer(bytes(60_000))
        self.assertFalse(peer.is_open)
        reader = self.read(self.successResultOf(result))
        self.assertTrue(reader.reason.check(Cancelled))

    def test_a_discarded_response_frees_its_connection(self):
        for when in ("before", "after"):
            result, peer = self.ask()
            peer.answer(b"HTTP/1.1 200 OK\r\n\r\nx")
            if when == "after":
                peer.answer(bytes(100_000))
            result.addCallback(lambda _: None)
            gc.collect()
            if when == "before":
                peer.answer(bytes(100_000))
            self.assertFalse(peer.is_open, when)
