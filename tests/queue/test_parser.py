"""The parser: good lines, bad lines, bodies, in portions of any size."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.queue import session
from evserve.queue.parser import LINES, Parser


def parse(data, max_job_size=10, step=None):
    parser = Parser(max_job_size)
    step = step or len(data)
    commands = []
    for start in range(0, len(data), step):
        parser.feed(data[start : start + step])
        commands += take(parser)
    return commands


def take(parser):
    """Take out all complete commands, each as (verb, argument, ...)."""
    taken = []
    while (command := parser.next_command()) is not None:
        taken.append((command[0], *command[1]))
    return taken


GOOD = {
    b"use foo": ("use", "foo"),
    b"use " + b"a" * 200: ("use", "a" * 200),
    b"use A-z+0/;.$_()": ("use", "A-z+0/;.$_()"),
    b"reserve": ("reserve",),
    b"reserve-with-timeout 3": ("reserve-with-timeout", 3),
    b"reserve-job 3": ("reserve-job", 3),
    b"delete 18446744073709551615": ("delete", 2**64 - 1),
    b"delete   7": ("delete", 7),
    b"release 1 2 3": ("release", 1, 2, 3),
    b"bury 1 2": ("bury", 1, 2),
    b"touch 1": ("touch", 1),
    b"watch t": ("watch", "t"),
    b"ignore t": ("ignore", "t"),
    b"peek 1": ("peek", 1),
    b"peek-ready": ("peek-ready",),
    b"peek-delayed": ("peek-delayed",),
    b"peek-buried": ("peek-buried",),
    b"kick 18446744073709551615": ("kick", 2**64 - 1),
    b"kick-job 5": ("kick-job", 5),
    b"stats": ("stats",),
    b"stats-job 5": ("stats-job", 5),
    b"stats-tube t": ("stats-tube", "t"),
    b"list-tubes": ("list-tubes",),
    b"list-tube-used": ("list-tube-used",),
    b"list-tubes-watched": ("list-tubes-watched",),
    b"pause-tube t 4294967295": ("pause-tube", "t", 2**32 - 1),
    b"pause-tube " + b"a" * 200 + b" 4294967295": ("pause-tube", "a" * 200, 2**32 - 1),
    b"quit": ("quit",),
    b"quitting": ("quit",),
    b"reserve-from 0": ("reserve-from", 0),
    b"reserve-batch 1000 9": ("reserve-batch", 1000, 9),
    b"bind " + b"a" * 200 + b" " + b"b" * 200: ("bind", "a" * 200, "b" * 200),
    b"unbind a b": ("unbind", "a", "b"),
    b"truncate t": ("truncate", "t"),
    b"position ticks": ("position", "ticks"),
    b"advance ticks 9223372036854775807": ("advance", "ticks", 2**63 - 1),
    b"advance-put %b 9223372036854775807 %b 4294967295 1 2\r\nxy" % (200 * b"s", 200 * b"t"): (
        *("advance-put", 200 * "s", 2**63 - 1, 200 * "t", 2**32 - 1, 1),
        b"xy",
    ),
    b"delete-keep 1 604800 2\r\n\r\n": ("delete-keep", 1, 604800, b"\r\n"),
    b"bury-keep 1 9 2147483647 0\r\n": ("bury-keep", 1, 9, 2**31 - 1, b""),
    b"history 1000": ("history", 1000),
    b"history-tube t 1": ("history-tube", "t", 1),
    b"list-bindings": ("list-bindings",),
    b"drain on": ("drain", "on"),
    b"drain off": ("drain", "off"),
}

BAD_FORMAT = (
    *(b"use ", b"use -a", b"use  a", b"use a b", b"use a\tb", b"use \xc3\xa9", b"use a*"),
    *(b"use " + b"a" * 201, b"watch " + b"a" * 201, b"pause-tube " + b"a" * 201 + b" 1"),
    *(b"delete ", b"delete x", b"delete -1", b"delete +1", b"delete 1 ", b"delete 1 2"),
    *(b"delete 18446744073709551616", b"delete 1\0", b"peek 1e3", b"peek 0x1", b"peek 1.0"),
    *(b"release 1", b"release 1 2", b"release 1 2 4294967296", b"bury 1", b"touch "),
    *(b"put ", b"put 1 2 3", b"put a b c d", b"put -1 0 0 0", b"put 4294967296 0 0 0"),
    *(b"put 0 4294967296 0 0", b"put 0 0 4294967296 0", b"put 0 0 0 4294967296"),
    *(b"put 0 0 0 1 ", b"put 0 0 0 1 2", b"put-key  0 0 0 0", b"put-key -k 0 0 0 0"),
    *(b"reserve ", b"reserves", b"reserve-with-timeout", b"reserve-with-timeout -1"),
    *(b"reserve-with-timeout 2147483648", b"reserve-batch 1001 0", b"reserve-from"),
    *(b"stats ", b"statsx", b"stats-job", b"stats-tube", b"stats-tube -x", b"list-tubes "),
    *(b"list-tube-used 1", b"peek-ready 1", b"pause-tube", b"pause-tube t", b"kick x"),
    *(b"pause-tube t 4294967296", b"\0", b"foo\0bar", b"truncate ", b"bind a", b"bind a -b"),
    *(b"position ", b"advance a", b"advance a -1", b"advance a 9223372036854775808"),
    *(b"advance-put a 1 t 0 1", b"delete-keep 1 2", b"bury-keep 1 2 3", b"history 1001"),
    *(b"delete-keep 1 2147483648 0", b"history 0", b"history-tube t", b"history-tube 1"),
    *(b"drain ", b"drain ON", b"drain 1"),
    *(b"x" * 223, b"use " + b"a" * 1000, b"bind " + b"a" * 600),
)

UNKNOWN = (
    *(b"", b" ", b"foo", b"put", b"use", b"peek", b"delete", b"Reserve", b"STATS", b" stats"),
    *(b"touch", b"list-tube", b"kick", b"kick-job", b"\xff\xfe", b"watch", b"x" * 222, b"bind"),
    *(b"drain", b"list-bindings "),
)


class LineTests(SynchronousTestCase):
    def test_every_good_line(self):
        for line, call in GOOD.items():
            self.assertEqual(parse(line + b"\r\n"), [call], line)

    def test_lines_that_are_badly_formed(self):
        for line in BAD_FORMAT:
            self.assertEqual(parse(line + b"\r\n"), [("refuse", b"BAD_FORMAT\r\n")], line)

    def test_lines_that_are_unknown(self):
        for line in UNKNOWN:
            self.assertEqual(parse(line + b"\r\n"), [("refuse", b"UNKNOWN_COMMAND\r\n")], line)

    def test_every_verb_is_carried_out_by_a_session(self):
        for verb in ("refuse", "refuse-put", *(line.name for line in LINES.values())):
            self.assertTrue(callable(session.VERBS[verb].run), verb)

    def test_a_line_feed_alone_ends_no_line(self):
        self.assertEqual(parse(b"stats\n"), [])

    def test_a_line_without_end_is_forgotten_and_refused_at_its_end(self):
        parser = Parser(10)
        for _ in range(100):
            parser.feed(b"x" * 1000)
            self.assertEqual(take(parser), [])
            self.assertLess(parser.pending, 1001)
        parser.feed(b"x\r")
        self.assertEqual(take(parser), [])
        parser.feed(b"\nstats\r\n")
        self.assertEqual(take(parser), [("refuse", b"BAD_FORMAT\r\n"), ("stats",)])


class BodyTests(SynchronousTestCase):
    def test_a_body_may_hold_anything(self):
        body = b"\r\n\0\xff\r\n"
        calls = parse(b"put 1 2 3 6\r\n" + body + b"\r\nstats\r\n")
        self.assertEqual(calls, [("put", 1, 2, 3, body), ("stats",)])

    def test_bodies_of_no_byte_and_of_exactly_the_limit(self):
        calls = parse(b"put 0 0 0 0\r\n\r\nput 0 0 0 10\r\n0123456789\r\n")
        self.assertEqual([call[-1] for call in calls], [b"", b"0123456789"])

    def test_a_body_beyond_the_limit_is_skipped_and_the_next_command_obeyed(self):
        calls = parse(b"put 0 0 0 11\r\n01234567890\r\nstats\r\n")
        self.assertEqual(calls, [("refuse-put", b"JOB_TOO_BIG\r\n"), ("stats",)])

    def test_a_result_may_be_larger_than_an_event_but_has_its_own_limit(self):
        result = bytes(65536)
        calls = parse(b"delete-keep 1 1 65536\r\n%b\r\nstats\r\n" % result)
        self.assertEqual(calls, [("delete-keep", 1, 1, result), ("stats",)])
        calls = parse(b"bury-keep 1 1 1 65537\r\n%b\r\nstats\r\n" % bytes(65537))
        self.assertEqual(calls, [("refuse", b"JOB_TOO_BIG\r\n"), ("stats",)])
        calls = parse(b"advance-put a 1 t 0 1 11\r\n01234567890\r\nstats\r\n")
        self.assertEqual(calls, [("refuse", b"JOB_TOO_BIG\r\n"), ("stats",)])

    def test_two_gigabytes_announced_keep_no_memory(self):
        parser = Parser(65535)
        parser.feed(b"put 0 0 0 2147483648\r\n")
        self.assertEqual(take(parser), [])
        for _ in range(64):
            parser.feed(b"stats\r\n" * 10000)
            self.assertEqual(take(parser), [])
            self.assertEqual(parser.pending, 0)

    def test_a_body_that_does_not_end_where_it_should(self):
        calls = parse(b"put 0 0 0 3\r\nabcdestats\r\n")
        self.assertEqual(calls, [("refuse-put", b"EXPECTED_CRLF\r\n"), ("stats",)])
        calls = parse(b"delete-keep 1 1 3\r\nabcdestats\r\n")
        self.assertEqual(calls, [("refuse", b"EXPECTED_CRLF\r\n"), ("stats",)])

    def test_a_key(self):
        self.assertEqual(
            parse(b"put-key " + b"k" * 200 + b" 4294967295 4294967295 4294967295 1\r\nx\r\n"),
            [("put-key", "k" * 200, 2**32 - 1, 2**32 - 1, 2**32 - 1, b"x")],
        )


class FlowTests(SynchronousTestCase):
    def test_what_is_not_taken_stays(self):
        parser = Parser(10)
        parser.feed(b"reserve\r\nstats\r\n")
        self.assertEqual(parser.next_command(), ("reserve", []))
        self.assertEqual(parser.pending, 7)
        self.assertEqual(take(parser), [("stats",)])

    def test_what_is_not_taken_comes_before_what_is_fed_later(self):
        parser = Parser(10)
        parser.feed(b"use a\r\nstats\r\n")
        self.assertEqual(parser.next_command(), ("use", ["a"]))
        parser.feed(b"use b\r\n")
        self.assertEqual(take(parser), [("stats",), ("use", "b")])


PIECES = st.sampled_from(
    [
        *(line + b"\r\n" for line in GOOD),
        *(line + b"\r\n" for line in (*BAD_FORMAT, *UNKNOWN)),
        *(b"put 1 2 3 4\r\nabcd\r\n", b"put 0 0 0 0\r\n\r\n", b"put 0 0 0 12\r\n" + b"\r\n" * 7),
        *(b"put-key k 1 2 3 10\r\n0123456789\r\n", b"put 0 0 0 1\r\nxyz"),
    ]
)


class SplitTests(SynchronousTestCase):
    @settings(max_examples=200, database=None)
    @given(st.lists(PIECES, min_size=1, max_size=8), st.integers(1, 40))
    def test_the_portions_do_not_matter(self, pieces, step):
        data = b"".join(pieces)
        self.assertEqual(parse(data, step=step), parse(data))
