"""What the command line understands."""

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.options import Options


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
