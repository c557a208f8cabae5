"""The fetcher as a library: results, redirects, Deferreds, callbacks and limits."""

import gc
import tracemalloc
from hashlib import sha256

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers as WebHeaders

from evserve.fetch.errors import error_text
from evserve.fetch.fetcher import Fetcher
from evserve.fetch.job import Job
from evserve.fetch.policy import Policy
from evserve.fetch.testing import MemoryHTTPClient, Page
from evserve.http.errors import (
    BadRequest,
    BadResponse,
    BadURL,
    BodyTooLarge,
    Cancelled,
    CorruptBody,
    TooManyRedirects,
    TruncatedBody,
)
from evserve.http.headers import Headers
from tests.fetch.memory_world import World, redirect
from tests.http.memory_network import HOST, Network


@define(eq=False)
class RecordingSink:
    bodies: list = field(factory=list)

    def prepare(self, request, url):
        return request

    def open(self, job, head):
        self.bodies.append(b"")
        return self

    def write(self, data):
        self.bodies[-1] += data

    def close(self, error):
        pass


class ResultTests(SynchronousTestCase):
    def test_a_page_becomes_a_row(self):
        result = World({"http://a/": Page(b"hello", takes=0.5)}).fetch("http://a/")
        self.assertEqual((result.url, result.final_url), ("http://a/", "http://a/"))
        self.assertEqual((result.status_code, result.content_length), (200, 5))
        self.assertEqual(result.sha256, sha256(b"hello").hexdigest())
        self.assertEqual((result.body, result.text()), (b"hello", "hello"))
        self.assertEqual((result.tries, result.error), (1, None))
        self.assertAlmostEqual(result.elapsed, 0.5)
        self.assertTrue(result.is_final)

    def test_a_missing_page_has_a_body_and_an_error(self):
        result = World({"http://a/": Page(b"gone", status=404)}).fetch("http://a/")
        self.assertEqual(
            (result.status_code, error_text(result.error)), (404, "BadStatus: 404 Not Found")
        )
        self.assertEqual((result.sha256, result.body), (sha256(b"gone").hexdigest(), b"gone"))
        self.assertTrue(result.is_final)

    def test_a_redirect_is_followed(self):
        world = World({"http://a/": redirect("http://b/x"), "http://b/x": Page(b"there")})
        result = world.fetch("http://a/")
        self.assertEqual((result.url, result.final_url), ("http://a/", "http://b/x"))
        self.assertEqual((result.content_length, result.tries), (5, 1))

    def test_a_loop_of_redirects_ends(self):
        world = World({"http://a/": redirect("/")})
        result = world.fetch("http://a/")
        self.assertIsInstance(result.error, TooManyRedirects)
        self.assertEqual(len(world.client.requests), 21)
        self.assertIsNone(result.sha256)

    def test_an_invalid_url_fails_at_once(self):
        result = World().fetch("htp:/x", 0)
        self.assertIsInstance(result.error, BadURL)
        self.assertFalse(result.is_final)

    def test_a_truncated_body_has_no_checksum(self):
        page = Page(b"half", error=CorruptBody("bad gzip"))
        result = World({"http://a/": page}).fetch("http://a/")
        self.assertEqual(
            (error_text(result.error), result.sha256), ("CorruptBody: bad gzip", None)
        )
        self.assertEqual((result.tries, result.is_final, result.body), (1, False, b""))


class BodyTests(SynchronousTestCase):
    def fetch(self, page, max_body=10, sinks=()):
        policy = Policy(obey_robots=False, max_body=max_body)
        world = World({"http://a/": page}, policy, list(sinks))
        world.client.chunk = 4
        return world.fetch("http://a/")

    def test_the_headers_are_those_of_the_response(self):
        page = Page(b"x", headers=((b"Content-Type", b"text/plain"), (b"X", b"1"), (b"x", b"2")))
        headers = self.fetch(page).headers
        self.assertEqual(headers.get("content-type"), "text/plain")
        self.assertEqual(headers.get(b"Content-Type"), b"text/plain")
        self.assertEqual(headers.all(b"X"), [b"1", b"2"])
        self.assertIn("X", headers)

    def test_a_body_of_the_limit_is_kept_and_a_longer_one_fails(self):
        result = self.fetch(Page(bytes(10)))
        self.assertEqual((result.error, result.body), (None, bytes(10)))
        result = self.fetch(Page(bytes(11)))
        self.assertIsInstance(result.error, BodyTooLarge)
        self.assertEqual((result.status_code, result.body, result.sha256), (200, b"", None))
        self.assertIsNone(result.error.__traceback__)  # whose frames would keep pieces

    def test_no_limit_keeps_no_body(self):
        result = self.fetch(Page(bytes(1000)), max_body=None)
        self.assertEqual((result.error, result.body, result.content_length), (None, b"", 1000))

    def test_a_longer_body_that_a_sink_stores_is_not_kept(self):
        class Sink:
            def prepare(self, request, url):
                return request

            def open(self, job, head):
                return self

            def write(self, data):
                pass

            def close(self, error):
                pass

        result = self.fetch(Page(bytes(11)), sinks=[Sink()])
        self.assertEqual((result.error, result.body, result.content_length), (None, b"", 11))
        self.assertEqual(self.fetch(Page(b"hello"), sinks=[Sink()]).body, b"hello")

    def test_bodies_of_callbacks_are_freed_without_the_garbage_collector(self):
        urls = [f"http://a/{number}" for number in range(50)]
        too_long = dict.fromkeys(urls[::5], Page(bytes(400_000)))  # an error with a traceback
        pages = {**dict.fromkeys(urls, Page(bytes(200_000))), **too_long}
        world = World(pages, Policy(obey_robots=False, max_body=200_000))
        kept, sizes = [], []

        def show(result):
            sizes.append(len(result.body))
            kept.append(result.error)

        for url in urls:
            world.fetcher.add(url, show)
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        done = world.fetcher.run()
        world.run(60)
        self.successResultOf(done)
        self.assertEqual((len(sizes), sum(sizes)), (50, 40 * 200_000))
        self.assertLess(tracemalloc.get_traced_memory()[0], 1_000_000)


class RedirectTests(SynchronousTestCase):
    def world(self, max_size=None, **page):
        leads = (b"Location", b"/x")
        pages = {
            "http://a/": Page(status=302, headers=(leads,), **page),
            "http://a/x": Page(b"there"),
        }
        return World(pages, Policy(obey_robots=False, max_size=max_size))

    def test_the_body_of_a_redirect_may_be_cut_off(self):
        result = self.world(body=b"half", error=TruncatedBody("cut")).fetch("http://a/")
        self.assertEqual((result.error, result.sha256), (None, sha256(b"there").hexdigest()))
        self.assertEqual((result.final_url, result.tries), ("http://a/x", 1))

    def test_the_body_of_a_redirect_is_not_wanted(self):
        world = self.world(body=bytes(1_000_000))
        taken, received = [], Job.received

        def counting(job, data):
            taken.append(len(data))
            received(job, data)

        self.patch(Job, "received", counting)
        self.assertEqual(world.fetch("http://a/").final_url, "http://a/x")
        self.assertEqual(sum(taken), len("there"))

    def test_a_redirect_whose_body_a_sink_wants_may_be_cut_off_too(self):
        world = self.world(body=b"half", error=TruncatedBody("cut"))
        sink = RecordingSink()
        world.sinks.append(sink)
        result = world.fetch("http://a/")
        self.assertEqual((result.final_url, result.tries, result.error), ("http://a/x", 1, None))
        self.assertEqual(sink.bodies, [b"half", b"there"])

    def test_a_redirect_whose_body_a_sink_wants_may_be_too_long_or_invalid(self):
        for page in ({"body": b"too long"}, {"body": b"x", "error": BadResponse("invalid")}):
            world = self.world(max_size=5, **page)
            world.sinks.append(RecordingSink())
            result = world.fetch("http://a/")
            self.assertEqual(
                (result.final_url, result.tries, result.error), ("http://a/x", 1, None)
            )

    def test_a_redirect_that_never_ends_is_followed_at_once(self):
        network = Network()
        fetcher = Fetcher(network.client(), network.reactor, Policy(obey_robots=False))
        answer = fetcher.fetch(HOST)
        first = network.accept()
        first.answer(b"HTTP/1.1 301 Moved\r\nLocation: /b\r\n\r\nsome")
        network.reactor.advance(0)
        network.accept().ok(b"there")
        self.assertFalse(first.is_open)
        result = self.successResultOf(answer)
        self.assertEqual((result.final_url, result.content_length), (f"{HOST}/b", 5))

    def test_a_redirect_without_a_location_is_a_page(self):
        world = World({"http://a/": Page(bytes(200_000), status=302)})
        self.assertEqual(world.fetch("http://a/").content_length, 200_000)


class RefusedTests(SynchronousTestCase):
    def test_the_row_of_a_refused_response_has_its_status(self):
        for lines, error in (
            (b"Content-Length: 4\r\nContent-Encoding: foo", "UnsupportedEncoding"),
            (b"Content-Length: 5", "BodyTooLarge"),
            (b"Content-Length: x", "BadResponse"),
            (b"Transfer-Encoding: foo", "BadResponse"),
        ):
            network = Network()
            client = network.client(max_body=4)
            fetcher = Fetcher(client, network.reactor, Policy(obey_robots=False))
            answer = fetcher.fetch(HOST)
            network.accept().answer(b"HTTP/1.1 201 Made\r\n" + lines + b"\r\n\r\nhello")
            result = self.successResultOf(answer)
            self.assertEqual((result.status_code, result.sha256), (201, None))
            self.assertIn(error, repr(result.error))


class LibraryTests(SynchronousTestCase):
    def test_a_deferred_has_the_result(self):
        world = World({"http://a/": Page(b"hello")})
        answer = world.fetcher.fetch("http://a/", headers=[(b"X-A", b"1")])
        world.run(0)
        self.assertEqual(self.successResultOf(answer).content_length, 5)
        self.assertEqual(world.client.requests[0].headers.get(b"x-a"), b"1")

    def test_cancelling_the_deferred_cancels_the_request(self):
        world = World({"http://a/": Page(takes=9.0)})
        answer = world.fetcher.fetch("http://a/")
        world.run(1)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(world.client.in_flight, [])

    def test_cancelling_the_deferred_cancels_a_waiting_job(self):
        world = World({"http://a/": Page(takes=9.0)}, Policy(obey_robots=False, concurrency=1))
        world.start("http://a/")
        answer = world.fetcher.fetch("http://a/")
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        world.run(20)
        self.assertEqual(len(world.client.requests), 1)

    def test_callbacks_may_add_more_before_run_is_over(self):
        world = World({"http://a/": Page(b"1"), "http://a/more": Page(b"22")})
        sizes = []

        def callback(result):
            sizes.append(result.content_length)
            if len(sizes) == 1:
                world.fetcher.add("http://a/more", callback)

        world.fetcher.add("http://a/", callback)
        world.run(1)
        self.assertEqual(world.client.requests, [])  # nothing begins before run()
        done = world.fetcher.run()
        self.assertNoResult(done)
        world.run(1)
        self.successResultOf(done)
        self.assertEqual(sizes, [1, 2])

    def test_a_callback_that_raises_is_logged_and_the_others_are_called(self):
        world = World({"http://a/": Page(b"1"), "http://b/": Page(b"1")})
        called = []

        def callback(result):
            called.append(result.url)
            raise ValueError("no")

        for url in ("http://a/", "no url", "http://b/"):
            world.fetcher.add(url, callback)
        done = world.fetcher.run()
        world.run(1)
        self.successResultOf(done)
        self.assertEqual(called, ["no url", "http://a/", "http://b/"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 3)

    def test_run_waits_for_callbacks_that_wait(self):
        world = World({"http://a/": Page(b"1"), "http://a/more": Page(b"22", takes=1.0)})
        found = []

        async def callback(result):
            found.append(result.body)
            more = await world.fetcher.fetch("http://a/more")
            found.append(more.body)
            raise ValueError("no")

        world.fetcher.add("http://a/", callback)
        done = world.fetcher.run()
        world.run(0.5)
        self.assertNoResult(done)
        world.run(1)
        self.successResultOf(done)
        self.assertEqual(found, [b"1", b"22"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_url_may_be_bytes_and_headers_text(self):
        world = World({"http://a/": Page(b"1")})
        answer = world.fetcher.fetch(b"http://a/", "head", {"X-A": "1"})
        world.run(0)
        self.assertEqual(self.successResultOf(answer).url, "http://a/")
        (request,) = world.client.requests
        self.assertEqual((request.method, request.headers.get(b"x-a")), (b"HEAD", b"1"))

    def test_headers_may_be_given_as_to_treq(self):
        lines = [(b"X-A", b"1"), (b"X-A", b"2")]
        for headers in (
            lines,
            {"X-A": ["1", b"2"]},
            {b"X-A": (b"1", "2")},
            Headers(lines),
            WebHeaders({"X-A": ["1", "2"]}),
        ):
            world = World({"http://a/": Page()})
            world.fetcher.fetch("http://a/", headers=headers)
            self.assertEqual(world.client.requests[0].headers.lines, lines)

    def test_a_header_that_the_fetcher_sets_is_refused(self):
        world = World({"http://a/": Page()})
        for name in ("Content-Length", "transfer-encoding", "Connection", "Bad Name"):
            result = self.successResultOf(world.fetcher.fetch("http://a/", headers={name: "1"}))
            self.assertIsInstance(result.error, BadRequest)
        self.assertEqual(world.client.requests, [])

    def test_what_is_no_agent_is_refused(self):
        self.assertRaises(TypeError, Fetcher, object(), Clock())

    def test_what_is_no_url_at_all_is_refused_where_it_is_given(self):
        self.assertRaises(TypeError, World().fetcher.add, None, print)
        self.assertRaises(TypeError, World().fetcher.fetch, None)
        self.assertRaises(TypeError, World().fetcher.fetch, "http://a/", headers=[("X", [1])])

    def test_urls_that_callbacks_add_while_the_fetcher_closes_get_a_result(self):
        world = World({"http://a/": Page(takes=9.0)})
        results, later = [], []

        def callback(result):
            results.append((result.url, type(result.error)))
            if result.url == "http://a/":
                world.fetcher.add("http://b/", callback)
                later.append(world.fetcher.fetch("http://c/"))

        world.fetcher.add("http://a/", callback)
        done = world.fetcher.run()
        world.run(1)
        world.fetcher.close()
        self.successResultOf(done)
        self.assertEqual(results, [("http://a/", Cancelled), ("http://b/", Cancelled)])
        self.assertIsInstance(self.successResultOf(later[0]).error, Cancelled)

    def test_urls_that_were_added_but_not_run_get_a_result_when_it_closes(self):
        world, results = World(), []
        world.fetcher.add("http://a/", results.append)
        world.fetcher.close()
        world.fetcher.add("http://b/", results.append)
        self.assertEqual([type(each.error) for each in results], [Cancelled, Cancelled])

    def test_a_callback_that_adds_its_url_again_does_not_keep_it_from_closing(self):
        world, results = World({"http://a/": Page(takes=9.0)}), []

        def callback(result):
            results.append(result)
            world.fetcher.add(result.url, callback)

        world.fetcher.add("http://a/", callback)
        world.fetcher.run()
        world.run(1)
        world.fetcher.close()
        self.assertEqual(len(results), 2)

    def test_run_without_urls_fires_at_once(self):
        self.assertIsNone(self.successResultOf(World().fetcher.run()))

    def test_close_calls_every_callback_and_leaves_no_timer(self):
        world = World(
            {"http://a/": Page(takes=9.0)}, Policy(obey_robots=False, concurrency=1, delay=5.0)
        )
        answers = [world.fetcher.fetch(url) for url in ("http://a/", "http://a/2", "http://c/")]
        world.run(1)
        world.fetcher.close()
        for answer in answers:
            self.assertIsInstance(self.successResultOf(answer).error, Cancelled)
        self.assertTrue(world.client.is_closed)
        self.assertEqual([call for call in world.clock.getDelayedCalls() if call.active()][1:], [])

    def test_an_engine_that_raises_ends_a_job_once(self):
        receivers = []

        def fetch(request, receiver):
            receivers.append(receiver)
            raise ValueError("no")

        world = World()
        self.patch(MemoryHTTPClient, "fetch", lambda _, *asked: fetch(*asked))
        answer = world.fetcher.fetch("http://a/")
        self.assertEqual(error_text(self.successResultOf(answer).error), "ValueError: no")
        receivers[0].finished(Cancelled("closed"))
        self.assertEqual(world.fetcher._downloader.scheduler.active, 0)

    def test_close_ends_jobs_that_wait_for_a_retry(self):
        world = World()
        answer = world.fetcher.fetch("http://a/")
        world.run(0.5)
        world.fetcher.close()
        self.assertIsInstance(self.successResultOf(answer).error, Cancelled)
        world.run(10)
        self.assertEqual(len(world.client.requests), 1)


class LimitTests(SynchronousTestCase):
    def test_no_more_requests_at_once_than_allowed(self):
        pages = {f"http://{host}/{n}": Page(takes=1.0) for host in "abc" for n in range(9)}
        policy = Policy(obey_robots=False, concurrency=7, per_origin=3)
        world = World(pages, evolve(policy))
        world.start(*pages)
        self.assertEqual(len(world.client.in_flight), 7)
        for host in "abc":
            in_flight = [
                each for each in world.client.in_flight if f"{host}/" in str(each.request)
            ]
            self.assertLessEqual(len(in_flight), 3)
        world.run(10)
        self.assertEqual(len(world.results), 27)
