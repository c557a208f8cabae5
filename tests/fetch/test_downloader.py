"""Retries, pauses, and origins and proxies that are down."""

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.errors import OriginDown, error_text
from evserve.fetch.policy import Policy
from evserve.fetch.testing import Page
from evserve.http.errors import ConnectFailed, ProxyUnreachable, TotalTimeout, TruncatedBody
from evserve.http.proxy import Proxies, parse_proxy
from evserve.http.settings import Timeouts
from tests.fetch.memory_world import World, redirect


class RetryTests(SynchronousTestCase):
    def test_transient_errors_are_retried(self):
        answers = [Page(error=ConnectFailed("no")), Page(b"ha", error=TruncatedBody("cut"))]
        world = World({"http://a/": lambda _: answers.pop(0) if answers else Page(b"hello")})
        result = world.fetch("http://a/")
        self.assertEqual((result.tries, result.error, result.content_length), (3, None, 5))

    def test_retries_back_off(self):
        world = World()
        world.start("http://a/")
        self.assertEqual(len(world.client.requests), 1)
        world.run(1.0)
        self.assertEqual(len(world.client.requests), 2)
        world.run(1.875)
        self.assertEqual(len(world.client.requests), 2)
        world.run(0.125)
        self.assertEqual(len(world.client.requests), 3)
        self.assertEqual(
            error_text(world.results[0].error), "ConnectFailed: http://a refuses connections"
        )
        self.assertEqual(world.results[0].tries, 3)

    def test_a_post_is_not_retried(self):
        world = World()
        answer = world.fetcher.fetch("http://a/", b"POST")
        world.run(10)
        self.assertEqual(self.successResultOf(answer).tries, 1)

    def test_retry_after_pauses_the_whole_origin(self):
        answers = [Page(status=503, headers=((b"Retry-After", b"5"),))]
        world = World(
            {
                "http://a/1": lambda _: answers.pop() if answers else Page(b"1"),
                "http://a/2": Page(b"2"),
                "http://b/": Page(b"3"),
            }
        )
        world.start("http://a/1")
        world.start("http://a/2", "http://b/")
        world.run(4.75)
        self.assertEqual([each.url for each in world.results], ["http://b/"])
        world.run(0.5)
        self.assertEqual({each.error for each in world.results}, {None})
        self.assertEqual(len(world.results), 3)

    def test_retries_end_with_the_time_for_the_url(self):
        world = World({"http://a/": Page(status=503, headers=((b"Retry-After", b"250"),))})
        result = world.fetch("http://a/", 260)
        self.assertEqual((result.tries, result.status_code), (2, 503))
        self.assertEqual(error_text(result.error), "BadStatus: 503 Service Unavailable")

    def test_a_retry_has_only_the_time_that_is_left(self):
        world = World()
        world.fetch("http://a/", 4)
        totals = [request.timeouts and request.timeouts.total for request in world.client.requests]
        self.assertIsNone(totals[0])
        self.assertAlmostEqual(totals[1], 299.0)
        self.assertAlmostEqual(totals[2], 297.0)

    def test_a_url_without_time_left_is_not_sent_again(self):
        world = World(
            {"http://a/": redirect("http://b/")}, Policy(obey_robots=False, per_origin=1)
        )
        world.pages["http://b/busy"] = Page(takes=50.0)
        world.start("http://b/busy")
        answer = world.fetcher.fetch("http://a/", timeouts=Timeouts(total=10.0))
        world.run(60)
        self.assertIsInstance(self.successResultOf(answer).error, TotalTimeout)


class BreakerTests(SynchronousTestCase):
    def test_an_origin_that_is_down_gets_no_requests(self):
        world = World({"http://b/": Page()})
        world.start(*(f"http://a/{number}" for number in range(500)), "http://b/")
        world.run(30)
        self.assertEqual(len(world.results), 501)
        self.assertLess(len(world.client.requests), 60)
        down = [each for each in world.results if isinstance(each.error, OriginDown)]
        self.assertGreater(len(down), 450)
        before = len(world.client.requests)
        self.assertIsInstance(world.fetch("http://a/late", 0).error, OriginDown)
        self.assertEqual(len(world.client.requests), before)

    def world_behind_a_proxy(self):
        world = World()
        proxy = parse_proxy("http://proxy:3128")
        world.client.proxies = Proxies(proxy, proxy, exempt=("direct",))
        return world

    def test_a_proxy_that_is_down_gets_no_requests(self):
        dead = Page(error=ProxyUnreachable("the proxy does not answer"), takes=15.0)
        urls = [f"http://h{number}/" for number in range(1000)]
        world = self.world_behind_a_proxy()
        world.pages.update({**dict.fromkeys(urls, dead), "http://direct/": Page()})
        world.start(*urls, "http://direct/")
        world.run(60)
        self.assertEqual(len(world.results), 1001)
        self.assertLess(len(world.client.requests), 500)
        errors = Counter(type(each.error).__name__ for each in world.results)
        self.assertGreaterEqual(errors["ProxyDown"], 700)
        self.assertEqual((errors["NoneType"], errors["OriginDown"]), (1, 0))
        late = world.fetch("http://late/", 0)
        self.assertEqual(
            error_text(late.error), "ProxyDown: the proxy does not answer, again and again"
        )

    def test_no_url_is_lost_when_a_proxy_recovers(self):
        dead = Page(error=ProxyUnreachable("the proxy does not answer"))
        urls = [f"http://h{number % 20}/{number}" for number in range(200)]
        world = self.world_behind_a_proxy()
        world.pages.update(dict.fromkeys(urls, dead))
        world.start(*urls)
        world.run(0.5)
        self.assertLess(len(world.client.requests), 110)
        world.pages.update({url: Page(b"back") for url in urls})
        world.run(20)
        self.assertEqual([each.error for each in world.results], [None] * 200)

    def test_no_url_is_lost_when_requests_fail_as_a_proxy_is_paused(self):
        """Failures come in the moment in which a rest is over, before what is held goes on."""
        urls = [f"http://h{number}/" for number in range(300)]
        takes = iter([*[0.0] * 5, *[1.0] * 95])
        world = self.world_behind_a_proxy()

        def answer(request):
            error = ProxyUnreachable("the proxy does not answer")
            return Page(error=error, takes=next(takes, 0.0))

        world.pages.update(dict.fromkeys(urls, answer))
        world.start(*urls)
        world.run(60)
        self.assertEqual(len(world.results), 300)

    def test_no_url_is_lost_when_an_origin_recovers(self):
        world = World()
        urls = [f"http://a/{number}" for number in range(100)]
        world.start(*urls)
        world.run(0.5)
        world.pages.update({url: Page(b"back") for url in urls})
        world.run(20)
        self.assertEqual({each.error for each in world.results}, {None})
        self.assertEqual(len(world.results), 100)
