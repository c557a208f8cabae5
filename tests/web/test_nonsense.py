"""Nonsense, broken requests and odd cuts: the fast channel is as strict as twisted.web's or more.

It never logs an error, never depends on where TCP cuts the bytes, and keeps little of what does
not end.
"""

from itertools import chain
from time import process_time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site

from evserve.web import fast
from tests.http.cut_bytes import cut
from tests.web.conversations import (
    END,
    READ_AGAIN,
    STOP_READING,
    chunked,
    get,
    post,
    request,
    sized,
)
from tests.web.memory_connection import connect
from tests.web.replay import STATUS, replay
from tests.web.resources import Seen, make_root


KEPT = 200_000  # bytes that a connection may take in before it stops reading or ends
# What makes a difference to parsers.
PIECES = [
    *(
        b"\r\n",
        b"\r",
        b"\n",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b"\0",
        b":",
        b",",
        b";",
        b"=",
        b'"',
        b"\xff",
    ),
    *(b"0", b"5", b"-1", b"0x5", b"+5", b"ffffffffffffffff", b"\x0b", b"\x7f", b"_", b"%", b"?"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Connection: close\r\n",
    ),
    *(b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"Connection: upgrade\r\n", b" fold\r\n"),
    *(
        b"Host: a\r\n",
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"CONNECT ",
        b"/ HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
    ),
    *(b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"5;a=b\r\n", b"hello"),
]
CUTS = st.lists(st.integers(0, 1000), max_size=8)


@st.composite
def chunked_bodies(draw):
    sizes = draw(st.lists(st.integers(1, 40), max_size=4))
    chunks = (b"%x%s\r\n%s\r\n" % (n, draw(EXTENSIONS), b"d" * n) for n in sizes)
    return b"".join(chunks) + b"0\r\n" + draw(TRAILERS) + b"\r\n"


EXTENSIONS = st.sampled_from([b"", b"", b";a", b";a=b", b';a="b c"'])
TRAILERS = st.sampled_from([b"", b"", b"X: y\r\n", b"X: y\r\nContent-Length: 3\r\n"])
TARGETS = st.sampled_from([b"/", b"/a", b"/a?b=c&d", b"/chunks", b"/code?204", b"/later", b"*"])
LINES = st.lists(
    st.sampled_from(
        [
            *(b"X: y", b"x:z ", b"Cookie: a=b; c", b"Accept: */*", b"X-\xc3: y", b"X:"),
            *(b"Connection: close", b"Connection: keep-alive", b"Expect: 100-continue"),
            *(b"Content-Type: text/plain", b"Content-Type: application/x-www-form-urlencoded"),
        ]
    ),
    max_size=4,
)
REQUESTS = st.one_of(
    st.builds(lambda target, lines: get(target, *lines), TARGETS, LINES),
    st.builds(lambda lines: request(b"HEAD /a HTTP/1.1", *lines), LINES),
    st.builds(lambda body, lines: sized(body, *lines), st.binary(max_size=60), LINES),
    st.builds(lambda body, lines: chunked(body, *lines), chunked_bodies(), LINES),
    st.just(b"GET /a HTTP/1.0\r\n\r\n"),
    st.just(post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
)
PIPELINES = st.lists(REQUESTS, min_size=1, max_size=3).map(b"".join)


@st.composite
def mutated(draw):
    """Return requests with some of their bytes removed, repeated, replaced or added."""
    data = draw(PIPELINES)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from([0, 0, 1, 1, 2, 7]))
        piece = draw(
            st.one_of(st.sampled_from(PIECES), st.just(b""), st.just(data[start:end] * 2))
        )
        data = data[:start] + piece + data[end:]
    return data


TURNS = st.lists(
    st.one_of(
        st.sampled_from([STOP_READING, READ_AGAIN, 1]),
        st.sampled_from(
            [get(b"/" + name) for name in (b"a", b"later", b"drip", b"push", b"pull", b"large")]
            + [sized(b"z" * 20_000), chunked(b"5\r\nhello\r\n0\r\n\r\n"), get(b"/chunks")]
        ),
    ),
    max_size=8,
)
NONSENSE = st.one_of(st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join), st.binary())


def examples(count):
    return settings(max_examples=count, derandomize=True, database=None)


class NonsenseTests(SynchronousTestCase):
    def compare(self, data, cuts):
        """Replay `data`, whole and in pieces, on both channels."""
        after = [3, 1]
        stock = replay(self, "stock", [data, *after])
        whole = replay(self, "fast", [data, *after])
        pieces = replay(self, "fast", [*cut(data, cuts), *after])
        self.assertEqual(whole.errors, [], data)
        self.assertEqual(
            (pieces.requests, pieces.ends, pieces.answer, pieces.state, pieces.errors),
            (whole.requests, whole.ends, whole.answer, whole.state, whole.errors),
            data,
        )
        self.assertEqual(whole.requests, stock.requests[: len(whole.requests)], data)
        answered, stock_answered = codes(whole), codes(stock)
        if whole.state == "closed":  # it may have refused what is not refused there
            answered = answered[:-1] if answered[-1:] == [b"400"] else answered
            stock_answered = stock_answered[: len(answered)]
        else:
            self.assertEqual(len(whole.requests), len(stock.requests), data)
            if stock.state == "closed" and stock_answered[len(answered) :] == [b"400"]:
                return  # its lines are refused one by one; here a head is, at its end
        self.assertEqual(answered, stock_answered, data)

    @examples(150)
    @given(PIPELINES, CUTS)
    def test_valid_requests(self, data, cuts):
        self.compare(data, cuts)

    @examples(400)
    @given(mutated(), CUTS)
    def test_requests_with_faults(self, data, cuts):
        self.compare(data, cuts)

    @examples(150)
    @given(NONSENSE, CUTS)
    def test_nonsense(self, data, cuts):
        self.compare(data, cuts)

    @examples(200)
    @given(NONSENSE, CUTS)
    def test_nonsense_for_a_body(self, data, cuts):
        self.compare(post(b"Transfer-Encoding: chunked", body=data), cuts)

    @examples(200)
    @given(TURNS, CUTS)
    def test_turns_of_sending_reading_and_waiting(self, turns, cuts):
        pieces = [cut(turn, cuts) if isinstance(turn, bytes) else [turn] for turn in turns]
        steps = [*chain(*pieces), READ_AGAIN, *[1] * 20, END]
        stock, whole = replay(self, "stock", steps), replay(self, "fast", steps)
        self.assertEqual(
            (whole.requests, whole.ends, whole.answer, whole.state, whole.errors, whole.log),
            (stock.requests, stock.ends, stock.answer, stock.state, stock.errors, stock.log),
        )


def codes(outcome):
    return STATUS.findall(outcome.answer)


class EndlessTests(SynchronousTestCase):
    """What does not end is not kept."""

    def takes(self, start, piece):
        """Return how many bytes are read of `start` and of `piece`, over and over."""
        clock = Clock()
        connection = connect(fast(Site(make_root(clock, Seen(), "missing"), reactor=clock)))
        connection.receive(start)
        taken = len(start)
        while connection.reading and connection.state == "open" and taken < 4 * KEPT:
            connection.receive(piece)
            taken += len(piece)
        connection.settle()
        state, sent = connection.state, bytes(connection.sent)
        connection.abortConnection()
        return taken, state, sent

    def assert_ends(self, start, piece):
        for size in (100, 3000):
            taken, state, _ = self.takes(start, (piece * size)[:size])
            self.assertLess(taken, KEPT)
            self.assertEqual(state, "closed")

    def test_a_method(self):
        self.assert_ends(b"", b"G")

    def test_a_target(self):
        self.assert_ends(b"GET /", b"a")

    def test_a_version(self):
        self.assert_ends(b"GET / HTTP/1.1", b"1")

    def test_empty_lines(self):
        self.assert_ends(b"", b"\r\n")

    def test_a_name(self):
        self.assert_ends(b"GET / HTTP/1.1\r\nX", b"X")

    def test_a_value(self):
        self.assert_ends(b"GET / HTTP/1.1\r\nX:", b"x")

    def test_blanks_before_a_value(self):
        self.assert_ends(b"GET / HTTP/1.1\r\nX:", b" ")

    def test_headers(self):
        self.assert_ends(b"GET / HTTP/1.1\r\n", b"X: y\r\n")

    def test_folds(self):
        self.assert_ends(b"GET / HTTP/1.1\r\nX: y\r\n", b" z\r\n")

    def test_a_chunk_size(self):
        self.assert_ends(chunked(b""), b"0")

    def test_a_chunk_extension(self):
        self.assert_ends(chunked(b"5;"), b"a")

    def test_a_trailer(self):
        self.assert_ends(chunked(b"0\r\nX: "), b"y")

    def test_trailers(self):
        self.assert_ends(chunked(b"0\r\n"), b"X: y\r\n")

    def test_requests_behind_one_that_is_not_answered(self):
        taken, state, sent = self.takes(get(b"/never"), get(b"/next"))
        self.assertLess(taken, KEPT)
        self.assertEqual((state, sent), ("open", b""))

    def test_a_body_behind_a_request_that_is_not_answered(self):
        taken, state, _ = self.takes(get(b"/never") + post(b"Content-Length: 99999999"), b"x" * 99)
        self.assertLess(taken, KEPT)
        self.assertEqual(state, "open")


class CostTests(SynchronousTestCase):
    """Many small pieces cost about what so many small pieces of a body cost."""

    PIECES = 4000

    def seconds(self, start, piece):
        """Return the CPU time that the pieces take, which may end the connection."""
        clock = Clock()
        connection = connect(fast(Site(make_root(clock, Seen(), "missing"), reactor=clock)))
        connection.receive(start)
        began = process_time()
        for _ in range(self.PIECES):
            connection.receive(piece)
        taken = process_time() - began
        connection.abortConnection()
        return taken

    def test_no_kind_of_piece_is_dear(self):
        body = min(self.seconds(post(b"Content-Length: 99999"), b"x") for _ in range(3))
        for start, piece in [
            (b"GET / HTTP/1.1\r\nX:", b"x"),
            (b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
            (b"GET /", b"x"),
            (chunked(b""), b"1\r\nx\r\n"),
            (chunked(b"ffff\r\n"), b"x"),
            (chunked(b"0\r\n"), b"X: y\r\n"),
            (get(b"/never"), b"x"),
            (get(b"/never"), get()),
        ]:
            taken = min(self.seconds(start, piece) for _ in range(3))
            self.assertLess(taken, 50 * body, (start, piece))
