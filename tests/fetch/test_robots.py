"""robots.txt: its rules, their cache, and the URLs that wait for them."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.errors import RobotsDenied, RobotsUnavailable, error_text
from evserve.fetch.policy import Policy
from evserve.fetch.robots import RobotsCache, RobotsRules, _BodyBuffer, parse_robots
from evserve.fetch.testing import Page
from tests.fetch.memory_world import World, redirect


TEXT = b"""\
User-agent: *
Disallow: /private
Crawl-delay: 3

User-agent: goodbot
Disallow: /only-here
"""


class RulesTests(SynchronousTestCase):
    def test_the_group_of_the_user_agent_applies(self):
        rules = parse_robots(200, TEXT)
        self.assertFalse(rules.allows("http://a/private/x", "evserve"))
        self.assertTrue(rules.allows("http://a/public", "evserve"))
        self.assertTrue(rules.allows("http://a/private/x", "goodbot/2.0"))
        self.assertFalse(rules.allows("http://a/only-here", "goodbot/2.0"))

    def test_a_crawl_delay_is_bounded(self):
        self.assertEqual(parse_robots(200, TEXT).crawl_delay("evserve"), 3.0)
        self.assertEqual(parse_robots(200, TEXT).crawl_delay("goodbot"), 0.0)
        self.assertEqual(
            parse_robots(200, TEXT.replace(b"3", b"9999")).crawl_delay("evserve"), 60.0
        )

    def test_a_missing_file_allows_everything(self):
        for rules in (parse_robots(404, TEXT), parse_robots(403, TEXT), parse_robots(200, b"\n")):
            self.assertTrue(rules.allows("http://a/private", "evserve"))
            self.assertEqual(rules.crawl_delay("evserve"), 0.0)

    def test_a_server_error_has_no_rules(self):
        self.assertIsNone(parse_robots(503, TEXT))

    def test_an_error_allows_nothing(self):
        self.assertFalse(RobotsRules(error=OSError()).allows("http://a/", "evserve"))

    def test_it_may_begin_with_a_byte_order_mark_and_have_any_line_ends(self):
        text = "User-agent: *\r\nDisallow: /private\r\n"
        for line_end in ("\r\n", "\n", "\r", "\n\n", "\r\r\n"):
            lines = text.replace("\r\n", line_end)
            for body in (
                lines.encode(),
                lines.encode("utf-8-sig"),
                lines.encode("utf-16"),
                ("\ufeff" + lines).encode("utf-16-be"),
                lines.encode("utf-16-le"),
                lines.replace("Dis", "\0Dis").encode(),
            ):
                rules = parse_robots(200, body)
                self.assertFalse(rules.allows("http://a/private", "evserve"), body)
                self.assertTrue(rules.allows("http://a/x", "evserve"), body)

    def test_only_line_ends_end_a_line(self):
        rules = parse_robots(200, b"User-agent: *\nDisallow: /a\x0cDisallow: /\n")
        self.assertTrue(rules.allows("http://a/b", "evserve"))

    def test_a_rule_at_the_limit_is_whole_or_not_there(self):
        begin = b"User-agent: *\nDisallow: /private\n"
        filler = b"#" * (500 * 1024 - len(begin) - len(b"\nDisallow: /"))
        rules = parse_robots(200, begin + filler + b"\nDisallow: /other\n")
        self.assertTrue(rules.allows("http://a/x", "evserve"))
        self.assertFalse(rules.allows("http://a/private", "evserve"))
        self.assertIsNotNone(parse_robots(200, b"#" * 600 * 1024))

    def test_invalid_utf_8_is_replaced(self):
        self.assertTrue(parse_robots(200, bytes(range(256))).allows("http://a/", "evserve"))


class CacheTests(SynchronousTestCase):
    def test_rules_expire_after_a_day(self):
        cache, rules = RobotsCache(), RobotsRules()
        self.assertIsNone(cache.get("a", 0.0))
        cache.put("a", rules, 0.0)
        self.assertIs(cache.get("a", 86399.0), rules)
        self.assertIsNone(cache.get("a", 86400.0))

    def test_errors_expire_after_a_minute(self):
        cache = RobotsCache()
        cache.put("a", RobotsRules(error=OSError()), 0.0)
        self.assertIsNone(cache.get("a", 60.0))

    def test_the_least_recently_used_rules_are_dropped(self):
        cache = RobotsCache(size=2)
        for origin in "ab":
            cache.put(origin, RobotsRules(), 0.0)
        cache.get("a", 1.0)
        cache.put("c", RobotsRules(), 2.0)
        self.assertIsNone(cache.get("b", 3.0))
        self.assertIsNotNone(cache.get("a", 3.0))


class RobotsTests(SynchronousTestCase):
    ROBOTS = Page(b"User-agent: *\nDisallow: /private\n")

    def world(self, pages, **policy):
        return World(pages, Policy(**policy))

    def test_robots_txt_is_fetched_once_per_origin(self):
        urls = [f"http://a/{number}" for number in range(3)]
        world = self.world({"http://a/robots.txt": self.ROBOTS, **dict.fromkeys(urls, Page())})
        world.start(*urls)
        world.run(1)
        self.assertEqual(world.client.urls, ["http://a/robots.txt", *urls])

    def test_a_disallowed_url_is_not_fetched(self):
        world = self.world({"http://a/robots.txt": self.ROBOTS})
        result = world.fetch("http://a/private/x")
        self.assertIsInstance(result.error, RobotsDenied)
        self.assertEqual(world.client.urls, ["http://a/robots.txt"])

    def test_a_redirect_to_a_disallowed_url_is_not_followed(self):
        world = self.world(
            {
                "http://a/robots.txt": Page(status=404),
                "http://b/robots.txt": self.ROBOTS,
                "http://a/": redirect("http://b/private"),
            }
        )
        self.assertIsInstance(world.fetch("http://a/").error, RobotsDenied)
        self.assertNotIn("http://b/private", world.client.urls)

    def test_a_server_error_refuses_every_url(self):
        world = self.world({"http://a/robots.txt": Page(status=500), "http://a/": Page()})
        self.assertIsInstance(world.fetch("http://a/").error, RobotsUnavailable)
        self.assertNotIn("http://a/", world.client.urls)

    def test_a_connection_error_is_the_error_of_the_url(self):
        result = self.world({}).fetch("http://a/")
        self.assertEqual(error_text(result.error), "ConnectFailed: http://a refuses connections")
        self.assertEqual(result.tries, 3)

    def test_tries_for_its_robots_txt_count_after_a_redirect_too(self):
        world = self.world({"http://a/robots.txt": Page(), "http://a/": redirect("http://b/")})
        self.assertEqual(world.fetch("http://a/").tries, 3)

    def test_robots_txt_may_be_redirected(self):
        world = self.world(
            {
                "http://a/robots.txt": redirect("http://b/r.txt"),
                "http://b/r.txt": self.ROBOTS,
            }
        )
        self.assertIsInstance(world.fetch("http://a/private").error, RobotsDenied)

    def test_six_redirects_are_too_many(self):
        pages = {f"http://a/{number}": redirect(f"/{number + 1}") for number in range(9)}
        world = self.world({**pages, "http://a/robots.txt": redirect("/1")})
        self.assertIsInstance(world.fetch("http://a/x").error, RobotsUnavailable)

    def test_a_crawl_delay_is_obeyed(self):
        urls = [f"http://a/{number}" for number in range(3)]
        robots = Page(b"User-agent: *\nCrawl-delay: 2\n")
        world = self.world({"http://a/robots.txt": robots, **dict.fromkeys(urls, Page())})
        world.start(*urls)
        world.run(1)
        self.assertEqual(len(world.results), 1)
        world.run(3.2)
        self.assertEqual(len(world.results), 3)

    def test_a_long_robots_file_is_read_up_to_its_limit(self):
        robots = Page(b"User-agent: *\nDisallow: /private\n" + b"#" * 1_000_000)
        world = self.world({"http://a/robots.txt": robots})
        self.assertIsInstance(world.fetch("http://a/private").error, RobotsDenied)

    def test_no_more_of_a_long_robots_file_is_received_than_counts(self):
        world = self.world({"http://a/": Page(b"x")})
        robots = Page(b"User-agent: *\nDisallow: /private\n" + b"#" * 10_000_000, takes=0.1)
        world.pages["http://a/robots.txt"] = robots
        received = []
        self.patch(_BodyBuffer, "write", counting(_BodyBuffer.write, received))
        self.assertIsNone(world.fetch("http://a/").error)
        self.assertLess(sum(received), 700_000)

    def test_a_long_robots_file_counts_whatever_the_size_of_pages(self):
        world = self.world(
            {"http://a/": Page(b"x"), "http://a/robots.txt": self.ROBOTS}, max_size=5
        )
        self.assertIsNone(world.fetch("http://a/").error)
        self.assertIsInstance(world.fetch("http://a/private").error, RobotsDenied)

    def test_headers_of_the_page_are_sent_but_not_those_for_pages_only(self):
        world = self.world({"http://a/": Page(), "http://a/robots.txt": Page()})
        lines = [(b"X-A", b"1"), (b"range", b"bytes=1-"), (b"Accept", b"x"), (b"If-Match", b"x")]
        world.fetcher.fetch("http://a/", headers=lines)
        world.run(1)
        robots, page = world.client.requests
        self.assertEqual((robots.headers.lines, page.headers.lines), ([(b"X-A", b"1")], lines))

    def test_secrets_for_one_origin_do_not_reach_the_robots_txt_of_another(self):
        pages = {
            "http://a/": redirect("http://b/"),
            "http://b/": Page(),
            "http://a/robots.txt": Page(),
        }
        world = self.world({**pages, "http://b/robots.txt": Page()})
        lines = [(b"Cookie", b"1"), (b"Authorization", b"x"), (b"Host", b"c"), (b"X-A", b"1")]
        world.fetcher.fetch("http://a/", headers=lines)
        world.run(1)
        sent = {str(each.url): each.headers.lines for each in world.client.requests}
        self.assertEqual(sent["http://a/robots.txt"], lines)
        self.assertEqual(sent["http://b/robots.txt"], [(b"X-A", b"1")])

    def test_the_group_of_a_user_agent_header_applies(self):
        world = self.world({"http://a/robots.txt": Page(TEXT), "http://a/private": Page()})
        answer = world.fetcher.fetch("http://a/private", headers=[(b"User-Agent", b"goodbot/1")])
        world.run(5)
        self.assertIsNone(self.successResultOf(answer).error)


def counting(write, received):
    def count(buffer, data):
        received.append(len(data))
        write(buffer, data)

    return count
