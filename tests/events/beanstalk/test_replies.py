from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.events.beanstalk.replies import MalformedReply, Reply, ReplyParser


WIRE = b"INSERTED 1\r\nRESERVED 7 5\r\na\r\nb\n\r\nOK 0\r\n\r\nTIMED_OUT\r\n"
REPLIES = [
    Reply(b"INSERTED", (b"1",)),
    Reply(b"RESERVED", (b"7",), b"a\r\nb\n"),
    Reply(b"OK"),
    Reply(b"TIMED_OUT"),
]


class ReplyParserTests(SynchronousTestCase):
    def test_several_replies_in_one_piece(self):
        self.assertEqual(ReplyParser().feed(WIRE), REPLIES)

    @given(st.lists(st.integers(0, len(WIRE))))
    def test_replies_cut_anywhere(self, cuts):
        edges = [0, *sorted(cuts), len(WIRE)]
        parser = ReplyParser()
        pieces = [WIRE[start:end] for start, end in pairwise(edges)]
        self.assertEqual([reply for piece in pieces for reply in parser.feed(piece)], REPLIES)

    def test_nonsense_is_refused(self):
        for wire in (
            b"RESERVED 7 x\r\n",
            b"RESERVED 7\r\n",
            b"RESERVED 7 -1\r\n",
            b"OK 3\r\nabcd\r\n",
            b"x" * 1000,
        ):
            self.assertRaises(MalformedReply, ReplyParser().feed, wire)
