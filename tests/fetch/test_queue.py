"""Events are fetched, and acknowledged when their results are kept."""

import json
from io import BytesIO

from twisted.internet.defer import fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.events import Depth, QueueError, QueueUnavailable, consumer
from evserve.fetch.errors import ProxyDown
from evserve.fetch.output.recorder import Recorder, Terminal
from evserve.fetch.output.rows import DirectWriter, RowFile
from evserve.fetch.queue import BadEventBody, ConsumerService, parse_body
from evserve.fetch.testing import Page
from evserve.http.headers import Headers
from evserve.http.url import parse_url
from evserve.testing import MemoryHost, MemoryQueue
from tests.fetch.memory_world import World
from tests.fetch.slow_disk import SlowDisk


class Full:
    def write(self, data):
        raise OSError(28, "No space left on device")


class InUseQueue(MemoryQueue):
    def open(self):
        raise QueueUnavailable("a.db is in use")


class ConsumerServiceTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.host = MemoryHost(reactor=self.clock)
        self.slow = SlowDisk(clock=self.clock)
        self.queue = MemoryQueue(self.clock)
        self.world = World(
            {"http://a/": Page(b"hello"), "http://a/slow": Page(takes=100.0)}, clock=self.clock
        )

    def start(self, out=None, concurrency=2, results=None, headers=()):
        self.out = BytesIO()
        terminal = Terminal(DirectWriter(self.out))
        rows = RowFile(DirectWriter(out or BytesIO()))
        recorder = Recorder(
            self.clock, terminal, terminal.print_lines, rows=rows, disk=self.slow.disk
        )
        self.service = ConsumerService(
            *(self.host, self.queue, self.world.fetcher, recorder, concurrency, results),
            Headers(headers),
        )
        self.service.startService()

    def put(self, body, **how):
        self.successResultOf(self.queue.put("fetch.url", body, **how))
        self.world.run(0)

    def depth(self):
        return self.successResultOf(self.queue.depth("fetch.url"))

    def stop(self):
        stopped = self.service.stopService()
        while self.slow.is_syncing:
            self.slow.sync()
        self.successResultOf(stopped)

    def test_headers_of_the_run_are_sent_unless_an_event_has_its_own(self):
        self.start(headers=((b"X-A", b"1"), (b"X-B", b"2")))
        self.put(json.dumps({"url": "http://a/", "headers": {"x-a": "3"}}).encode())
        (request,) = self.world.client.requests
        self.assertEqual(request.headers.lines, [(b"X-B", b"2"), (b"x-a", b"3")])
        self.stop()

    def test_a_queue_that_cannot_be_opened_ends_the_service(self):
        self.queue = InUseQueue(self.clock)
        self.start()
        self.assertEqual(self.host.failures, ["a.db is in use"])
        self.put(b"http://a/")
        self.assertEqual(self.depth(), Depth(ready=1))
        self.stop()

    def test_an_event_is_held_until_its_result_is_synced(self):
        self.start(results="results")
        self.put(b"http://a/")
        self.world.run(1)
        self.assertTrue(self.slow.is_syncing)
        self.assertEqual(self.depth(), Depth(reserved=1))
        self.assertEqual(self.successResultOf(self.queue.depth("results")), Depth())
        self.slow.sync()
        self.assertEqual(self.depth(), Depth())
        event = self.successResultOf(self.queue.reserve(["results"]))
        self.assertEqual(json.loads(event.body)["content_length"], 5)
        self.stop()
        self.assertEqual(self.host.failures, [])

    def test_a_sync_that_fails_gives_the_event_back_and_ends_the_service(self):
        self.start()
        self.put(b"http://a/")
        self.world.run(1)
        self.slow.sync(OSError(5, "Input/output error"))
        self.assertEqual(self.host.failures, ["cannot write results: Input/output error"])
        self.assertEqual(self.depth(), Depth(reserved=1))  # until the connection closes

    def test_a_full_disk_ends_the_service(self):
        self.start(out=Full())
        self.put(b"http://a/")
        self.world.run(1)
        self.assertEqual(self.host.failures, ["standard output: No space left on device"])

    def test_an_outage_of_the_queue_is_logged_once(self):
        said = []
        self.patch(consumer._log, "warn", lambda _, reason: said.append(reason))
        gone = self.patch(MemoryQueue, "reserve", lambda *_: fail(QueueError("gone")))
        self.start(concurrency=20)
        self.world.run(5)
        self.assertEqual(said, ["gone"])
        gone.restore()
        self.put(b"http://a/")
        self.world.run(2)
        self.slow.sync()
        self.assertEqual(self.depth(), Depth())
        self.stop()

    def test_an_invalid_request_is_buried_with_the_reason(self):
        self.start()
        self.put(b"no url")
        self.assertEqual(self.depth(), Depth(buried=1))

    def test_an_event_whose_proxy_is_down_goes_back_and_comes_again(self):
        answers = [Page(error=ProxyDown("down")), Page(b"hello")]
        self.world.pages["http://b/"] = lambda _: answers.pop(0)
        self.start(concurrency=1)
        self.put(b"http://b/")
        self.world.run(1)
        self.assertEqual(self.depth(), Depth(delayed=1))
        self.assertFalse(self.slow.is_syncing)
        self.world.run(61)
        self.slow.sync()
        self.assertEqual(self.depth(), Depth())
        self.assertIn(b"5 bytes received", self.out.getvalue())

    def test_an_event_may_set_its_own_time_out(self):
        self.start()
        self.put(b'{"url": "http://a/slow", "timeout": 3}')
        self.world.run(0.5)
        self.assertEqual(self.world.client.requests[0].timeouts.total, 3)

    def test_a_long_fetch_keeps_its_event(self):
        self.start()
        self.put(b"http://a/slow", ttr=10)
        self.world.run(60)
        self.assertEqual(self.depth(), Depth(reserved=1))
        self.assertEqual(len(self.world.client.requests), 1)

    def test_a_slow_disk_keeps_its_event_too(self):
        self.start()
        self.put(b"http://a/", ttr=10)
        self.world.run(60)
        self.assertEqual(self.depth(), Depth(reserved=1))
        self.slow.sync()
        self.assertEqual(self.depth(), Depth())
        self.assertEqual(len(self.world.client.requests), 1)

    def test_a_queue_that_is_down_is_retried(self):
        self.start()
        self.queue.go_away()
        self.world.run(3)
        self.queue.come_back()
        self.put(b"http://a/")
        self.world.run(3)
        self.slow.sync()
        self.assertEqual(self.depth(), Depth())

    def test_an_event_that_was_lost_meanwhile_does_not_fail_the_service(self):
        self.start(concurrency=1)
        self.put(b"http://a/slow", ttr=10)
        self.queue.go_away()
        self.queue.come_back()
        self.world.run(6)  # the touch is refused
        self.assertEqual(self.depth(), Depth(ready=1))
        self.world.run(110)
        self.slow.sync()
        self.assertEqual(self.host.failures, [])

    def test_an_event_that_is_being_fetched_goes_back(self):
        self.start()
        self.put(b"http://a/slow")
        self.world.run(1)
        self.stop()
        self.assertEqual(self.out.getvalue(), b"")

    def test_an_event_that_is_fetched_when_the_service_stops_is_still_acknowledged(self):
        done = []

        def ack(_, event, **kept):
            done.append(event.body)
            return succeed(None)

        self.patch(MemoryQueue, "ack", ack)
        self.start()
        self.put(b"http://a/")
        self.put(b"http://a/slow")
        self.world.run(1)
        self.stop()
        self.assertEqual(done, [b"http://a/"])


class EventBodyTests(SynchronousTestCase):
    def test_a_body_is_a_url_or_an_object(self):
        self.assertEqual(parse_body(b" http://a/ \n").url, "http://a/")
        self.assertEqual(parse_body(b"\xef\xbb\xbfhttp://a/").url, "http://a/")
        self.assertEqual(parse_body('{"url": "http://a/"}'.encode("utf-16")).url, "http://a/")
        given = {"url": "http://a/", "method": "HEAD", "headers": {"X": "1"}, "timeout": 3}
        body = parse_body(json.dumps(given).encode())
        self.assertEqual((body.method, body.timeout), (b"HEAD", 3.0))
        self.assertEqual(list(body.headers), [(b"X", b"1")])

    def test_bytes_that_are_not_utf_8_are_kept(self):
        self.assertEqual(parse_url(parse_body(b"http://a/caf\xe9").url).target, "/caf%E9")
        body = parse_body(b'{"url": "http://a/\xe9", "headers": {"X": "\xe9"}}')
        self.assertEqual(parse_url(body.url).target, "/%E9")
        self.assertEqual(list(body.headers), [(b"X", b"\xe9")])

    def test_an_invalid_body_is_an_error_with_its_reason(self):
        table = [
            (b"", "empty"),
            (b"ftp://a/", "unsupported scheme ftp"),
            (b"{", "not JSON"),
            (b"{}", 'no "url"'),
            (b'{"url": 1}', 'no "url"'),
            (b'{"url": "http://a/", "uri": 1}', "unknown key 'uri'"),
            (b'{"url": "http://a/", "method": "POST"}', "method 'POST'"),
            (b'{"url": "http://a/", "method": []}', "method []"),
            (b'{"url": "http://a/", "headers": []}', "headers"),
            (b'{"url": "http://a/", "headers": {"X": 1}}', "headers"),
            (b'{"url": "http://a/", "headers": {"X": "a\\nb"}}', "cannot be sent"),
            (b'{"url": "http://a/", "timeout": 0}', "timeout"),
            (b'{"url": "http://a/", "timeout": true}', "timeout"),
            (b'{"url": "http://a/", "timeout": "1"}', "timeout"),
            (b'{"url": "http://a/", "timeout": Infinity}', "timeout"),
            (b'{"url": "http://a/", "timeout": 1' + b"0" * 400 + b"}", "timeout"),
            (b'{"url": "http://a/", "headers": {"\\ud800": "1"}}', "cannot be sent"),
            (b'{"url": "http://a/", "headers": {"X": "\\ud800"}}', "cannot be sent"),
            (b'{"url": "http://u:\\ud800@a/"}', "lone surrogate"),
            (b'{"url":' + b"[" * 60_000, "too deep"),
        ]
        for body, reason in table:
            error = self.assertRaises(BadEventBody, parse_body, body)
            self.assertIn(reason, str(error), body)
