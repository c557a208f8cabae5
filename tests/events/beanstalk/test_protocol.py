from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.events import (
    BadEvent,
    Depth,
    Event,
    NotReserved,
    QueueError,
    QueueFull,
    QueueUnavailable,
    Unsupported,
)
from evserve.events.beanstalk import protocol
from evserve.events.beanstalk.protocol import MalformedReply, Reply, ReplyParser


WIRE = (
    b"INSERTED 1\r\nRESERVED 7 5\r\na\r\nb\n\r\n"
    b"RESERVED_BATCH 2\r\nRESERVED 8 1 mail\r\nc\r\nRESERVED 9 0 mail\r\n\r\n"
    b"OK 0\r\n\r\nTIMED_OUT\r\n"
)
REPLIES = [
    Reply(b"INSERTED", (b"1",)),
    Reply(b"RESERVED", (b"7",), b"a\r\nb\n"),
    Reply(
        b"RESERVED_BATCH",
        parts=(Reply(b"RESERVED", (b"8",), b"c"), Reply(b"RESERVED", (b"9",))),
    ),
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

    def test_malformed_replies_are_refused(self):
        for wire in (
            b"RESERVED 7 x\r\n",
            b"RESERVED 7\r\n",
            b"RESERVED 7 -1\r\n",
            b"OK 3\r\nabcd\r\n",
            b"RESERVED 7 1 mail\r\n",
            b"RESERVED_BATCH 2\r\nTIMED_OUT\r\n",
            b"x" * 1000,
        ):
            self.assertRaises(MalformedReply, ReplyParser().feed, wire)


class CommandTests(SynchronousTestCase):
    def test_put_counts_the_body_and_rounds_the_delay_up(self):
        wire = protocol.put(b"a\r\n", priority=1, delay=0.2, ttr=9).wire
        self.assertEqual(wire, b"put 1 1 9 3\r\na\r\n\r\n")

    def test_settling_names_the_event(self):
        event = Event("7", "mail", b"", priority=3)
        self.assertEqual(protocol.delete(event).wire, b"delete 7\r\n")
        self.assertEqual(protocol.release(event, 1.5).wire, b"release 7 3 2\r\n")
        self.assertEqual(protocol.bury(event).wire, b"bury 7 3\r\n")
        self.assertEqual(protocol.touch(event).wire, b"touch 7\r\n")

    def test_a_refusal_has_its_meaning_and_the_reply_itself(self):
        put = protocol.put(b"", 0, 0, 1)
        for word, kind in (
            (b"OUT_OF_MEMORY", QueueFull),
            (b"DRAINING", QueueFull),
            (b"BURIED", QueueFull),
            (b"JOB_TOO_BIG", BadEvent),
            (b"INTERNAL_ERROR", QueueUnavailable),
            (b"BAD_FORMAT", QueueError),
        ):
            error = self.assertRaises(kind, put.outcome, Reply(word, (b"\xff",)))
            self.assertIn(word.decode() + " \\xff", str(error))

    def test_a_refusal_shows_what_does_not_print_as_escapes(self):
        refused = protocol.delete(Event("7", "mail", b"")).outcome
        error = self.assertRaises(QueueError, refused, Reply(b"\x1b[2J", (b"\x9b",)))
        self.assertIn("(\\x1b[2J \\x9b)", str(error))

    def test_what_is_not_found_is_not_reserved(self):
        outcome = protocol.delete(Event("7", "mail", b"")).outcome
        self.assertRaises(NotReserved, outcome, Reply(b"NOT_FOUND"))

    def test_an_old_server_does_not_know_the_extensions(self):
        for command in (
            protocol.bind("a", "b"),
            protocol.unbind("a", "b"),
            protocol.list_bindings(),
            protocol.reserve_batch(2, 0),
            protocol.truncate("a"),
            protocol.drain(on=True),
        ):
            self.assertRaises(Unsupported, command.outcome, Reply(b"UNKNOWN_COMMAND"))

    def test_unbinding_what_is_not_bound_is_no_error(self):
        self.assertIsNone(protocol.unbind("a", "b").outcome(Reply(b"NOT_FOUND")))

    def test_kick_returns_the_number_of_events(self):
        self.assertEqual(protocol.kick(5).outcome(Reply(b"KICKED", (b"2",))), 2)

    def test_no_event_in_time_is_none(self):
        outcome = protocol.reserve(1).outcome
        self.assertIsNone(outcome(Reply(b"TIMED_OUT")))
        self.assertIsNone(outcome(Reply(b"DEADLINE_SOON")))

    def test_a_job_that_is_gone_is_none(self):
        taken = protocol.Taken("7", b"")
        self.assertIsNone(protocol.stats_job(taken).outcome(Reply(b"NOT_FOUND")))

    def test_statistics_may_quote_strings(self):
        """beanstalkd does so since 1.13."""
        for quote in ("", '"'):
            head = f"---\ncurrent-jobs-ready: 2\nname: {quote}a{quote}\npause-time-left: 3\n"
            yaml = head + "".join(
                f"current-jobs-{state}: 0\n" for state in ("reserved", "delayed", "buried")
            )
            reply = Reply(b"OK", (), yaml.encode())
            self.assertEqual(protocol.stats_tube("a").outcome(reply), Depth(ready=2, paused=3))
            tubes = Reply(b"OK", (), f"---\n- {quote}default{quote}\n- b\n".encode())
            self.assertEqual(protocol.list_tubes().outcome(tubes), ["default", "b"])
