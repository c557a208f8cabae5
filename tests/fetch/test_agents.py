"""The fetcher on an IAgent that is not evserve's."""

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent
from zope.interface import implementer

from evserve.fetch.errors import error_text
from evserve.fetch.fetcher import Fetcher
from evserve.fetch.policy import Policy, RetryPolicy
from evserve.http.errors import Cancelled, TotalTimeout


class Response:
    code, phrase, length = 200, b"OK", UNKNOWN_LENGTH

    def __init__(self, *chunks, end=None):
        self.headers = Headers({b"ETag": [b'"v"']})
        self.chunks = chunks
        self.end = end or ResponseDone()

    def deliverBody(self, protocol):
        self.protocol = protocol
        for chunk in self.chunks:
            protocol.dataReceived(chunk)
        protocol.connectionLost(Failure(self.end))


@implementer(IAgent)
class StubAgent:
    def __init__(self, answer):
        self.answer = answer
        self.requests = []

    def request(self, method, uri, headers=None, bodyProducer=None):
        self.requests.append((method, uri, headers))
        return self.answer


class AgentTests(SynchronousTestCase):
    def fetch(self, answer):
        self.clock = Clock()
        self.agent = StubAgent(answer)
        policy = Policy(obey_robots=False, user_agent="mybot", retry=RetryPolicy(0))
        self.fetcher = Fetcher(self.agent, self.clock, policy)
        return self.fetcher.fetch("http://a/x", headers=[(b"X-A", b"1")])

    def test_a_response_becomes_a_result(self):
        result = self.successResultOf(self.fetch(succeed(Response(b"he", b"llo"))))
        self.assertEqual((result.status_code, result.content_length), (200, 5))
        method, uri, headers = self.agent.requests[0]
        self.assertEqual((method, uri), (b"GET", b"http://a/x"))
        self.assertEqual(headers.getRawHeaders("user-agent"), ["mybot"])
        self.assertEqual(headers.getRawHeaders("x-a"), ["1"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failures_have_named_errors(self):
        table = [
            (fail(Refused()), "ConnectFailed: http://a refuses connections"),
            (fail(ResponseFailed([Failure(OSError("reset"))])), "ConnectionLost: reset"),
            (succeed(Response(b"he", end=OSError())), "TruncatedBody"),
        ]
        for answer, error in table:
            self.assertIn(error, error_text(self.successResultOf(self.fetch(answer)).error))

    def test_the_total_timeout_holds(self):
        result = self.fetch(Deferred())
        self.clock.advance(300)
        self.assertIsInstance(self.successResultOf(result).error, TotalTimeout)

    def test_closing_cancels_requests_in_flight(self):
        result = self.fetch(Deferred())
        self.fetcher.close()
        self.assertIsInstance(self.successResultOf(result).error, Cancelled)
