"""Compressed bodies are decoded completely, or are errors."""

import gzip
import zlib

import brotli
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.http import decoding
from evserve.http.decoding import ContentDecoder, DecodingLimits, accepted_codings
from evserve.http.errors import CorruptBody, DecompressionBomb, UnsupportedEncoding
from tests.http.cut_bytes import cut


def raw_deflate(data):
    return zlib.compress(data)[2:-4]


COMPRESS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}
TEXT = b"The quick brown fox jumps over the lazy dog. " * 5000


def decode(coding, *chunks, limits=None):
    decoder = ContentDecoder(coding.encode(), limits or DecodingLimits())
    pieces = [piece for chunk in chunks for piece in decoder.feed(chunk)]
    decoder.finish()
    return pieces


class DecodingTests(SynchronousTestCase):
    @given(
        st.sampled_from(sorted(COMPRESS)),
        st.binary(max_size=2000),
        st.lists(st.integers(0, 3000), max_size=4),
    )
    def test_every_coding_is_undone_however_it_is_cut(self, coding, data, places):
        wire = COMPRESS[coding](data)
        self.assertEqual(b"".join(decode(coding, *cut(wire, places))), data)

    @given(st.binary(max_size=2000), st.lists(st.integers(0, 3000), max_size=4))
    def test_deflate_is_undone_without_its_header_too(self, data, places):
        chunks = cut(raw_deflate(data), places)
        self.assertEqual(b"".join(decode("deflate", *chunks)), data)

    @given(
        st.sampled_from(["gzip", "zstd"]),
        st.lists(st.binary(max_size=500), min_size=1, max_size=4),
        st.lists(st.integers(0, 3000), max_size=4),
    )
    def test_members_follow_each_other(self, coding, parts, places):
        wire = b"".join(COMPRESS[coding](part) for part in parts)
        self.assertEqual(b"".join(decode(coding, *cut(wire, places))), b"".join(parts))

    def test_large_bodies_come_in_bounded_pieces(self):
        for coding, compress in COMPRESS.items():
            pieces = decode(coding, compress(TEXT * 20))
            self.assertEqual(b"".join(pieces), TEXT * 20)
            if coding != "zstd":  # its library returns whole blocks
                self.assertLessEqual(max(map(len, pieces)), 2 * decoding.PIECE)

    def test_several_codings_are_undone_last_first(self):
        wire = brotli.compress(gzip.compress(TEXT))
        self.assertEqual(b"".join(decode("gzip, identity, BR", wire)), TEXT)

    def test_an_empty_body_is_empty_in_every_coding(self):
        for coding in [*COMPRESS, "gzip, br"]:
            self.assertEqual(decode(coding), [])

    def test_what_follows_gzip_and_deflate_is_ignored(self):
        for coding in ("gzip", "deflate"):
            wire = COMPRESS[coding](b"x")
            for rest in (b"\0" * 100, b"garbage", b"\x1f", b"no" + gzip.compress(b"y")):
                for chunks in ((wire + rest,), (wire, rest), cut(wire + rest, range(200))):
                    self.assertEqual(b"".join(decode(coding, *chunks)), b"x")

    def test_what_names_no_coding_is_none(self):
        for coding in (
            "",
            "none",
            "UTF-8",
            "iso-8859-15",
            "Windows-1252",
            "8bit",
            "text/html",
            "aws-chunked",
        ):
            self.assertEqual(b"".join(decode(coding, b"text")), b"text")
        self.assertEqual(b"".join(decode("utf-8, gzip", gzip.compress(b"text"))), b"text")


class CorruptionTests(SynchronousTestCase):
    def test_a_body_cut_off_anywhere_is_an_error(self):
        for coding, compress in COMPRESS.items():
            wire = compress(b"hello, hello, hello")
            for length in range(1, len(wire)):
                self.assertRaises(CorruptBody, decode, coding, wire[:length])

    def test_garbage_is_an_error(self):
        for coding in COMPRESS:
            self.assertRaises(CorruptBody, decode, coding, b"\xff\xff not compressed at all")

    def test_garbage_after_the_end_of_br_and_zstd_is_an_error(self):
        for coding in ("br", "zstd"):
            wire = COMPRESS[coding](b"x") + b"garbage"
            self.assertRaises(CorruptBody, decode, coding, wire)
            self.assertRaises(CorruptBody, decode, coding, *cut(wire, range(len(wire))))

    def test_a_flipped_bit_is_an_error(self):
        wire = bytearray(gzip.compress(b"hello, hello, hello"))
        wire[-8] ^= 1  # the checksum
        self.assertRaises(CorruptBody, decode, "gzip", bytes(wire))

    def test_unknown_codings_are_refused_before_any_body(self):
        for coding in ("lzma", "base64", "gzip, compress"):
            self.assertRaises(UnsupportedEncoding, decode, coding)
        self.assertRaises(UnsupportedEncoding, decode, ", ".join(["gzip"] * 6))

    def test_only_installed_codings_are_accepted(self):
        self.assertEqual(accepted_codings(), b"gzip, deflate, br, zstd")
        self.patch(decoding, "_import_library", lambda _: None)
        decoding._codings.cache_clear()
        self.addCleanup(decoding._codings.cache_clear)
        self.assertEqual(accepted_codings(), b"gzip, deflate")
        self.assertRaises(UnsupportedEncoding, decode, "br")

    def test_an_absent_library_is_no_error(self):
        self.assertIsNone(decoding._import_library("no_such_library"))


class BombTests(SynchronousTestCase):
    limits = DecodingLimits(ratio=100, free=1000_000)

    def test_a_bomb_is_stopped_early(self):
        for coding, compress in COMPRESS.items():
            wire = compress(bytes(30_000_000))
            self.assertRaises(DecompressionBomb, decode, coding, wire, limits=self.limits)

    def test_a_bomb_in_a_bomb_is_stopped_early(self):
        wire = gzip.compress(gzip.compress(bytes(30_000_000)))
        self.assertRaises(DecompressionBomb, decode, "gzip, gzip", wire, limits=self.limits)

    def test_small_bodies_may_have_any_ratio(self):
        wire = gzip.compress(bytes(900_000))
        self.assertEqual(len(b"".join(decode("gzip", wire, limits=self.limits))), 900_000)

    def test_decoding_is_lazy(self):
        decoder = ContentDecoder(b"gzip", DecodingLimits())
        pieces = decoder.feed(gzip.compress(bytes(5_000_000)))
        self.assertEqual(len(next(pieces)), decoding.PIECE)
        self.assertEqual(decoder._given, decoding.PIECE)
