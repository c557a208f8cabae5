"""A run feeds its fetcher no faster than it fetches; a summary adds up."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.memory import Page
from evserve.fetch.polite.seen import Seen
from evserve.fetch.result import Result
from evserve.fetch.run import Run
from evserve.fetch.sources.lines import ListSource
from evserve.fetch.summary import Summary, size
from tests.fetch.polite_world import World


class RunTests(SynchronousTestCase):
    keeps = True

    def run_urls(self, urls, **more):
        self.world = World({url: Page(takes=1.0) for url in urls})
        self.recorded = {}
        self.run_ = Run(
            self.world.fetcher,
            [ListSource(urls[:3]), ListSource(urls[3:])],
            self.record,
            **more,
        )
        self.done = Deferred.fromCoroutine(self.run_.fetch_all())

    def record(self, key, result, kept):
        self.recorded[key] = result
        if self.keeps:
            kept(True)

    def test_what_is_not_kept_yet_is_pending(self):
        self.keeps = False
        self.run_urls([f"http://a/{number}" for number in range(50)], window=10)
        self.world.run(60)
        self.assertEqual((len(self.recorded), self.run_.pending), (10, 10))

    def test_no_more_than_a_window_of_urls_are_pending(self):
        self.run_urls([f"http://a/{number}" for number in range(50)], window=10)
        for _ in range(60):
            self.assertLessEqual(self.run_.pending, 10)
            self.world.run(0.5)
        self.successResultOf(self.done)
        self.assertEqual(len(self.recorded), 50)
        self.assertTrue(self.run_.is_fed)

    def test_a_url_is_fetched_once_however_it_is_spelt(self):
        self.run_urls(["http://a/", "http://a", "HTTP://A:80/#x", "http://a/b", "no url"])
        self.world.run(5)
        self.assertEqual(self.world.engine.urls, ["http://a/", "http://a/b"])
        self.assertEqual(self.run_.skipped, 2)
        self.assertEqual(list(self.recorded), ["no url", "http://a/", "http://a/b"])

    def test_a_url_is_fetched_once_for_each_account(self):
        self.run_urls(["http://a/", "http://u:p@a/", "http://u:q@a/", "http://u:%70@a/"])
        self.world.run(5)
        self.assertEqual(self.world.engine.urls, ["http://a/"] * 3)
        self.assertEqual(list(self.recorded), ["http://a/", "http://u:p@a/", "http://u:q@a/"])

    def test_what_was_done_before_is_not_done_again(self):
        seen = Seen()
        seen.add("http://a/1")
        self.run_urls(["http://a/1", "http://a/2"], seen=seen)
        self.world.run(5)
        self.assertEqual(list(self.recorded), ["http://a/2"])


class SummaryTests(SynchronousTestCase):
    def test_it_adds_up_by_host(self):
        summary = Summary()
        summary.add(Result("http://a/1", 200, 1500, "http://b:81/1", 2.0))
        summary.add(Result("http://a/2", 200, 500, "http://a/2", 1.0))
        summary.add(Result("http://a/3", error="X: y"))
        first, heading, *hosts = summary.lines(1.5)
        self.assertEqual(
            first,
            "fetched 2 of 3 URLs, 2.0 kB, in 1.50 s; "
            "one after another: 3.00 s (2.0 times as long)",
        )
        self.assertEqual(heading.split(), ["host", "fetched", "failed", "received", "seconds"])
        rows = [line.split() for line in hosts]
        self.assertEqual(rows[0], ["a", "1", "1", "500", "B", "1.00"])
        self.assertEqual(rows[1], ["b:81", "1", "0", "1.5", "kB", "2.00"])

    def test_nothing_is_little_to_say(self):
        self.assertEqual(len(list(Summary().lines(0.0))), 1)
        self.assertEqual(len(list(Summary().lines(0.0, done_before=3))), 2)

    def test_many_hosts_are_counted_and_few_are_shown(self):
        summary = Summary()
        for number in range(3000):
            summary.add(Result(f"http://host{number}/", 200, 1))
        self.assertEqual(len(summary.hosts), 1001)
        self.assertEqual(summary.hosts["other hosts"].fetched, 2000)
        lines = list(summary.lines(1.0))
        self.assertEqual((len(lines), lines[-1]), (23, "and 981 more hosts"))

    def test_sizes_are_for_people(self):
        shown = [size(10**power) for power in (0, 3, 6, 9, 12)]
        self.assertEqual(shown, ["1 B", "1.0 kB", "1.0 MB", "1.0 GB", "1.0 TB"])
