"""A run against a server in memory, second by second: what is sent, and when."""

from twisted.internet import error

from tests.load.memory_server import RunTestCase, begin


class ClosedLoopTests(RunTestCase):
    def test_each_answer_lets_the_next_message_go(self):
        report = self.report(2, seconds=1, connections=2)
        self.assertEqual(report.latencies.count, 20)
        self.assertAlmostEqual(report.latencies.p50, 0.1, places=2)
        self.assertEqual((report.failure, report.unanswered), (None, 0))

    def test_an_answer_in_pieces_is_one_answer(self):
        self.reactor.delay = None
        _, report = begin(self.reactor, seconds=None, count=1, connections=1)
        (line,) = self.reactor.lines
        for byte in range(8):
            line.deliver(line.sent[0][byte : byte + 1])
        self.assertEqual(self.successResultOf(report).answered, 1)

    def test_depth_is_how_many_are_in_flight(self):
        report = self.report(2, seconds=1, connections=2, depth=5)
        self.assertEqual(len(self.reactor.lines[0].sent[0]), 5 * 8)
        self.assertEqual(report.latencies.count, 100)

    def test_a_count_is_sent_exactly(self):
        report = self.report(2, seconds=None, count=7, connections=2, depth=2)
        sent = b"".join(b"".join(line.sent) for line in self.reactor.lines)
        self.assertEqual((len(sent), report.answered, report.failure), (7 * 8, 7, None))

    def test_fewer_messages_than_connections_leave_some_silent(self):
        report = self.report(2, seconds=None, count=1, connections=3)
        self.assertEqual((report.answered, report.failure), (1, None))

    def test_the_warm_up_is_not_measured(self):
        self.reactor.delay = 0.4
        _, report = begin(self.reactor, seconds=2, warm_up=1)
        self.pass_time(0.9)
        self.reactor.delay = 0.1
        self.pass_time(5)
        found = self.successResultOf(report)
        self.assertLess(found.latencies.p50, 0.12)
        self.assertAlmostEqual(found.seconds, 2, places=1)

    def test_connections_are_closed_at_the_end(self):
        self.report(2, seconds=1)
        self.assertFalse(any(line.connected for line in self.reactor.lines))
        self.assertEqual((self.reactor.aborted, self.reactor.getDelayedCalls()), (0, []))

    def test_a_server_that_keeps_connections_open_is_left(self):
        self.reactor.holds_on = True
        self.report(3, seconds=1)
        self.assertEqual(self.reactor.aborted, 2)

    def test_idle_connections_say_nothing(self):
        report = self.report(2, seconds=1, connections=2, idle=3)
        self.assertEqual(
            [bool(line.sent) for line in self.reactor.lines], [True] * 2 + [False] * 3
        )
        self.assertEqual(report.connections.opened, 5)


class OpenLoopTests(RunTestCase):
    def test_messages_keep_their_rate_whatever_the_server_does(self):
        self.reactor.delay = 0.5
        report = self.report(3, seconds=1, rate=20)
        self.assertIn(report.latencies.count, (20, 21))
        self.assertAlmostEqual(report.latencies.p50, 0.5, places=1)
        self.assertEqual(report.unanswered, 0)

    def test_connections_take_turns(self):
        self.report(3, seconds=1, rate=20, connections=4)
        counts = [len(line.sent) for line in self.reactor.lines]
        self.assertLessEqual(max(counts) - min(counts), 1)

    def test_latency_counts_from_the_intended_start(self):
        """A generator that sleeps for a second does not hide that second."""
        _, report = begin(self.reactor, seconds=2, rate=100)
        self.pass_time(0.5)
        self.reactor.advance(1)
        self.pass_time(2)
        found = self.successResultOf(report)
        self.assertGreater(found.latencies.max, 1.0)
        self.assertGreater(found.latencies.p50, 0.1)
        self.assertRegex(found.saturated, "sent more than .* ms late")

    def test_a_late_generator_catches_up_in_steps(self):
        """Between them it reads answers, and notices that it is time to end."""
        run, _ = begin(self.reactor, seconds=60, rate=100, connections=1)
        (line,) = self.reactor.lines
        sent = []
        self.reactor.callLater(24.99, lambda: sent.append(len(line.sent)))
        self.reactor.advance(25)
        self.assertEqual((sent, len(line.sent)), ([1001], 2501))
        run.stop()

    def test_a_server_that_does_not_read_is_not_written_to(self):
        _, report = begin(self.reactor, seconds=1, rate=100, connections=1)
        line = self.reactor.lines[0]
        self.pass_time(0.1)
        line.producer.pauseProducing()
        before = len(line.sent)
        self.pass_time(0.5)
        self.assertEqual(len(line.sent), before)
        line.producer.resumeProducing()
        self.assertGreaterEqual(len(line.sent[-1]), 49 * 8)
        line.producer.pauseProducing()
        line.producer.resumeProducing()
        self.pass_time(2)
        found = self.successResultOf(report)
        self.assertGreater(found.latencies.max, 0.5)
        self.assertEqual((found.unanswered, found.failure), (0, None))

    def test_a_count_ends_it(self):
        report = self.report(3, seconds=None, count=5, rate=100)
        self.assertEqual((report.answered, report.failure), (5, None))

    def test_lost_connections_lose_their_turn(self):
        _, report = begin(self.reactor, seconds=1, rate=100)
        self.pass_time(0.2)
        self.reactor.lines[0].lose(error.ConnectionDone())
        self.pass_time(3)
        found = self.successResultOf(report)
        self.assertGreaterEqual(found.latencies.count, 80)
        self.assertEqual(found.connections.lost, {"closed by the server": 1})

    def test_without_any_connection_it_does_not_begin(self):
        self.reactor.refusals = [error.TimeoutError()] * 2
        report = self.report(0, seconds=10, rate=100)
        self.assertRegex(report.failure, "cannot connect")

    def test_without_connections_it_ends(self):
        _, report = begin(self.reactor, seconds=10, rate=100)
        self.pass_time(0.5)
        for line in self.reactor.lines:
            line.lose(error.ConnectionLost())
        self.pass_time(0.1)
        self.assertEqual(self.successResultOf(report).connections.lost, {"reset": 2})
