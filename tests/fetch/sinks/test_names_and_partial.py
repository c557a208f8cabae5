"""File names for URLs, and when half a file may be continued."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.sinks.names import file_name
from evserve.fetch.sinks.partial import Partial, Validator, read_partial, write_notes
from evserve.http.headers import Head, Headers
from evserve.http.url import URL, Origin, parse_url


class NameTests(SynchronousTestCase):
    def name(self, text):
        return file_name(parse_url(text))

    def test_a_name_is_readable_and_keeps_its_extension(self):
        self.assertRegex(
            self.name("http://example.com/a/report.pdf"),
            r"^example\.com/report-[0-9a-f]{10}\.pdf$",
        )
        self.assertRegex(self.name("http://a:8080/"), r"^a_8080/index-[0-9a-f]{10}$")

    def test_two_urls_never_share_a_name(self):
        urls = ["http://a/x", "http://a/x?1", "http://a/x/", "http://a/y/x", "http://b/x"]
        names = [self.name(text) for text in [*urls, "http://u:p@a/x", "http://u:q@a/x"]]
        self.assertEqual(len(set(names)), len(names))

    def test_dots_and_slashes_lead_nowhere(self):
        for text in ("http://a/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "http://a/..%2f", "http://a/.rc"):
            folder, _, name = self.name(text).partition("/")
            self.assertEqual(folder, "a")
            self.assertNotIn("/", name)
            self.assertFalse(name.startswith("."), name)

    def test_a_long_name_is_cut(self):
        self.assertLess(len(self.name("http://a/" + "x" * 5000)), 120)
        self.assertLess(len(self.name("http://a/x." + "y" * 5000)), 120)

    def test_an_ipv6_host_is_a_folder(self):
        self.assertRegex(self.name("http://[::1]:80/x"), r"^[0-9A-Za-z][^/]*/x-")

    @given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
    def test_no_path_escapes(self, path):
        url = URL(Origin("http", "host", 80), "/" + path)
        target = Path("/base", file_name(url)).resolve()
        self.assertTrue(target.is_relative_to("/base/host"), target)


def head(*lines, status=206, encoding=None):
    return Head(status, b"", "1.1", Headers(list(lines)), None, encoding)


ETAG = (b"ETag", b'"v1"')
MODIFIED = (b"Last-Modified", b"Sat, 01 Jan 2000 00:00:00 GMT")
LATER = (b"Date", b"Sat, 01 Jan 2000 00:01:00 GMT")


class ValidatorTests(SynchronousTestCase):
    def test_a_strong_etag_is_best(self):
        self.assertEqual(Validator.of(head(ETAG, MODIFIED)).if_range, b'"v1"')

    def test_a_weak_etag_promises_nothing_about_bytes(self):
        self.assertIsNone(Validator.of(head((b"ETag", b'W/"v1"'))))
        weak = head((b"ETag", b'W/"v1"'), MODIFIED, LATER)
        self.assertEqual(Validator.of(weak).if_range, MODIFIED[1])

    def test_a_file_that_has_just_changed_may_change_again_in_the_same_second(self):
        for date in (
            MODIFIED[1],
            b"Sat, 01 Jan 2000 00:00:59 GMT",
            b"Sat, 01 Jan 2000 00:02:00",  # no time zone
            b"today",
        ):
            self.assertIsNone(Validator.of(head(MODIFIED, (b"Date", date))), date)
        self.assertIsNone(Validator.of(head(MODIFIED)))
        self.assertIsNone(Validator.of(head(LATER)))

    def test_a_compressed_body_cannot_be_continued(self):
        self.assertIsNone(Validator.of(head(ETAG, encoding=b"gzip")))

    def test_versions_are_told_apart(self):
        validator = Validator.of(head(ETAG, MODIFIED))
        self.assertTrue(validator.matches(head(ETAG)))
        self.assertTrue(validator.matches(head()))
        self.assertTrue(validator.matches(head(MODIFIED)))
        self.assertFalse(validator.matches(head((b"ETag", b'"v2"'))))
        self.assertFalse(validator.matches(head((b"Last-Modified", b"today"))))
        self.assertFalse(validator.matches(head(encoding=b"gzip")))


class PartialTests(SynchronousTestCase):
    partial = Partial(5, Validator('"v1"'))

    def test_it_asks_for_the_rest(self):
        self.assertEqual(self.partial.headers, ((b"Range", b"bytes=5-"), (b"If-Range", b'"v1"')))

    def test_only_what_goes_on_where_it_ends_fits(self):
        table = [
            (b"bytes 5-9/10", True),
            (b"bytes 5-9/*", True),
            (b"bytes 4-9/10", False),
            (b"bytes 5-8/10", False),
            (b"items 5-9/10", False),
            (b"", False),
        ]
        for value, fits in table:
            response = head((b"Content-Range", value))
            self.assertEqual(self.partial.continues(response), fits, value)
        other = head((b"Content-Range", b"bytes 5-9/10"), (b"ETag", b'"v2"'))
        self.assertFalse(self.partial.continues(other))

    def test_it_is_read_back(self):
        part, notes = Path(self.mktemp()), Path(self.mktemp())
        part.write_bytes(b"12345")
        write_notes(notes, Validator('"v1"'))
        self.assertEqual(read_partial(part, notes), self.partial)

    def test_what_cannot_be_trusted_is_nothing(self):
        part, notes = Path(self.mktemp()), Path(self.mktemp())
        self.assertIsNone(read_partial(part, notes))
        part.write_bytes(b"12345")
        for text in ("", "[]", "{}", '{"etag": null, "last_modified": null}'):
            notes.write_text(text)
            self.assertIsNone(read_partial(part, notes), text)
        part.write_bytes(b"")
        write_notes(notes, Validator('"v1"'))
        self.assertIsNone(read_partial(part, notes))
