"""A run that insists on all its connections: each is answered, or nothing is measured."""

import errno

from twisted.internet import error

from tests.load.memory_server import begin
from tests.load.test_run import RunTestCase


class GreetingTests(RunTestCase):
    def begin(self, **plan):
        return begin(self.reactor, ready_within=5, timeout=1, seconds=1, **plan)

    def test_all_are_answered_once_before_anything_is_measured(self):
        _, report = self.begin(connections=2, idle=3)
        self.pass_time(0.05)
        self.assertEqual([len(line.sent) for line in self.reactor.lines], [1] * 5)
        self.pass_time(3)
        found = self.successResultOf(report)
        self.assertEqual((found.unready, found.failure, found.latencies.count), (None, None, 20))
        self.assertEqual([len(line.sent) for line in self.reactor.lines[2:]], [1] * 3)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_thousands_are_not_asked_all_at_once(self):
        _, report = self.begin(connections=10, idle=490)
        self.assertEqual(sum(len(line.sent) for line in self.reactor.lines), 200)
        self.pass_time(3)
        found = self.successResultOf(report)
        self.assertEqual((found.unready, found.latencies.count), (None, 100))
        self.assertEqual({len(line.sent) for line in self.reactor.lines[10:]}, {1})

    def test_stopping_while_some_are_not_yet_asked(self):
        self.reactor.delay = None
        run, report = self.begin(connections=10, idle=490)
        run.stop()
        self.assertTrue(self.successResultOf(report).interrupted)

    def test_a_silent_connection_ends_the_run(self):
        answers = iter([b"", b""])
        self.reactor.answer = lambda data: next(answers, data)
        _, report = self.begin(connections=2, idle=8)
        self.pass_time(2.5)
        found = self.successResultOf(report)
        self.assertEqual(found.failure, "2 of 10 connections were never answered")
        self.assertEqual((found.answered, found.seconds), (8, 0))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_slow_answers_are_waited_for_as_long_as_they_come(self):
        delays = iter([0.9, 1.8, 2.7, 3.6, 4.5, 5.4])
        deliver = self.reactor.callLater

        def late(seconds, function, *arguments):
            is_answer = getattr(function, "__name__", "") == "deliver"
            return deliver(next(delays, 0.1) if is_answer else seconds, function, *arguments)

        self.reactor.callLater = late
        _, report = self.begin(connections=6)
        self.pass_time(6)
        wanted = "1 of 6 connections had not been answered after 5 s"
        self.assertEqual(self.successResultOf(report).failure, wanted)

    def test_the_first_refusal_ends_the_run(self):
        refused = error.ConnectionRefusedError(errno.ECONNREFUSED, "no")
        self.reactor.refusals = [refused]
        _, report = self.begin(connections=1, idle=299)
        self.pass_time(0.1)
        found = self.successResultOf(report)
        self.assertEqual(found.connections.failed, {"Connection refused": 1})
        self.assertRegex(found.failure, "(cannot connect to .*|of 300 connections open): Conn")

    def test_a_handshake_that_is_never_completed(self):
        self.reactor.hangs = True
        _, report = self.begin(connections=2)
        self.pass_time(5.1)
        found = self.successResultOf(report)
        self.assertEqual(found.unready, "only 0 of 2 connections open in 5 s")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_server_that_hangs_up(self):
        self.reactor.delay = None
        _, report = self.begin(connections=2)
        for line in list(self.reactor.lines):
            line.lose(error.ConnectionDone())
        self.pass_time(0.1)
        wanted = "2 of 2 connections were never answered: closed by the server"
        self.assertEqual(self.successResultOf(report).failure, wanted)

    def test_a_wrong_answer_comes_first(self):
        self.reactor.answer = lambda data: data.upper() + b"x"
        _, report = self.begin(connections=2)
        self.pass_time(3)
        self.assertRegex(self.successResultOf(report).failure, "wrong answers on 2 connections")

    def test_stopping_meanwhile(self):
        self.reactor.delay = None
        run, report = self.begin(connections=2)
        self.pass_time(0.1)
        run.stop()
        found = self.successResultOf(report)
        self.assertEqual((found.interrupted, found.failure), (True, None))
