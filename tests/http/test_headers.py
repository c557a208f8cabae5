"""Header lines, and heads of requests."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.http.errors import BadRequest
from evserve.http.headers import Headers, check_headers, check_method, request_bytes


class RequestTests(SynchronousTestCase):
    def test_a_request_is_its_lines(self):
        wire = request_bytes(b"GET", "/a?b", [(b"Host", b"example.com"), (b"X", b"")])
        self.assertEqual(wire, b"GET /a?b HTTP/1.1\r\nHost: example.com\r\nX: \r\n\r\n")

    def test_line_breaks_and_invalid_names_are_refused(self):
        for line in ((b"X", b"a\r\nY: b"), (b"X\n", b"a"), (b"", b"a"), (b"X", b"\0")):
            self.assertRaises(BadRequest, check_headers, [line])
        for method in (b"", b"GET /", b"G\r\nT"):
            self.assertRaises(BadRequest, check_method, method)
        error = self.assertRaises(BadRequest, check_headers, [(b"Cookie", b"secret\n")])
        self.assertNotIn("secret", str(error))
        check_headers([(b"X-Y", "ä".encode())])
        check_method(b"PROPFIND")


class HeadersTests(SynchronousTestCase):
    def test_headers_are_copied_on_change(self):
        first = Headers([(b"A", b"1"), (b"b", b"2")])
        self.assertEqual(list(first.without(b"a", b"c")), [(b"b", b"2")])
        self.assertEqual(list(first.plus((b"C", b"3"))), [*first, (b"C", b"3")])
        self.assertNotIn(b"c", first)

    def test_a_name_is_found_in_any_case_and_text_gives_text(self):
        headers = Headers([(b"Content-Type", b"caf\xe9"), (b"x", b"1"), (b"X", b"2")])
        self.assertEqual(headers.get(b"CONTENT-type"), b"caf\xe9")
        self.assertEqual(headers.get("content-type"), "café")
        self.assertEqual((headers.get("X"), headers.all(b"X")), ("1, 2", [b"1", b"2"]))
        self.assertEqual(
            (headers.get("y"), headers.get("\u20ac"), headers.get("y", "")), (None, None, "")
        )
        self.assertIn("content-TYPE", headers)
        self.assertIn(b"Content-Type", headers)
