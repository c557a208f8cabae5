"""From a command line to a plan."""

import os
from pathlib import Path

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from evserve.load import options
from evserve.load.options import Options
from evserve.load.plan import Plan


def plan(*words):
    parsed = Options()
    parsed.parseOptions(words)
    return parsed.plan()


class OptionsTests(SynchronousTestCase):
    def refuses(self, words, pattern):
        error = self.assertRaises(UsageError, plan, *words.split())
        self.assertRegex(str(error), pattern)

    def test_it_drives_echo_for_five_seconds(self):
        self.assertEqual(plan(), Plan("tcp:127.0.0.1:9000", 10, 64, seconds=5))

    def test_every_option_has_its_place(self):
        words = "--connect tcp:1 --connections 3 --idle 4 --size 5 --depth 6 --seconds .7 "
        words += f"--count 8 --warm-up 9 --timeout 10 --pid {os.getpid()}"
        self.assertEqual(
            plan(*words.split()),
            Plan(
                "tcp:1", 3, 5, 6, None, seconds=0.7, count=8, warm_up=9, idle=4,
                pid=os.getpid(), timeout=10,
            ),
        )  # fmt: skip

    def test_a_count_alone_has_no_end_in_time(self):
        self.assertIsNone(plan("--count", "7").seconds)

    def test_a_rate_is_an_open_loop(self):
        self.assertEqual(plan("--rate", "0.5").rate, 0.5)
        self.refuses("--rate 5 --depth 2", "--depth is for a closed loop")

    def test_lines_have_the_size_asked_for(self):
        made = plan("--lines", "--size", "10")
        self.assertEqual((len(made.line), made.size, made.expected), (8, 10, None))
        self.refuses("--lines --size 2", "--size 3 or more")

    def test_a_line_to_send_or_expect_is_enough(self):
        made = plan("--send", "PING")
        self.assertEqual((made.line, made.size), (b"PING", 6))
        self.assertEqual(plan("--expect", "+PONG").expected, b"+PONG")
        self.assertEqual(plan("--send", "", "--size", "1").line, b"")

    def test_numbers_that_make_no_sense_are_refused(self):
        for words in (
            "--connections 0",
            "--connections x",
            "--idle -1",
            "--size 0",
            "--size 99999999999",
            "--rate 0",
            "--seconds nan",
            "--seconds x",
            "--warm-up 1e9",
            "--timeout 0",
            "--count 0",
        ):
            self.refuses(words, "not a")

    def test_the_process_must_be_there(self):
        self.refuses("--pid 999999999", "no such process")
        self.patch(options, "PROC", Path(self.mktemp()))
        self.refuses("--pid 1", "needs /proc")
