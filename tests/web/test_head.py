"""Behaviour of `HeadParser`."""

import contextlib

from twisted.trial.unittest import SynchronousTestCase

from evserve.web.head import BadHead, CanonicalNames, HeadParser


class HeadTests(SynchronousTestCase):
    def setUp(self):
        self.parse = HeadParser().parse

    def test_the_parts_of_a_head(self):
        parts = self.parse(b"PUT /a?b HTTP/1.1\r\ncontent-length: 03\r\nA: 1 \r\na:\r\n\r\n")
        fields = {b"Content-Length": [b"03"], b"A": [b"1", b""]}
        self.assertEqual(parts, (b"PUT", b"/a?b", b"HTTP/1.1", fields, 3))

    def test_no_head_changes_how_the_next_is_read(self):
        for line in (
            b"Connection: close",
            b"Proxy-Connection: close",
            b"Connection: Upgrade\r\nUpgrade: a",
            b"Content-Length: 3",
            b"Transfer-Encoding: chunked",
            b"A : invalid",
        ):
            for version in (b"1.1", b"1.0"):
                with contextlib.suppress(BadHead):
                    self.parse(b"POST / HTTP/" + version + b"\r\n" + line + b"\r\n\r\n")
                parts = self.parse(b"GET / HTTP/1.1\r\nA: b\r\n\r\n")
                self.assertEqual(parts, (b"GET", b"/", b"HTTP/1.1", {b"A": [b"b"]}, 0), line)

    def test_blanks_at_the_end_of_a_line_are_no_part_of_a_value(self):
        for value in (b"chunked ", b"chunked\t", b" \t chunked \t "):
            *_, fields, length = self.parse(
                b"PUT / HTTP/1.1\r\nTransfer-Encoding:" + value + b"\r\nA: \r\n\r\n"
            )
            expected = {b"Transfer-Encoding": [b"chunked"], b"A": [b""]}
            self.assertEqual((fields, length), (expected, None))

    def test_a_line_of_blanks_ends_no_head(self):
        for line in (b" ", b"\t", b"A: b\r ", b"\r "):
            head = b"GET / HTTP/1.1\r\n" + line + b"\r\nB: c\r\n\r\n"
            self.assertRaises(BadHead, self.parse, head)

    def test_methods_that_llhttp_does_not_know(self):
        for method in (b"BREW", b"get", b"PRI", b"SOURCE", b"DESCRIBE", b"M-SEARCH"):
            self.assertEqual(self.parse(method + b" / HTTP/1.1\r\n\r\n")[0], method)

    def test_names_that_clients_choose_fill_no_memory(self):
        names = CanonicalNames()
        for n in range(2000):
            self.assertEqual(names[b"x-%d" % n], b"X-%d" % n)
        self.assertLess(len(names), 1001)
        self.assertIn(b"x-1999", names)  # the latest are known, however many came before
        self.assertEqual(CanonicalNames()[b"x" * 100], b"X" + b"x" * 99)
