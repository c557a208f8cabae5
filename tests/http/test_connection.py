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


class Copies:
    """A Tap that keeps what it gets, a list of what happened for each time a request is sent."""

    def __init__(self):
        self.all = []

    def began(self, peer):
        self.all.append([peer, b"", b""])

    def sent(self, data):
        self.all[-1][1] += data

    def received(self, data):
        self.all[-1][2] += data

    def ended(self):
        self.all[-1].append("ended")


class TapTests(SynchronousTestCase):
    def setUp(self):
        self.network = Network()
        self.client = self.network.client()
        self.copies = Copies()

    def fetch(self, url=HOST, **options):
        return fetch(self.client, url, tap=self.copies, **options)

    def test_it_gets_what_is_sent_and_received(self):
        body = Body()
        call = self.fetch(method=b"POST", body=body)
        peer = self.network.accept()
        body.consumer.write(b"hello")
        body.done.callback(None)
        interim, head = (
            b"HTTP/1.1 103 \r\n\r\n",
            b"HTTP/1.1 200 \xe9\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        pieces = interim, head[:20], head[20:], b"2;x\r\nok\r\n0\r\n", b"\r\n"
        for piece in pieces:
            self.assertEqual(len(self.copies.all[0]), 3)
            peer.answer(piece)
        self.assertEqual(call.outcome, b"ok")
        expected = ["192.0.2.1", peer.requests, b"".join(pieces), "ended"]
        self.assertEqual(self.copies.all, [expected])
        fetch(self.client, HOST)
        peer.ok()
        self.assertEqual(self.copies.all, [expected])

    def test_it_is_told_when_the_request_is_sent_again(self):
        self.fetch()
        peer = self.network.accept()
        peer.ok()
        call = self.fetch("http://u:p@192.0.2.1/x")
        peer.close()  # it had expired
        peer = self.network.accept()
        peer.ok(b"", b'WWW-Authenticate: Digest realm="r", nonce="n"', status=b"401 No")
        peer.ok(b"", b"Location: /y", status=b"302 Found")
        peer.ok(b"there")
        self.assertEqual(call.outcome, b"there")
        self.assertEqual([len(each) for each in self.copies.all], [4, 3, 4, 4, 4])
        self.assertTrue(self.copies.all[3][1].startswith(b"GET /x "))
        self.assertTrue(self.copies.all[4][1].startswith(b"GET /y "))

    def test_what_it_raises_fails_the_call(self):
        def received(_):
            raise OSError(28, "No space left on device")

        self.copies.received = received
        call = self.fetch()
        peer = self.network.accept()
        peer.ok()
        self.assertEqual((call.outcome, peer.is_open), ("OSError", False))


class RaisingBody(Body):
    def startProducing(self, consumer):
        raise ValueError("no")
