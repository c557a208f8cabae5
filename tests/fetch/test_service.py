"""Options, the crawl, and the service that `makeService` makes, on a network in memory."""

import errno
import json
import os
import sys
from pathlib import Path
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch import service
from evserve.fetch.output.recorder import Terminal
from evserve.fetch.queue import ConsumerService
from evserve.fetch.scheduler import DuplicateFilter
from evserve.fetch.service import Crawl, Options, makeService
from evserve.fetch.sources import ListSource
from evserve.fetch.testing import Page
from evserve.testing import MemoryHost
from tests.fetch.memory_world import World
from tests.http.memory_network import HOST, Network


def broken_pipe(terminal, lines, on_done):
    on_done(BrokenPipeError(errno.EPIPE, "Broken pipe"))


class Case(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.host = MemoryHost()
        self.network = Network(self.host.reactor)
        self.out = (self.folder / "out").open("w+b")
        self.err = (self.folder / "err").open("w+")
        self.addCleanup(self.out.close)
        self.addCleanup(self.err.close)
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)
        for name in list(os.environ):
            if name.lower().endswith("_proxy"):
                self.patch(os, "environ", {k: v for k, v in os.environ.items() if k != name})

    def make(self, *words):
        urls = [word for word in words if str(word).startswith("http")]  # the host sorts them out
        rest = [str(word) for word in words if word not in urls]
        options = Options()
        options.parseOptions(["--no-robots", *rest, *urls])
        return makeService(options, self.host)

    def start(self, *words):
        self.service = self.make(*words)
        self.service.startService()
        self.run_hooks()
        return self.network.accept()

    def fetch(self, *words, body=b"ok", status=b"200 OK"):
        """Start, answer the one request, and let the turn end."""
        self.start(*words).ok(body, status=status)
        self.host.reactor.advance(0)

    def run_hooks(self):
        hooks, self.host.reactor.whenRunningHooks = self.host.reactor.whenRunningHooks, []
        for function, words, named in hooks:
            function(*words, **named)

    def stop(self):
        stopped = self.service.stopService()
        self.network.advance(1)
        self.successResultOf(stopped)
        self.assertEqual(self.host.reactor.getDelayedCalls(), [])

    def printed(self):
        return (self.folder / "out").read_text()


class RunTests(Case):
    def test_a_finished_run_prints_a_summary_and_status_0(self):
        self.fetch(HOST, body=b"hello")
        self.assertEqual(self.host.statuses, [0])
        self.stop()
        lines = self.printed().splitlines()
        self.assertEqual(lines[0], f"{HOST} 5 bytes received, status 200")
        self.assertTrue(lines[1].startswith("fetched 1 of 1 URLs, 5 B"))

    def test_a_closed_pipe_at_the_summary_is_not_a_failure(self):
        """As with `| head -n 1`."""
        self.fetch(HOST, "-o", self.folder / "rows", body=b"hello")
        self.patch(Terminal, "print_lines", broken_pipe)
        self.stop()
        self.assertEqual(self.host.failures, [])
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertTrue(self.service.recorder.rows.writer._out.closed)

    def test_a_url_that_fails_gives_status_1(self):
        self.fetch(HOST, status=b"404 Not Found")
        self.assertEqual(self.host.statuses, [1])
        self.stop()

    def test_a_run_that_is_stopped_gives_status_1(self):
        peer = self.start(HOST)
        self.stop()
        self.assertEqual((self.host.statuses, peer.is_open), ([1], False))
        self.assertIn("fetched 0 of 0 URLs", self.printed())

    def test_a_run_that_is_stopped_before_it_begins_connects_to_nothing(self):
        self.service = self.make(HOST)
        self.service.startService()
        self.stop()
        self.run_hooks()
        self.assertEqual(self.network.attempts, 0)

    def test_rows_that_cannot_be_written_end_the_run(self):
        self.fetch(HOST, "-o", "/dev/full")
        self.assertEqual(self.host.failures, ["/dev/full: No space left on device"])
        self.stop()
        self.assertEqual(self.printed(), "")

    def test_a_read_error_of_the_input_ends_the_run(self):
        urls = self.folder / "urls"
        urls.write_text(f"{HOST}\n")
        service = self.make("-i", urls)
        urls.unlink()
        urls.mkdir()
        service.startService()
        self.run_hooks()
        self.service = service
        self.stop()

    def test_an_unexpected_exception_ends_the_run(self):
        self.service = self.make(HOST)
        self.service._crawl._sources = [None]
        self.service.startService()
        self.run_hooks()
        self.assertEqual(len(self.host.failures), 1)
        self.assertIn("the run failed: 'NoneType' object", self.host.failures[0])
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        self.stop()

    def test_headers_and_the_user_agent_are_sent(self):
        peer = self.start(HOST, "--header", "X-Who: me", "--user-agent", "mybot/1")
        sent = peer.take()
        self.assertIn(b"\r\nX-Who: me\r\n", sent)
        self.assertIn(b"\r\nUser-Agent: mybot/1\r\n", sent)

    def test_closed_standard_error_does_not_prevent_a_summary(self):
        self.patch(sys, "stderr", None)
        self.fetch(HOST, "-o", "-")
        self.assertEqual((self.host.statuses, self.host.failures), ([0], []))
        self.stop()

    def test_a_size_limit_holds_for_pages_and_is_no_limit_of_what_is_kept(self):
        self.fetch(HOST, "--max-size", "4", "-o", self.folder / "rows", body=b"hello")
        self.stop()
        row = json.loads((self.folder / "rows").read_text())
        self.assertEqual(row["error"], "BodyTooLarge: the body is longer than 4 bytes")
        self.assertEqual(row["status_code"], 200)

    def test_closed_standard_output_does_not_prevent_a_run(self):
        self.patch(sys, "stdout", None)
        self.fetch(HOST, "-o", self.folder / "rows")
        self.assertEqual(self.host.statuses, [0])
        self.stop()

    def test_closed_standard_input_is_a_usage_error(self):
        self.patch(sys, "stdin", None)
        error = self.assertRaises(UsageError, self.make, "-i", "-")
        self.assertEqual(str(error), "-i -: standard input is closed")


class MakingTests(Case):
    def test_a_proxy_in_the_environment_is_used(self):
        self.patch(os, "environ", {"http_proxy": "192.0.2.9:3128"})
        self.start("http://example.com/")
        self.assertEqual(self.network.last_place, ("192.0.2.9", 3128))

    def test_the_warning_about_a_proxy_names_no_option_that_was_not_given(self):
        warnings = []
        self.patch(service._log, "warn", warnings.append)
        self.patch(os, "environ", {"http_proxy": "192.0.2.9:3128"})
        self.make("--queue", "memory:")
        (warning,) = warnings
        self.assertNotIn("--proxy", warning)

    def test_an_invalid_proxy_in_the_environment_is_named(self):
        self.patch(os, "environ", {"http_proxy": "socks5://x"})
        error = self.assertRaises(UsageError, self.make, HOST)
        self.assertIn("http_proxy: cannot use the proxy 'socks5://x'", str(error))

    def test_a_missing_warcio_is_an_error_that_says_what_to_install(self):
        with mock.patch.dict(sys.modules, {"warcio.warcwriter": None}):
            self.check_without_warcio()

    def check_without_warcio(self):
        error = self.assertRaises(UsageError, self.make, HOST, "--warc", self.folder / "x")
        self.assertIn("pip install 'evserve[warc]'", str(error))

    def test_an_invalid_journal_is_a_usage_error(self):
        path = self.folder / "journal"
        path.write_text("hello\n")
        error = self.assertRaises(UsageError, self.make, HOST, "--journal", path)
        self.assertIn("line 1: not a line of a fetch journal", str(error))

    def test_a_queue_makes_a_consumer_service(self):
        made = self.make("--queue", "memory:", "--save", self.folder / "saved")
        self.assertIsInstance(made, ConsumerService)

    def test_an_invalid_queue_url_is_named(self):
        for words, reason in (
            (["--queue", "foo:"], "'foo:' is not a queue URL"),
            (["--queue", "memory:", "--results-tube", "a b"], "--results-tube 'a b' is not"),
        ):
            self.assertIn(reason, str(self.assertRaises(UsageError, self.make, *words)))

    def test_only_regular_files_are_synced_and_only_with_a_journal(self):
        journal = self.folder / "journal"
        for words, targets in (
            (["-o", self.folder / "rows"], None),
            (["-o", self.folder / "rows", "--journal", journal], 2),
            (["-o", "/dev/null", "--journal", journal], 1),
            (["-o", "-", "--journal", journal], 2),
        ):
            recorder = self.make(HOST, *words).recorder
            found = None if recorder.disk is None else len(recorder.targets)
            self.assertEqual(found, targets, words)
            self.successResultOf(self.deferred(recorder.close()))

    def deferred(self, coroutine):
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(coroutine)


class OptionsTests(SynchronousTestCase):
    def parse(self, *words):
        options = Options()
        options.parseOptions(list(words))
        return options

    def test_urls_headers_and_sitemaps_are_collected(self):
        options = self.parse("--header", "X-A: 1 ", "--sitemap", "s", "--sitemap", "t", "u", "v")
        self.assertEqual(options["header"], [(b"X-A", b"1")])
        self.assertEqual((options["sitemap"], options["urls"]), (["s", "t"], ["u", "v"]))

    def test_headers_that_an_archive_leaves_out_are_collected(self):
        options = self.parse("--warc", "x", "--warc-omit", "Cookie", "--warc-omit", "X-Key", "u")
        self.assertEqual(options["warc-omit"], [b"Cookie", b"X-Key"])

    def test_invalid_options_are_usage_errors(self):
        table = [
            [],
            ["--queue", "memory:", "u"],
            ["--queue", "memory:", "--journal", "j"],
            ["--results-tube", "r", "u"],
            ["--concurrency", "0", "u"],
            ["--retries", "-1", "u"],
            ["--timeout", "0", "u"],
            ["--delay", "soon", "u"],
            ["--header", "no colon", "u"],
            ["--header", "Bad Name: 1", "u"],
            ["--proxy", "ftp://a/", "u"],
            ["--user-agent", "two\nlines", "u"],
            ["--queue", "", "u"],
            ["--sitemap", "", "u"],
            ["--input", ""],
            ["--output", "", "u"],
            ["--save", "", "u"],
            ["--journal", "", "u"],
            ["--warc", "", "u"],
            ["--warc-omit", "Cookie", "u"],
            ["--warc", "x", "--warc-omit", "Bad Name", "u"],
            ["--warc", "x", "--warc-omit", "", "u"],
            ["--output", "x", "--journal", "./x", "u"],
            ["--output", "x", "--warc", "x", "u"],
            ["--output", "x", "--save", "x", "u"],
            ["--input", "x", "--output", "y/../x"],
        ]
        for words in table:
            self.assertRaises(UsageError, self.parse, *words)

    def test_errors_say_what_is_wrong_with_a_number_or_header(self):
        table = {
            ("--timeout", "99999999"): "more than 2000000 seconds",
            ("--retries", "9999999999"): "not a whole number up to 999999999",
            ("--concurrency", "9999999999"): "not a whole number from 1 to 999999999",
            ("--header", ": x"): "not a header that can be sent (Name: value)",
            ("--header", "content-length: 5"): "the fetcher sets it itself (leave it out)",
            ("--header", "Connection: close"): "the fetcher sets it itself (leave it out)",
            (
                "--header",
                "Proxy-Authorization: x",
            ): "the origin would get it (use the proxy's URL)",
            ("--header", "Host: a", "--header", "host: b"): "header Host: given twice",
            ("--header", "Range: bytes=1-", "--save", "x"): "Range: --save fetches whole files",
            (
                "--header",
                "Accept-Encoding: br",
                "--save",
                "x",
            ): "--save requests bodies uncompressed",
            (
                "--header",
                "Accept-Encoding: br",
                "--warc",
                "x",
            ): "--warc requests bodies uncompressed",
            ("--max-size", "9" * 19): "not a whole number above 0",
        }
        for words, reason in table.items():
            error = self.assertRaises(UsageError, self.parse, *words, "u")
            self.assertIn(reason, str(error))

    def test_one_device_may_be_two_outputs(self):
        self.parse("--output", "/dev/null", "--journal", "/dev/null", "u")

    def test_numbers_are_parsed(self):
        options = self.parse(
            *("--timeout", "2.5", "--delay", ".5", "--retries", "0", "--concurrency", "7", "u")
        )
        values = [options[name] for name in ("timeout", "delay", "retries", "concurrency")]
        self.assertEqual(values, [2.5, 0.5, 0, 7])
        self.assertEqual(self.parse("--max-size", "50000000000", "u")["max-size"], 50_000_000_000)


class CrawlTests(SynchronousTestCase):
    keeps = True

    def run_urls(self, urls, **more):
        self.world = World({url: Page(takes=1.0) for url in urls})
        self.recorded = {}
        self.run_ = Crawl(
            self.world.fetcher,
            [ListSource(urls[:3]), ListSource(urls[3:])],
            self.record,
            **more,
        )
        self.done = Deferred.fromCoroutine(self.run_.run())

    def record(self, key, result, kept):
        self.recorded[key] = result
        if self.keeps:
            kept(True)

    def test_a_result_that_is_not_kept_yet_is_pending(self):
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
        self.assertTrue(self.run_.at_end)

    def test_spellings_of_one_url_are_fetched_once(self):
        self.run_urls(["http://a/", "http://a", "HTTP://A:80/#x", "http://a/b", "no url"])
        self.world.run(5)
        self.assertEqual(self.world.client.urls, ["http://a/", "http://a/b"])
        self.assertEqual(list(self.recorded), ["no url", "http://a/", "http://a/b"])

    def test_a_url_is_fetched_once_for_each_account(self):
        self.run_urls(["http://a/", "http://u:p@a/", "http://u:q@a/", "http://u:%70@a/"])
        self.world.run(5)
        self.assertEqual(self.world.client.urls, ["http://a/"] * 3)
        self.assertEqual(list(self.recorded), ["http://a/", "http://u:p@a/", "http://u:q@a/"])

    def test_urls_of_earlier_runs_are_not_fetched(self):
        duplicates = DuplicateFilter()
        duplicates.add("http://a/1")
        self.run_urls(["http://a/1", "http://a/2"], duplicates=duplicates)
        self.world.run(5)
        self.assertEqual(list(self.recorded), ["http://a/2"])
