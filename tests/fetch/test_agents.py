"""The fetcher on an IAgent that is not evserve's."""

import zlib

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectionAborted, ConnectionDone, DNSLookupError, NoRouteError
from twisted.internet.error import ConnectionLost as Lost
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as ConnectTimedOut
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import client
from twisted.web._newclient import BadHeaders, ParseError
from twisted.web.client import (
    PartialDownloadError,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.error import InfiniteRedirection
from twisted.web.http import PotentialDataLoss, _DataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent
from zope.interface import implementer

from evserve.fetch.fetcher import Fetcher
from evserve.fetch.policy import Policy, RetryPolicy
from evserve.http.agent import Agent
from evserve.http.errors import (
    BadResponse,
    BodyTooLarge,
    Cancelled,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    CorruptBody,
    DecompressionBomb,
    HeadersTooLarge,
    IdleTimeout,
    TLSFailed,
    TooManyRedirects,
    TotalTimeout,
    TruncatedBody,
)
from tests.http.memory_network import HOST, Network


class Response:
    code, phrase, length = 200, b"OK", UNKNOWN_LENGTH
    transport = None

    def __init__(self, *chunks, end=None):
        self.headers = Headers({b"ETag": [b'"v"']})
        self.chunks = chunks
        self.end = end or ResponseDone()

    def deliverBody(self, protocol):
        self.protocol = protocol
        self.transport = StringTransport()
        protocol.makeConnection(self.transport)
        for chunk in self.chunks:
            protocol.dataReceived(chunk)
        protocol.connectionLost(Failure(self.end))


class Pausing:
    """A sink that takes its time before the first byte."""

    def open(self, job, head):
        job.exchange.pause()


@implementer(IAgent)
class StubAgent:
    def __init__(self, answer):
        self.answer = answer
        self.requests = []

    def request(self, method, uri, headers=None, bodyProducer=None):
        self.requests.append((method, uri, headers))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class AgentTests(SynchronousTestCase):
    def fetch(self, answer, headers=((b"X-A", b"1"),)):
        self.clock = Clock()
        self.agent = StubAgent(answer)
        policy = Policy(obey_robots=False, user_agent="mybot", retry=RetryPolicy(0), max_body=5)
        self.fetcher = Fetcher(self.agent, self.clock, policy)
        return self.fetcher.fetch("http://a/x", headers=headers)

    def test_a_response_becomes_a_result(self):
        result = self.successResultOf(self.fetch(succeed(Response(b"he", b"llo"))))
        self.assertEqual((result.status_code, result.content_length), (200, 5))
        method, uri, headers = self.agent.requests[0]
        self.assertEqual((method, uri), (b"GET", b"http://a/x"))
        self.assertEqual(headers.getRawHeaders("user-agent"), ["mybot"])
        self.assertEqual(headers.getRawHeaders("x-a"), ["1"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def error_of(self, answer):
        return type(self.successResultOf(self.fetch(answer)).error)

    def test_failures_of_a_request_have_named_errors(self):
        table = [
            (Refused(), ConnectFailed),
            (DNSLookupError(), ConnectFailed),
            (NoRouteError(), ConnectFailed),
            (OSError(24, "too many files"), ConnectFailed),
            (ConnectTimedOut(), ConnectTimeout),
            (ResponseFailed([Failure(OSError("reset"))]), ConnectionLost),
            (ResponseNeverReceived([Failure(ConnectionDone())]), ConnectionLost),
            (ResponseNeverReceived([Failure(Lost())]), ConnectionLost),
            (ConnectionResetError(), ConnectionLost),
            (ConnectionAborted(), ConnectionLost),
            (RequestTransmissionFailed([Failure(ConnectionAborted())]), ConnectionLost),
            (ResponseNeverReceived([Failure(ConnectTimedOut())]), IdleTimeout),
            (ResponseFailed([Failure(Lost()), Failure(ParseError("bad", b""))]), BadResponse),
            (ResponseFailed([Failure(BadHeaders())]), BadResponse),
            (ResponseFailed([Failure(ValueError("length"))]), BadResponse),
            (ResponseNeverReceived([Failure(SSL.Error([("a", "b", "c")]))]), TLSFailed),
            (VerificationError(errors=["no"]), TLSFailed),
            (DeferredTimeout(3, "Deferred"), TotalTimeout),
            (TimeoutError(), TotalTimeout),
            (CancelledError(), Cancelled),
            (ResponseNeverReceived([Failure(CancelledError())]), Cancelled),
            (ResponseFailed([Failure(InfiniteRedirection(b"302"))]), TooManyRedirects),
            (TLSFailed("ours"), TLSFailed),
            (ResponseFailed([Failure(Lost()), Failure(HeadersTooLarge("x"))]), HeadersTooLarge),
            (ResponseFailed([Failure(ResponseFailed([Failure(Refused())]))]), ConnectFailed),
            (ResponseFailed([]), ResponseFailed),
            (KeyError("theirs"), KeyError),
        ]
        for error, name in table:
            self.assertEqual(self.error_of(fail(error)), name, error)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failures_of_a_body_have_named_errors(self):
        table = [
            (ResponseFailed([Failure(Lost()), Failure(_DataLoss())]), TruncatedBody),
            (Lost(), TruncatedBody),
            (OSError(), TruncatedBody),
            (ResponseFailed([Failure(zlib.error("bad"))]), CorruptBody),
            (PartialDownloadError(b"200", b"OK", b"he"), TruncatedBody),
            (DecompressionBomb("it grows"), DecompressionBomb),
            (IdleTimeout("silent"), IdleTimeout),
            (KeyError("theirs"), KeyError),
        ]
        for error, name in table:
            self.assertEqual(self.error_of(succeed(Response(b"he", end=error))), name, error)

    def test_the_end_of_the_connection_may_be_the_end_of_the_body(self):
        for end in (PotentialDataLoss(), ConnectionDone()):
            result = self.successResultOf(self.fetch(succeed(Response(b"hello", end=end))))
            self.assertEqual((result.error, result.body), (None, b"hello"))
            short = Response(b"hell", end=end)
            short.length = 5
            self.assertEqual(self.error_of(succeed(short)), TruncatedBody)

    def test_an_agent_that_raises_fails_the_url(self):
        error = self.error_of(ValueError("no"))
        self.assertEqual((error, self.clock.getDelayedCalls()), (ValueError, []))
        self.assertEqual(self.error_of(succeed(None)), AttributeError)

    def test_a_body_that_is_not_wanted_is_not_read_on(self):
        response = Response(b"hello", b"x")
        self.assertEqual(self.error_of(succeed(response)), BodyTooLarge)
        self.assertTrue(response.transport.disconnecting)
        response = Response()
        response.length = 6
        self.assertEqual(self.error_of(succeed(response)), BodyTooLarge)
        self.assertTrue(response.transport.disconnecting)

    def test_a_response_that_comes_after_the_end_is_closed(self):
        response = Response(b"hello")
        result = self.fetch(Deferred(lambda answer: answer.callback(response)))
        self.fetcher.close()
        self.assertTrue(response.transport.disconnecting)
        self.assertIsInstance(self.successResultOf(result).error, Cancelled)

    def test_a_body_that_is_paused_from_the_beginning_is_delivered_later(self):
        for cancels in (False, True):
            answer = Deferred()
            result = self.fetch(answer)
            (job,) = self.fetcher._downloader.jobs
            job.sinks = [Pausing()]
            response = Response(b"hello")
            answer.callback(response)
            self.assertNoResult(result)
            self.assertEqual((response.transport, job.count), (None, 0))
            if cancels:
                self.fetcher.close()
                self.assertTrue(response.transport.disconnecting)
            else:
                job.exchange.resume()
                self.assertEqual(self.successResultOf(result).body, b"hello")

    def test_a_header_replaces_the_user_agent(self):
        self.fetch(Deferred(), headers=[(b"user-agent", b"other")])
        self.assertEqual(self.agent.requests[0][2].getRawHeaders("user-agent"), ["other"])

    def test_the_total_timeout_holds(self):
        result = self.fetch(Deferred())
        self.clock.advance(300)
        self.assertIsInstance(self.successResultOf(result).error, TotalTimeout)

    def test_closing_cancels_requests_in_flight(self):
        result = self.fetch(Deferred())
        self.fetcher.close()
        self.assertIsInstance(self.successResultOf(result).error, Cancelled)


class AgentOnANetwork:
    """The same answers over an agent's own parser and connections."""

    def fetch(self, *pieces, end=None, seconds=0):
        network = Network()
        policy = Policy(obey_robots=False, retry=RetryPolicy(0))
        fetcher = Fetcher(self.agent(network), network.reactor, policy)
        result = fetcher.fetch(HOST)
        peer = network.accept()
        for piece in pieces:
            peer.answer(piece)
        if end is not None:
            peer.wire.end(end)
        network.advance(seconds)
        return self.successResultOf(result)

    def test_the_end_of_the_connection_is_that_of_a_body_without_length(self):
        result = self.fetch(b"HTTP/1.0 200 OK\r\nX-A: 1\r\n\r\n", b"hello", end=ConnectionDone())
        self.assertEqual((result.error, result.body), (None, b"hello"))
        self.assertEqual(result.headers.get("x-a"), "1")

    def test_a_body_that_is_cut_off_is_truncated(self):
        for head in (b"Content-Length: 9", b"Transfer-Encoding: chunked"):
            lines = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n"
            for end in (ConnectionDone(), Lost()):
                result = self.fetch(lines, b"3\r\nhel", end=end)
                self.assertIsInstance(result.error, TruncatedBody, (head, end))
                self.assertEqual((result.status_code, result.body), (200, b""))

    def test_no_response_is_a_lost_connection(self):
        for end in (ConnectionDone(), Lost()):
            self.assertIsInstance(self.fetch(end=end).error, ConnectionLost)

    def test_silence_is_a_timeout(self):
        self.assertIsInstance(self.fetch(seconds=301).error, self.silence)


class TwistedAgentTests(AgentOnANetwork, SynchronousTestCase):
    silence = TotalTimeout

    def agent(self, network):
        return client.Agent(network.reactor)


class OwnAgentTests(AgentOnANetwork, SynchronousTestCase):
    silence = IdleTimeout

    def agent(self, network):
        return Agent(network.client())

    def test_a_decompression_bomb_is_named(self):
        bomb = zlib.compress(bytes(50_000_000))
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: %d\r\n\r\n"
        result = self.fetch(head % len(bomb), bomb)
        self.assertIsInstance(result.error, DecompressionBomb)

    def test_a_compressed_body_is_decoded(self):
        data = zlib.compress(b"hello")
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: %d\r\n\r\n"
        self.assertEqual(self.fetch(head % len(data), data).body, b"hello")

    def test_what_is_not_http_is_a_bad_response(self):
        self.assertIsInstance(self.fetch(b"SSH-2.0-x\r\n\r\n").error, BadResponse)
