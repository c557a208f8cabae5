"""A run against a server in memory, with a clock that the test moves."""

import errno

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from evserve.load import run as run_module
from evserve.load.connections import EndpointError, TooManyFilesError
from evserve.load.plan import Plan
from evserve.load.run import Schedule, run_load
from evserve.load.usage import Usage
from tests.load.memory_server import RunTestCase, begin


class ClosedLoopTests(RunTestCase):
    def test_each_answer_starts_the_next_message(self):
        report = self.report(2, seconds=1, connections=2)
        self.assertEqual(report.latencies.count, 20)
        self.assertAlmostEqual(report.latencies.p50, 0.1, places=2)
        self.assertEqual((report.failure, report.unanswered), (None, 0))

    def test_an_answer_in_pieces_is_one_answer(self):
        self.reactor.delay = None
        _, report = begin(self.reactor, seconds=None, count=1, connections=1)
        (line,) = self.reactor.connections
        for byte in range(8):
            line.deliver(line.sent[0][byte : byte + 1])
        self.assertEqual(self.successResultOf(report).answered, 1)

    def test_depth_is_how_many_are_in_flight(self):
        report = self.report(2, seconds=1, connections=2, depth=5)
        self.assertEqual(len(self.reactor.connections[0].sent[0]), 5 * 8)
        self.assertEqual(report.latencies.count, 100)

    def test_a_count_is_sent_exactly(self):
        report = self.report(2, seconds=None, count=7, connections=2, depth=2)
        sent = b"".join(b"".join(line.sent) for line in self.reactor.connections)
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
        self.assertFalse(any(line.connected for line in self.reactor.connections))
        self.assertEqual((self.reactor.aborted, self.reactor.getDelayedCalls()), (0, []))

    def test_a_server_that_keeps_connections_open_is_left(self):
        self.reactor.keeps_open = True
        self.report(3, seconds=1)
        self.assertEqual(self.reactor.aborted, 2)

    def test_idle_connections_say_nothing(self):
        report = self.report(2, seconds=1, connections=2, idle=3)
        self.assertEqual(
            [bool(line.sent) for line in self.reactor.connections], [True] * 2 + [False] * 3
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
        counts = [len(line.sent) for line in self.reactor.connections]
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
        (line,) = self.reactor.connections
        sent = []
        self.reactor.callLater(24.99, lambda: sent.append(len(line.sent)))
        self.reactor.advance(25)
        self.assertEqual((sent, len(line.sent)), ([1001], 2501))
        run.stop()

    def test_a_server_that_does_not_read_is_not_written_to(self):
        _, report = begin(self.reactor, seconds=1, rate=100, connections=1)
        line = self.reactor.connections[0]
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
        self.reactor.connections[0].lose(error.ConnectionDone())
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
        for line in self.reactor.connections:
            line.lose(error.ConnectionLost())
        self.pass_time(0.1)
        self.assertEqual(self.successResultOf(report).connections.lost, {"reset": 2})


class BadServerTests(RunTestCase):
    def test_a_wrong_answer_counts_once_per_connection(self):
        self.reactor.answer = lambda data: data[:-1] + b"!"
        report = self.report(3, seconds=1, connections=3, depth=4)
        self.assertEqual((report.wrong, report.unanswered), (3, 12))
        self.assertRegex(report.first_wrong, "byte 31 is 0x21")
        self.assertEqual(self.reactor.aborted, 3)

    def test_a_good_connection_continues_beside_a_wrong_one(self):
        _, report = begin(self.reactor, seconds=1, connections=2)
        self.pass_time(0.55)
        wrong = self.reactor.connections[0]
        self.patch(wrong, "abortConnection", lambda: None)
        wrong.deliver(b"spam")
        wrong.deliver(b"more")
        self.pass_time(2)
        found = self.successResultOf(report)
        self.assertEqual((found.wrong, found.unanswered), (1, 1))
        self.assertGreaterEqual(found.latencies.count, 14)

    def test_a_server_that_never_answers_times_out(self):
        self.reactor.delay = None
        report = self.report(4, seconds=1, timeout=2)
        self.assertEqual((report.unanswered, report.failure), (2, "nothing was answered"))

    def test_a_count_times_out_too(self):
        _, report = begin(self.reactor, seconds=None, count=10, timeout=2)
        self.pass_time(0.35)
        self.reactor.delay = None
        self.pass_time(9)
        failure = self.successResultOf(report).failure
        self.assertRegex(failure, r"\d of 10 messages were not answered")

    def test_a_server_that_closes_ends_the_run(self):
        _, report = begin(self.reactor, seconds=10)
        self.pass_time(0.5)
        for line in self.reactor.connections:
            line.lose(error.ConnectionDone())
        found = self.successResultOf(report)
        self.assertEqual(found.connections.lost, {"closed by the server": 2})
        self.assertLess(found.seconds, 1)

    def test_a_server_that_closes_at_once_ends_it_too(self):
        _, report = begin(self.reactor, seconds=10, warm_up=1)
        for line in self.reactor.connections:
            line.lose(error.ConnectionDone())
        self.assertEqual(self.successResultOf(report).failure, "nothing was answered")

    def test_failures_are_counted_by_cause(self):
        refused = error.ConnectionRefusedError(errno.ECONNREFUSED, "no")
        self.reactor.refusals = [
            refused,
            refused,
            error.TimeoutError(),
            error.DNSLookupError("no such host"),
            ValueError(),
        ]
        report = self.report(2, seconds=1, connections=6)
        self.assertEqual(
            report.connections.failed,
            {
                "Connection refused": 2,
                "timed out": 1,
                "DNS lookup failed: no such host.": 1,
                "ValueError": 1,
            },
        )
        self.assertEqual((report.connections.opened, report.failure), (1, None))

    def test_nothing_connects(self):
        self.reactor.refusals = [error.ConnectionRefusedError(errno.ECONNREFUSED, "no")] * 2
        report = self.report(0, seconds=1)
        self.assertRegex(report.failure, "cannot connect to tcp:127.0.0.1:1: Connection refused")
        self.assertIsNone(report.saturated)

    def test_another_source_address_is_used_when_ports_run_out(self):
        self.reactor.refusals = [error.getConnectError((errno.EADDRNOTAVAIL, "no port"))] * 2
        report = self.report(2, seconds=1, connections=3)
        self.assertEqual((report.connections.opened, report.connections.failed), (3, {}))
        self.assertEqual(self.reactor.tcpClients[-1][4], ("127.0.0.3", 0))


class ReadinessTests(RunTestCase):
    def begin(self, **plan):
        return begin(self.reactor, ready_within=5, timeout=1, seconds=1, **plan)

    def test_all_are_answered_once_before_anything_is_measured(self):
        _, report = self.begin(connections=2, idle=3)
        self.pass_time(0.05)
        self.assertEqual([len(line.sent) for line in self.reactor.connections], [1] * 5)
        self.pass_time(3)
        found = self.successResultOf(report)
        self.assertEqual((found.unready, found.failure, found.latencies.count), (None, None, 20))
        self.assertEqual([len(line.sent) for line in self.reactor.connections[2:]], [1] * 3)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_first_messages_are_sent_in_batches(self):
        _, report = self.begin(connections=10, idle=490)
        self.assertEqual(sum(len(line.sent) for line in self.reactor.connections), 200)
        self.pass_time(3)
        found = self.successResultOf(report)
        self.assertEqual((found.unready, found.latencies.count), (None, 100))
        self.assertEqual({len(line.sent) for line in self.reactor.connections[10:]}, {1})

    def test_stopping_before_all_first_messages_are_sent(self):
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
        for line in list(self.reactor.connections):
            line.lose(error.ConnectionDone())
        self.pass_time(0.1)
        wanted = "2 of 2 connections were never answered: closed by the server"
        self.assertEqual(self.successResultOf(report).failure, wanted)

    def test_a_wrong_answer_comes_first(self):
        self.reactor.answer = lambda data: data.upper() + b"x"
        _, report = self.begin(connections=2)
        self.pass_time(3)
        self.assertRegex(self.successResultOf(report).failure, "wrong answers on 2 connections")

    def test_stopping_while_first_answers_are_missing(self):
        self.reactor.delay = None
        run, report = self.begin(connections=2)
        self.pass_time(0.1)
        run.stop()
        found = self.successResultOf(report)
        self.assertEqual((found.interrupted, found.failure), (True, None))


class StopTests(RunTestCase):
    def test_the_figures_so_far_are_reported(self):
        run, report = begin(self.reactor, seconds=60)
        self.pass_time(0.55)
        run.stop()
        found = self.successResultOf(report)
        self.assertEqual((found.interrupted, found.failure), (True, None))
        self.assertEqual(found.answered, 10)
        run.stop()

    def test_stopping_while_connections_are_opened(self):
        self.reactor.hangs = True
        run, report = begin(self.reactor, seconds=60, connections=300)
        self.assertNoResult(report)
        run.stop()
        found = self.successResultOf(report)
        self.assertEqual((found.connections.opened, found.interrupted), (0, True))
        self.assertEqual(found.connections.failed, {})

    def test_a_bad_endpoint_is_one_line(self):
        for endpoint, problem in (
            ("nonsense:1", "unknown kind of endpoint (such as tcp:HOST:PORT, tls:, unix:PATH)"),
            ("", "unknown kind of endpoint (such as tcp:HOST:PORT, tls:, unix:PATH)"),
            ("tcp", "missing 'host' and 'port'"),
            ("tcp:127.0.0.1", "missing 'port'"),
            ("tcp:127.0.0.1:x", "'x' is not a number"),
            ("tcp:127.0.0.1:1:backlog=1", "unknown argument 'backlog'"),
            ("tcp:127.0.0.1:1\\", "trailing backslash"),
            ("ssl:h:1:caCertsDir=/none", "No such file or directory: /none"),
            ("tcp:1:2:3:4:5:6", "too many arguments"),
        ):
            _, report = begin(self.reactor, connect=endpoint)
            found = self.failureResultOf(report, EndpointError).getErrorMessage()
            self.assertEqual(found, f"--connect {endpoint!r}: {problem}")

    def test_too_many_connections_are_refused_before_the_first(self):
        _, report = begin(self.reactor, connections=10**11)
        self.failureResultOf(report, TooManyFilesError)
        self.assertEqual(self.reactor.connections, [])


class ProgressTests(RunTestCase):
    def test_progress_is_reported_every_second(self):
        lines = []
        _, report = begin(self.reactor, lines.append, seconds=2.5)
        self.pass_time(4)
        self.successResultOf(report)
        self.assertEqual(len(lines), 2)
        self.assertRegex(lines[1], "^2 s: 2 connections, .* p99 ")

    def test_progress_of_connecting_too(self):
        self.reactor.hangs = True
        lines = []
        run, _ = begin(self.reactor, lines.append)
        self.pass_time(1.1)
        self.assertRegex(lines[0], "^0 s: 0 connections, 0 answers")
        run.stop()

    def test_the_server_is_measured_before_and_after(self):
        usages = [Usage(1.0, 1000, 1), Usage(2.0, 1000, 1), Usage(3.0, 5000, 1)]
        self.patch(run_module, "usage_of", lambda _: usages.pop(0))
        report = self.report(3, seconds=None, count=100, connections=10, pid=1)
        self.assertAlmostEqual(report.server.cpu_per_message, 0.01)
        self.assertEqual(report.server.memory_per_connection, 400)

    def test_a_server_that_died_has_no_figures(self):
        usages = [Usage(1.0, 1000, 1)]

        def usage_of(pid):
            if not usages:
                raise ProcessLookupError
            return usages.pop(0)

        self.patch(run_module, "usage_of", usage_of)
        self.assertIsNone(self.report(2, seconds=1, pid=1).server)


class LibraryTests(RunTestCase):
    def test_a_run_that_is_cancelled_leaves_nothing_behind(self):
        for rate in (None, 10):
            _, report = begin(self.reactor, seconds=60, rate=rate)
            self.pass_time(0.5)
            report.cancel()
            self.failureResultOf(report, CancelledError)
            self.pass_time(0.1)
            self.assertEqual(self.reactor.getDelayedCalls(), [])
            self.assertFalse(any(line.connected for line in self.reactor.connections))

    def test_run_load_returns_the_report(self):
        plan = Plan("tcp:127.0.0.1:1", seconds=None, count=3)
        report = Deferred.fromCoroutine(run_load(self.reactor, plan))
        self.pass_time(2)
        self.assertEqual(self.successResultOf(report).answered, 3)


class ScheduleTests(SynchronousTestCase):
    def test_messages_are_due_evenly(self):
        schedule = Schedule(10, 100.0)
        self.assertEqual(list(schedule.due(100.0)), [100.0])
        self.assertEqual(list(schedule.due(100.05)), [])
        self.assertAlmostEqual(schedule.next, 100.1)

    def test_what_was_missed_is_due_when_it_was(self):
        """A late generator sends all of it, and knows how late each message is."""
        schedule = Schedule(10, 0.0)
        due = list(schedule.due(0.35))
        self.assertEqual(len(due), 4)
        for intended, wanted in zip(due, (0, 0.1, 0.2, 0.3), strict=True):
            self.assertAlmostEqual(intended, wanted)

    def test_the_rate_holds_in_the_long_run(self):
        schedule = Schedule(333, 0.0)
        self.assertEqual(sum(len(list(schedule.due(n / 1000))) for n in range(10_001)), 3331)
