"""Encodings: marked, declared, guessed."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.text import MarkedDecoder, charset_of, decode


class DecodeTests(SynchronousTestCase):
    def test_the_strongest_hint_wins(self):
        table = [
            (b"\xef\xbb\xbfcaf\xc3\xa9", "text/html; charset=latin-1", "café"),
            ("café".encode("utf-16"), None, "café"),
            (b"\xfe\xff\x00c", "text/plain", "c"),
            (b"caf\xe9", "text/plain; charset=windows-1252", "café"),
            (b'<meta charset="latin-1">\xe9', "text/html", '<meta charset="latin-1">é'),
            (b"<meta charset=utf-16>\xc3\xa9", "text/html", "<meta charset=utf-16>é"),
            (b'<?xml version="1.0" encoding="koi8-r"?>\xc1', None, None),
            (b"caf\xc3\xa9", None, "café"),
            (b"caf\xe9", None, "café"),
            (b"\x80", "text/plain; charset=iso-8859-1", "€"),
            (b"c\x00", "text/plain; charset=utf-16le", "c"),
            (b"\x81\x8d", None, "\ufffd\ufffd"),
        ]
        for data, content_type, text in table:
            found = decode(data, content_type)
            self.assertEqual(found, text or found)
        self.assertTrue(decode(table[6][0]).endswith("\u0430"))

    def test_what_is_no_charset_of_the_web_is_ignored(self):
        for name in ("zlib", "hex", "rot13", "utf-7", "idna", "punycode", "undefined", "x" * 999):
            self.assertIsNone(charset_of(f"text/html; charset={name}"), name)
        for name in ("unicode_escape", "raw_unicode_escape", "hz", "\0", "é", "mbcs", "utf-32"):
            self.assertIsNone(charset_of(f"text/html; charset={name}"), name)

    @given(
        st.binary(), st.sampled_from(["utf-8", "latin1", "utf-16", "gb2312", "euc-jp", "x", ""])
    )
    def test_nothing_raises(self, data, name):
        self.assertIsInstance(decode(data, f"text/html; charset={name}"), str)


class MarkedDecoderTests(SynchronousTestCase):
    def test_a_mark_is_skipped_in_any_pieces(self):
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            data = "xé\n".encode(encoding)
            for size in (1, 2, 3, 99):
                decoder = MarkedDecoder()
                pieces = [data[at : at + size] for at in range(0, len(data), size)]
                text = "".join(map(decoder.decode, pieces)) + decoder.decode(b"", final=True)
                self.assertEqual(text, "xé\n", (encoding, size))

    def test_a_short_text_is_not_held_back(self):
        self.assertEqual(MarkedDecoder().decode(b"x"), "x")
        self.assertEqual(MarkedDecoder().decode(b"\xef", final=True), "\udcef")
