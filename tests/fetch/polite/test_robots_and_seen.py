"""robots.txt, and which URLs were there before."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.polite.robots import RobotsCache, Rules, read_robots
from evserve.fetch.polite.seen import Seen


TEXT = b"""\
User-agent: *
Disallow: /private
Crawl-delay: 3

User-agent: goodbot
Disallow: /only-here
"""


class RulesTests(SynchronousTestCase):
    def test_the_group_of_ones_own_name_counts(self):
        rules = read_robots(200, TEXT)
        self.assertFalse(rules.allows("http://a/private/x", "evserve"))
        self.assertTrue(rules.allows("http://a/public", "evserve"))
        self.assertTrue(rules.allows("http://a/private/x", "goodbot/2.0"))
        self.assertFalse(rules.allows("http://a/only-here", "goodbot/2.0"))

    def test_a_crawl_delay_is_known_and_bounded(self):
        self.assertEqual(read_robots(200, TEXT).delay("evserve"), 3.0)
        self.assertEqual(read_robots(200, TEXT).delay("goodbot"), 0.0)
        self.assertEqual(read_robots(200, TEXT.replace(b"3", b"9999")).delay("evserve"), 60.0)

    def test_what_is_not_there_forbids_nothing(self):
        for rules in (read_robots(404, TEXT), read_robots(403, TEXT), read_robots(200, b"\n")):
            self.assertTrue(rules.allows("http://a/private", "evserve"))
            self.assertEqual(rules.delay("evserve"), 0.0)

    def test_a_server_in_trouble_says_nothing(self):
        self.assertIsNone(read_robots(503, TEXT))

    def test_trouble_forbids_everything(self):
        self.assertFalse(Rules(trouble=OSError()).allows("http://a/", "evserve"))

    def test_bytes_that_are_no_text_do_no_harm(self):
        self.assertTrue(read_robots(200, bytes(range(256))).allows("http://a/", "evserve"))


class CacheTests(SynchronousTestCase):
    def test_rules_are_believed_for_a_day(self):
        cache, rules = RobotsCache(), Rules()
        self.assertIsNone(cache.get("a", 0.0))
        cache.put("a", rules, 0.0)
        self.assertIs(cache.get("a", 86399.0), rules)
        self.assertIsNone(cache.get("a", 86400.0))

    def test_trouble_is_believed_for_a_minute(self):
        cache = RobotsCache()
        cache.put("a", Rules(trouble=OSError()), 0.0)
        self.assertIsNone(cache.get("a", 60.0))

    def test_the_rules_used_longest_ago_make_room(self):
        cache = RobotsCache(size=2)
        for origin in "ab":
            cache.put(origin, Rules(), 0.0)
        cache.get("a", 1.0)
        cache.put("c", Rules(), 2.0)
        self.assertIsNone(cache.get("b", 3.0))
        self.assertIsNotNone(cache.get("a", 3.0))


class SeenTests(SynchronousTestCase):
    @given(st.lists(st.text(max_size=3)))
    def test_it_is_a_set(self, texts):
        seen, reference = Seen(), set()
        for text in texts:
            self.assertEqual(text in seen, text in reference)
            self.assertEqual(seen.add(text), text not in reference)
            reference.add(text)
        self.assertEqual(len(seen), len(reference))

    def test_it_grows(self):
        seen = Seen()
        self.assertTrue(all(seen.add(f"http://a/{number}") for number in range(50_000)))
        self.assertFalse(any(seen.add(f"http://a/{number}") for number in range(50_000)))
        self.assertEqual(len(seen), 50_000)
