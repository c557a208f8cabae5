"""Request bodies from producers are sent whole and framed, until the response comes."""

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from tests.http.memory_network import HOST, Network
from tests.http.recording_receiver import fetch


@implementer(IBodyProducer)
class Body:
    """A body that the test writes."""

    def __init__(self, length=UNKNOWN_LENGTH, starting=None):
        self.length = length
        self.done = starting or Deferred()
        self.stopped = 0

    def startProducing(self, consumer):
        self.consumer = consumer
        return self.done

    def stopProducing(self):
        self.stopped += 1

    def pauseProducing(self):
        pass

    def resumeProducing(self):
        pass


class UploadTests(SynchronousTestCase):
    def begin(self, *arguments):
        self.network = Network()
        self.body = Body(*arguments)
        self.client = self.network.client()
        self.call = fetch(self.client, HOST, method=b"POST", body=self.body)
        self.peer = self.network.accept()
        return self.peer.take()

    def test_a_known_length_is_declared(self):
        self.assertIn(b"Content-Length: 5\r\n", self.begin(5))
        self.body.consumer.write(b"he")
        self.body.consumer.write(b"")
        self.body.consumer.write(b"llo")
        self.body.done.callback(None)
        self.assertEqual(self.peer.take(), b"hello")
        self.peer.ok()
        self.assertEqual((self.call.outcome, self.body.stopped), (b"ok", 0))

    def test_an_unknown_length_is_sent_in_chunks(self):
        self.assertIn(b"Transfer-Encoding: chunked\r\n", self.begin())
        self.body.consumer.write(b"hello")
        self.body.done.callback(None)
        self.assertEqual(self.peer.take(), b"5\r\nhello\r\n0\r\n\r\n")
        self.peer.ok()
        self.assertEqual(self.call.outcome, b"ok")

    def test_an_empty_body_is_a_body(self):
        self.assertIn(b"Content-Length: 0\r\n", self.begin(0, succeed(None)))
        self.peer.ok()
        self.assertEqual(self.call.outcome, b"ok")

    def test_a_body_of_another_length_is_an_error(self):
        for length, said in ((3, b"hello"), (9, b"hello")):
            self.begin(length)
            self.body.consumer.write(said)
            self.body.done.callback(None)
            self.assertEqual(self.call.outcome, "RequestBodyFailed")
            self.assertFalse(self.peer.is_open)

    def test_a_body_that_fails_is_an_error(self):
        self.begin()
        self.body.done.errback(OSError("disk gone"))
        self.assertEqual(self.call.outcome, "RequestBodyFailed")
        self.assertIn("disk gone", str(self.call.error))
        self.begin(5, fail(OSError("never there")))
        self.assertEqual(self.call.outcome, "RequestBodyFailed")

    def test_a_producer_that_raises_is_an_error(self):
        network = Network()
        call = fetch(network.client(), HOST, method=b"POST", body=RaisingBody())
        network.accept()
        self.assertEqual(call.outcome, "RequestBodyFailed")

    def test_an_early_response_stops_the_body(self):
        self.begin()
        self.body.consumer.registerProducer(self.body, True)
        self.assertIs(self.peer.wire.producer, self.body)
        self.peer.ok(b"enough", status=b"413 Too Large")
        self.body.consumer.unregisterProducer()
        self.body.consumer.write(b"late")
        self.assertEqual((self.call.outcome, self.body.stopped), (b"enough", 1))
        self.assertEqual((self.peer.is_open, self.peer.take()), (False, b""))

    def test_a_lost_connection_stops_the_body(self):
        self.begin()
        self.peer.reset()
        self.assertEqual((self.call.outcome, self.body.stopped), ("ConnectionLost", 1))
        self.body.done.callback(None)

    def test_sending_counts_as_activity(self):
        self.begin()
        for _ in range(8):
            self.network.advance(5)
            self.body.consumer.write(b"x")
        self.assertFalse(self.call.is_over)
        self.network.advance(31)
        self.assertEqual((self.call.outcome, self.body.stopped), ("IdleTimeout", 1))


class RaisingBody(Body):
    def startProducing(self, consumer):
        raise ValueError("no")
