"""Responses are parsed however TCP cuts them; invalid ones are refused."""

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.http import lenient
from evserve.http.errors import (
    BadResponse,
    BodyTooLarge,
    ConnectionLost,
    HeadersTooLarge,
    TruncatedBody,
)
from evserve.http.parser import LARGE, HeaderLimits, ResponseParser
from tests.http.cut_bytes import cut


@define(eq=False)
class RecordingListener:
    head: object = None
    body: bytes = b""
    refuse: Exception | None = None
    chunks: list = field(factory=list)

    def on_head(self, head):
        self.head = head
        if self.refuse:
            raise self.refuse

    def on_data(self, data):
        self.body += data
        self.chunks.append(data)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = (
    OK + b"Transfer-Encoding: Chunked\r\n\r\n"
    b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nDigest: 1\r\nX: 2\r\n\r\n"
)
# wire, method, body, whether another response may follow
GOOD = {
    "length": (OK + b"Content-Length: 5\r\n\r\nhello", b"GET", b"hello", True),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", b"GET", b"", True),
    "chunked": (CHUNKED, b"GET", b"abcde", True),
    "close": (OK + b"Connection: CLOSE\r\nContent-Length: 2\r\n\r\nhi", b"GET", b"hi", False),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"GET", b"hi", False),
    "1.0 kept": (
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi",
        b"GET",
        b"hi",
        True,
    ),
    "head": (OK + b"Content-Length: 5\r\n\r\n", b"HEAD", b"", True),
    "204": (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b"GET", b"", True),
    "304": (b"HTTP/1.1 304 Not Modified\r\n\r\n", b"GET", b"", True),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        + OK
        + b"Content-Length: 2\r\n\r\nhi",
        b"GET",
        b"hi",
        True,
    ),
    "length twice": (
        OK + b"Content-Length: 2\r\nX: 1\r\ncontent-length:2 \r\n\r\nhi",
        b"GET",
        b"hi",
        False,
    ),
    "length twice in one": (OK + b"Content-Length: 2 ,2\r\n\r\nhi", b"GET", b"hi", False),
    "length twice, bare line feeds": (
        b"HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 2,2\n\nhi",
        b"GET",
        b"hi",
        False,
    ),
    "length twice, head": (
        OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n",
        b"HEAD",
        b"",
        False,
    ),
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", b"GET", b"hi", True),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", b"GET", b"hi", True),
    "connect": (b"HTTP/1.1 200 Connection established\r\n\r\n", b"CONNECT", b"", False),
}
# Which of the two ends that these name is the right one cannot be told.
LIES = {
    "two lengths": b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    "two lengths in one": b"Content-Length: 2, 3\r\n\r\nhi",
    "two lengths of three": b"Content-Length: 2\r\nContent-Length: 2\r\n"
    b"Content-Length: 3\r\n\r\nhi",
    "length twice, folded": b"Content-Length: 2\r\nContent-Length: 2\r\n 3\r\n\r\nhi",
    "negative": b"Content-Length: -2\r\n\r\nhi",
    "no number": b"Content-Length: two\r\n\r\nhi",
    "huge": b"Content-Length: 99999999999999999999999\r\n\r\nhi",
    "coding": b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "coding without chunks": b"Transfer-Encoding: gzip\r\n\r\nhi",
    "length and no chunks": b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi\n",
    "chunk size": b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "chunk too long": b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
    "nul": b"X: \0\r\nContent-Length: 2\r\n\r\nhi",
}


class Case(SynchronousTestCase):
    def parse(self, *chunks, method=b"GET", limits=None, listener=None):
        self.events = listener or RecordingListener()
        self.parser = ResponseParser(limits or HeaderLimits())
        self.parser.expect(method, self.events)
        for chunk in chunks:
            self.parser.feed(chunk)
        return self.events


class GoodResponseTests(Case):
    @given(st.sampled_from(sorted(GOOD)), st.lists(st.integers(0, 500), max_size=5))
    def test_however_they_are_cut(self, name, places):
        wire, method, body, keep_alive = GOOD[name]
        events = self.parse(*cut(wire, places), method=method)
        self.assertEqual((events.body, self.parser.done), (body, True), name)
        self.assertEqual((self.parser.done, self.parser.keep_alive), (True, keep_alive), name)

    def test_byte_by_byte(self):
        for name, (wire, method, body, _) in GOOD.items():
            events = self.parse(*cut(wire, range(len(wire))), method=method)
            self.assertEqual((events.body, self.parser.done), (body, True), name)

    def test_the_head_keeps_what_was_sent(self):
        lines = b"X-One: 1\r\nx-one:2\r\nContent-Encoding: GZIP\r\ncontent-encoding: br\r\n"
        head = self.parse(b"HTTP/1.0 404 Not here\r\n" + lines + b"Content-Length: 7\r\n\r\n").head
        self.assertEqual((head.status, head.reason, head.version), (404, b"Not here", "1.0"))
        self.assertEqual((head.length, head.encoding), (7, b"gzip,br"))
        self.assertEqual(head.headers.all(b"x-one"), [b"1", b"2"])
        self.assertEqual(head.headers.get(b"x-one"), b"1, 2")
        self.assertIsNone(head.headers.get(b"x-two"))
        self.assertIn(b"x-one", head.headers)
        self.assertEqual(next(iter(head.headers)), (b"X-One", b"1"))

    def test_blanks_around_a_value_are_not_a_part_of_it(self):
        for end in (b"\r\n", b"\n", b"\r\nY : 2\r\n"):
            head = self.parse(OK + b"X: \t 1 2 \t" + end + b"\r\n").head
            self.assertEqual(head.headers.get(b"x"), b"1 2")

    def test_trailers_come_with_the_end(self):
        head = self.parse(CHUNKED).head
        self.assertEqual(list(head.trailers), [(b"Digest", b"1"), (b"X", b"2")])
        self.assertNotIn(b"digest", head.headers)

    def test_without_a_length_the_connection_ends_the_body(self):
        events = self.parse(OK + b"\r\n", b"some", b"thing")
        self.assertEqual((events.body, events.head.length), (b"something", None))
        self.parser.finish()
        self.assertEqual((self.parser.done, self.parser.keep_alive), (True, False))

    def test_one_parser_reads_the_next_response_after_any_other(self):
        for wire, method, _, keep_alive in GOOD.values():
            if not keep_alive:
                continue
            self.parse(wire, method=method)
            events = RecordingListener()
            self.parser.expect(b"GET", events)
            self.parser.feed(CHUNKED)
            self.assertEqual((events.body, self.parser.done), (b"abcde", True))

    def test_bytes_after_a_response_end_only_the_connection(self):
        wire = OK + b"Content-Length: 2\r\n\r\nhi"
        for chunks in ((wire + b"more",), (wire + wire,), (wire, wire)):
            events = self.parse(*chunks)
            self.assertEqual((events.body, self.parser.done), (b"hi", True))
            self.assertFalse(self.parser.keep_alive)


class LargeBodyTests(Case):
    """Large bodies bypass llhttp."""

    size = LARGE + 1000
    head = OK + b"Content-Length: %d\r\n\r\n" % size
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)

    @given(st.lists(st.integers(0, LARGE + 2000), max_size=5))
    def test_however_they_are_cut_and_the_connection_serves_on(self, places):
        events = self.parse(*cut(self.head + self.body, places))
        self.assertTrue(events.body == self.body)
        self.assertEqual((self.parser.done, self.parser.keep_alive), (True, True))
        again = RecordingListener()
        self.parser.expect(b"GET", again)
        self.parser.feed(CHUNKED)
        self.assertEqual(again.body, b"abcde")

    def test_bytes_after_a_response_end_the_connection(self):
        for cut_at in (len(self.head) + 10, len(self.head) + self.size):
            events = self.parse(*cut(self.head + self.body + b"more", [cut_at]))
            self.assertTrue(events.body == self.body)
            self.assertEqual((self.parser.done, self.parser.keep_alive), (True, False))

    def test_an_incomplete_response_is_an_error(self):
        self.parse(self.head, self.body[:-1])
        error = self.assertRaises(TruncatedBody, self.parser.finish)
        self.assertIn(f"after {self.size - 1} of {self.size} bytes", str(error))


class IrregularResponseTests(Case):
    """`LenientParser` takes over; tests/http/test_responses.py has all that it reads."""

    def test_the_listener_gets_nothing_twice(self):
        chunks = b"3\r\nabc\r\n" * 3 + b"2\nde\n0\nX : 1\n\n"
        wire = CHUNKED.partition(b"3;x")[0] + chunks
        for places in ([], [60, 61, 90], range(len(wire))):
            events = self.parse(*cut(wire, places))
            self.assertEqual((events.body, self.parser.done), (b"abcabcabcde", True))
            self.assertEqual(list(events.head.trailers), [(b"X", b"1")])
            self.assertFalse(self.parser.keep_alive)

    def test_folded_lines_and_carriage_returns_become_blanks(self):
        wire = OK + b"A: one \r\n\t two\r\nB\t: x\ry \r\nC: \r\n 3\r\n : 4\r\n\r\n"
        lines = [(b"A", b"one  two"), (b"B", b"x y"), (b"C", b"3 : 4")]
        self.assertEqual(list(self.parse(wire).head.headers), lines)

    def test_the_head_comes_before_what_is_wrong_with_the_body(self):
        for name, line in LIES.items():
            with self.assertRaises(BadResponse):
                self.parse(OK + line)
            self.assertEqual(self.events.head is None, name == "nul", name)

    def test_an_odd_interim_response_ends_the_connection(self):
        early = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n"
        events = self.parse(early + OK + b"Content-Length: 2\r\n\r\nhi")
        self.assertEqual((events.body, self.parser.keep_alive), (b"hi", False))

    def test_chunks_that_turn_odd_late_are_refused(self):
        wire = CHUNKED.partition(b"3;x")[0] + b"8000\r\n" + bytes(0x8000) + b"\r\n"
        more = wire.partition(b"\r\n\r\n")[2]
        error = self.assertRaises(BadResponse, self.parse, wire, more, more, b"1\nx\n")
        self.assertIn("after 98304 bytes of a body in chunks", str(error))

    def test_sizes_of_the_last_chunks_may_be_padded(self):
        wire = CHUNKED.partition(b"3;x")[0] + b"8000\r\n" + bytes(0x8000) + b"\r\n"
        more = wire.partition(b"\r\n\r\n")[2]
        events = self.parse(wire, more, more, b"1f  \r\n" + bytes(0x1F) + b"\r\n0   \r\n\r\n")
        self.assertEqual((len(events.body), self.parser.done), (3 * 0x8000 + 0x1F, True))

    def test_a_head_in_many_pieces_is_searched_once(self):
        searched = []

        class End:
            def search(self, data, start=0):
                searched.append(len(data) - start)
                return end.search(data, start)

        end = lenient._END
        self.patch(lenient, "_END", End())
        wire = OK + b"X : 1\r\nContent-Length: 2\r\nX: %b\r\n\r\nhi" % (b"x" * 10_000)
        self.assertEqual(self.parse(*cut(wire, range(0, len(wire), 10))).body, b"hi")
        self.assertLess(sum(searched), 2 * len(wire))

    def test_heads_of_any_form_take_linear_time(self):
        limits = HeaderLimits(size=2_000_000, lines=2_000_000)
        for part in (b"\r", b" ", b"\n ", b" \n ", b":", b"X :\r\n", b"\r\r\n "):
            head = OK + b"X" + part * (1_000_000 // len(part)) + b"\r\n\r\n"
            self.assertEqual(self.parse(head, method=b"HEAD", limits=limits).head.status, 200)


class LyingServerTests(Case):
    @given(st.sampled_from(sorted(LIES)), st.lists(st.integers(0, 200), max_size=4))
    def test_contradictions_are_refused_however_they_are_cut(self, name, places):
        self.assertRaises(BadResponse, self.parse, *cut(OK + LIES[name], places))
        self.assertFalse(self.parser.keep_alive)

    def test_invalid_http_is_refused(self):
        for wire in (
            b"SSH-2.0-OpenSSH\r\n",
            b"\x15\x03\x01\0\2\2\x50",
            b"HTTP/1.1 2x0 OK\r\n\r\n",
            b"HTTP/1.1 000 What\r\n\r\n",
        ):
            self.assertRaises(BadResponse, self.parse, wire)

    def test_an_unrequested_upgrade_is_refused(self):
        wire = b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nblob"
        self.assertRaises(BadResponse, self.parse, wire)

    def test_a_listener_may_refuse_a_head(self):
        listener = RecordingListener(refuse=BodyTooLarge("no"))
        for line in (b"Content-Length: 2", b"Content-Length: 2, 2"):
            with self.assertRaises(BodyTooLarge):
                self.parse(OK + line + b"\r\n\r\nhi", listener=listener)

    def test_a_listener_may_refuse_a_head_while_another_error_is_handled(self):
        listener = RecordingListener(refuse=BodyTooLarge("no"))
        try:
            int("of another connection")
        except ValueError:
            with self.assertRaises(BodyTooLarge):
                self.parse(OK + b"Content-Length: 2\r\n\r\nhi", listener=listener)

    @given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=3))
    def test_noise_never_gives_anything_but_named_errors(self, noise, places):
        for wire in (noise, OK + noise, OK + b"Transfer-Encoding: chunked\r\n\r\n" + noise):
            try:
                self.parse(*cut(wire, places))
                if not self.parser.done:
                    self.parser.finish()
            except (BadResponse, ConnectionLost):
                continue


class EarlyEndTests(Case):
    def end_after(self, wire):
        self.parse(*([wire] if wire else []))
        return self.parser.finish

    def test_each_stage_has_its_name(self):
        error = self.assertRaises(ConnectionLost, self.end_after(b""))
        self.assertIn("before a response", str(error))
        error = self.assertRaises(ConnectionLost, self.end_after(OK))
        self.assertIn("within the header", str(error))
        error = self.assertRaises(
            TruncatedBody, self.end_after(OK + b"Content-Length: 5\r\n\r\nhel")
        )
        self.assertIn("3 of 5 bytes", str(error))
        error = self.assertRaises(TruncatedBody, self.end_after(CHUNKED[:-2]))
        self.assertIn("after 5 bytes", str(error))


class LimitTests(Case):
    limits = HeaderLimits(size=1000, lines=10)

    def test_long_header_lines_are_fine_within_the_limit(self):
        wire = OK + b"X: " + b"x" * 20_000 + b"\r\nContent-Length: 0\r\n\r\n"
        self.assertEqual(len(self.parse(wire).head.headers.get(b"x")), 20_000)

    def test_too_many_bytes_are_refused_complete_or_not(self):
        line = b"X: " + b"x" * 1000
        for wire in (OK + line, OK + line + b"\r\n\r\n"):
            self.assertRaises(HeadersTooLarge, self.parse, wire, limits=self.limits)
            self.assertRaises(
                HeadersTooLarge, self.parse, *cut(wire, range(2000)), limits=self.limits
            )

    def test_a_long_body_in_the_same_read_is_no_header(self):
        wire = OK + b"Content-Length: 5000\r\n\r\n" + b"x" * 5000
        self.assertEqual(len(self.parse(wire, limits=self.limits).body), 5000)

    def test_two_lengths_do_not_make_a_head_endless(self):
        for once in (b"X: 1\r\n", b"x"):
            chunks = [OK + b"Content-Length: 2\r\nContent-Length: 2\r\n", *[once] * 1500]
            self.assertRaises(HeadersTooLarge, self.parse, *chunks, limits=self.limits)

    def test_too_many_lines_are_refused(self):
        wire = OK + b"X: 1\r\n" * 11 + b"\r\n"
        self.assertRaises(HeadersTooLarge, self.parse, wire, limits=self.limits)

    def test_endless_interim_responses_trailers_and_chunk_extensions_are_refused(self):
        chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n"
        for first, again in (
            (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
            (chunked + b"0\r\n", b"X: 1\r\n"),
            (chunked + b"0\r\nX: ", b"x" * 10),
            (chunked + b"5;", b"x" * 10),
        ):
            chunks = [first, *[again] * 200] if first else [again] * 200
            self.assertRaises(HeadersTooLarge, self.parse, *chunks, limits=self.limits)
