"""What events ask for, and what the command line understands."""

import json

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.options import Options
from evserve.fetch.orders import BadOrder, parse_order


class OrderTests(SynchronousTestCase):
    def test_a_body_is_a_url_or_an_object(self):
        self.assertEqual(parse_order(b" http://a/ \n").url, "http://a/")
        given = {"url": "http://a/", "method": "HEAD", "headers": {"X": "1"}, "timeout": 3}
        order = parse_order(json.dumps(given).encode())
        self.assertEqual((order.method, order.timeout), (b"HEAD", 3.0))
        self.assertEqual(list(order.headers), [(b"X", b"1")])

    def test_nonsense_is_named(self):
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
            (b'{"url": "http://u:\\ud800@a/"}', "half a character"),
            (b'{"url":' + b"[" * 60_000, "too deep"),
        ]
        for body, reason in table:
            self.assertIn(reason, str(self.assertRaises(BadOrder, parse_order, body)), body)


class OptionsTests(SynchronousTestCase):
    def parse(self, *words):
        options = Options()
        options.parseOptions(list(words))
        return options

    def test_urls_headers_and_sitemaps_are_collected(self):
        options = self.parse("--header", "X-A: 1 ", "--sitemap", "s", "--sitemap", "t", "u", "v")
        self.assertEqual(options["header"], [(b"X-A", b"1")])
        self.assertEqual((options["sitemap"], options["urls"]), (["s", "t"], ["u", "v"]))

    def test_mistakes_are_refused(self):
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
            ["--output", "x", "--journal", "./x", "u"],
            ["--output", "x", "--warc", "x", "u"],
            ["--output", "x", "--save", "x", "u"],
            ["--input", "x", "--output", "y/../x"],
        ]
        for words in table:
            self.assertRaises(UsageError, self.parse, *words)

    def test_what_is_wrong_with_a_number_or_a_header_is_said(self):
        table = {
            ("--timeout", "99999999"): "more than 2000000 seconds",
            ("--retries", "9999999999"): "not a whole number up to 999999999",
            ("--concurrency", "9999999999"): "not a whole number from 1 to 999999999",
            ("--header", ": x"): "not a header that can be sent (Name: value)",
        }
        for words, reason in table.items():
            error = self.assertRaises(UsageError, self.parse, *words, "u")
            self.assertIn(reason, str(error))

    def test_devices_may_be_written_to_twice(self):
        self.parse("--output", "/dev/null", "--journal", "/dev/null", "u")

    def test_numbers_are_read(self):
        options = self.parse(
            *("--timeout", "2.5", "--delay", ".5", "--retries", "0", "--concurrency", "7", "u")
        )
        values = [options[name] for name in ("timeout", "delay", "retries", "concurrency")]
        self.assertEqual(values, [2.5, 0.5, 0, 7])
