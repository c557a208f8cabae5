"""Rows, text and JSON of results, and what logs show of them."""

import json
import pickle

from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.errors import BadStatus, InvalidJSON
from evserve.fetch.result import Result
from evserve.http.errors import BadURL, ConnectFailed
from evserve.http.headers import Headers


def page(body, content_type=None):
    lines = [] if content_type is None else [(b"Content-Type", content_type)]
    return Result("http://a/", 200, len(body), "http://a/", headers=Headers(lines), body=body)


class RowTests(SynchronousTestCase):
    def test_a_row_has_its_eight_keys_and_a_path_if_there_is_one(self):
        row = json.loads(Result("http://a/").as_json())
        keys = "url status_code content_length final_url elapsed tries sha256 error"
        self.assertEqual(list(row), keys.split())
        self.assertEqual(json.loads(Result("http://a/", path="x").as_json())["path"], "x")

    def test_an_error_is_its_name_and_what_happened(self):
        for error, text in (
            (BadStatus("404 Not Found"), "BadStatus: 404 Not Found"),
            (ConnectFailed("a\n  b"), "ConnectFailed: a b"),
            (ValueError(), "ValueError"),
        ):
            self.assertEqual(json.loads(Result("u", error=error).as_json())["error"], text)

    def test_transient_statuses_are_not_final(self):
        self.assertTrue(Result("u", 404, sha256="x", error=BadStatus("404")).is_final)
        self.assertFalse(Result("u", 503, sha256="x", error=BadStatus("503")).is_final)


class TextTests(SynchronousTestCase):
    def test_the_charset_of_content_type_counts(self):
        self.assertEqual(page(b"caf\xe9", b"text/plain; charset=ISO-8859-1").text(), "café")
        self.assertEqual(page(b"caf\xe9", b'text/html; Charset="latin1"').text(), "café")

    def test_without_a_body_text_is_empty(self):
        self.assertEqual(Result("u", error=ConnectFailed("no")).text(), "")


class JSONTests(SynchronousTestCase):
    def test_json_may_have_a_mark_or_a_charset(self):
        for body, content_type in (
            (b'{"a": "\xc3\xa9"}', None),
            (b'\xef\xbb\xbf{"a": "\xc3\xa9"}', b"application/json; charset=utf-8"),
            (b'{"a": "\xe9"}', b"application/json; charset=latin-1"),
            ('{"a": "é"}'.encode("utf-16"), b"application/json"),
        ):
            self.assertEqual(page(body, content_type).json(), {"a": "é"})

    def test_what_is_not_json_is_one_named_error(self):
        for body in (b"<html>", b"", b'"\xff"', b"[" * 100_000, b"9" * 5000):
            error = self.assertRaises(InvalidJSON, page(body).json)
            self.assertIsInstance(error, ValueError)
            self.assertIn("http://a/ is not JSON: ", str(error))
            self.assertNotIn("\n", str(error))

    def test_the_error_of_a_url_without_a_body_is_named(self):
        result = Result("http://me:secret@a/", error=ConnectFailed("refused"))
        error = self.assertRaises(InvalidJSON, result.json)
        reason = "http://...@a/ is not JSON: no body: ConnectFailed('refused')"
        self.assertEqual(str(error), reason)


class LogTests(SynchronousTestCase):
    def test_the_repr_has_neither_password_nor_body_nor_headers(self):
        headers = Headers([(b"Set-Cookie", b"id=secret")])
        result = Result("http://me:secret@a/x@y", 200, 6, headers=headers, body=b"secret")
        self.assertEqual(repr(result), "<Result 'http://...@a/x@y' status 200: 6 bytes>")

    def test_the_repr_of_a_bad_url_has_no_password_wherever_that_is(self):
        for url in (
            "ftp://me:secret@a/",
            "me:secret@a/",
            "http://me:sec/secret@a/",
            "//:x secret@a/",
        ):
            bad = Result(url, error=BadURL(f"{url!r}: no"))
            self.assertEqual(str(bad), "<Result '...@a/' status None: BadURL>")
            self.assertNotIn("secret", str(self.assertRaises(InvalidJSON, bad.json)))

    def test_the_repr_can_be_printed(self):
        result = Result("http://a/\x1b[2J\n\udcff", error=BadURL("\x1b"))
        self.assertTrue(repr(result).isprintable())

    def test_a_result_can_be_pickled(self):
        headers = Headers([(b"A", b"b")])
        for error in (None, BadStatus("404 Not Found"), InvalidJSON("x")):
            result = Result("http://a/", 404, error=error, headers=headers, body=b"x")
            copy = pickle.loads(pickle.dumps(result))
            self.assertEqual((copy, copy.body), (result, b"x"))
            self.assertEqual(hash(copy), hash(result))
