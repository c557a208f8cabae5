"""What a report says, to people and to programs."""

import json

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from evserve.load.plan import Plan
from evserve.load.report import (
    ConnectionCounts,
    Report,
    as_json,
    as_text,
    format_duration,
    progress_line,
    saturation,
    server_usage,
)
from evserve.load.stats import Histogram, Summary
from evserve.load.usage import Usage


SUMMARY = Summary(2000, 0.001, 0.0005, 0.001, 0.002, 0.003, 1.5)
NOTHING = Summary(0, 0, 0, 0, 0, 0, 0)
REPORT = Report(
    plan=Plan("tcp:127.0.0.1:9000", 100, 1000),
    connections=ConnectionCounts(100, 0.05, {}, {}),
    seconds=2.0,
    answered=2000,
    unanswered=0,
    wrong=0,
    first_wrong=None,
    latencies=SUMMARY,
    lags=None,
    busy=0.5,
    saturated=None,
    server=None,
    interrupted=False,
)
UNCONNECTED = evolve(
    REPORT,
    answered=0,
    latencies=NOTHING,
    connections=ConnectionCounts(0, 0.1, {"Connection refused": 100}, {}),
)


class FailureTests(SynchronousTestCase):
    def test_a_run_with_answers_did_not_fail(self):
        self.assertIsNone(REPORT.failure)

    def test_failed_and_lost_connections_do_not_fail_the_run(self):
        report = evolve(
            REPORT, connections=ConnectionCounts(90, 1, {"timed out": 10}, {"reset": 2})
        )
        self.assertIsNone(report.failure)

    def test_one_wrong_answer_is_a_failure(self):
        report = evolve(REPORT, wrong=2, first_wrong="byte 3 is bad", interrupted=True)
        self.assertEqual(report.failure, "wrong answers on 2 connections: byte 3 is bad")

    def test_no_connection_is_a_failure(self):
        wanted = "cannot connect to tcp:127.0.0.1:9000: Connection refused"
        self.assertEqual(UNCONNECTED.failure, wanted)
        self.assertIsNone(evolve(UNCONNECTED, interrupted=True).failure)

    def test_no_answer_is_a_failure(self):
        report = evolve(REPORT, answered=0, latencies=NOTHING)
        self.assertEqual(report.failure, "nothing was answered")
        self.assertIsNone(evolve(report, interrupted=True).failure)

    def test_fewer_answers_than_asked_for_are_a_failure_unless_time_was_limited(self):
        asked = Plan("tcp:1", seconds=None, count=2001)
        report = evolve(REPORT, plan=asked)
        self.assertEqual(report.failure, "1 of 2001 messages were not answered")
        self.assertIsNone(evolve(report, plan=evolve(asked, seconds=2)).failure)
        self.assertIsNone(evolve(report, answered=2001).failure)


class ServerTests(SynchronousTestCase):
    def test_cpu_per_message_and_memory_per_connection(self):
        before, start, end = Usage(1, 10_000, 1), Usage(2, 10_500, 1), Usage(3.5, 12_000, 3)
        use = server_usage(before, start, end, 1000, 10, pss=(5_000, 6_000))
        self.assertEqual((use.cpu, use.cpu_per_message), (1.5, 0.0015))
        self.assertEqual((use.memory_per_connection, use.processes), (200, 3))
        self.assertEqual((use.pss_before, use.pss, use.pss_per_connection), (5_000, 6_000, 100))

    def test_nothing_to_divide_by(self):
        usage = Usage(1, 10_000, 1)
        use = server_usage(usage, usage, usage, 0, 0, pss=(1, 2))
        self.assertEqual((use.cpu_per_message, use.memory_per_connection), (None, None))
        self.assertIsNone(use.pss_per_connection)

    def test_a_kernel_that_does_not_report_pss(self):
        usage = Usage(1, 10_000, 1)
        for pss in ((None, None), (None, 5), (5, None)):
            use = server_usage(usage, usage, usage, 10, 10, pss=pss)
            self.assertIsNone(use.pss_per_connection)


class TextTests(SynchronousTestCase):
    def shows(self, report, *parts):
        text = as_text(report)
        for part in parts:
            self.assertIn(part, text)

    def test_the_usual_run_is_five_lines(self):
        self.assertEqual(
            as_text(REPORT),
            "tcp:127.0.0.1:9000: 100 connections, 1,000 bytes, 1 in flight each\n"
            "connected    100 in 0.05 s\n"
            "answers      2,000 in 2.00 s: 1,000/s, 1.00 MB/s\n"
            "latency      p50 500 us  p90 1 ms  p99 2 ms  p99.9 3 ms  max 1.5 s\n"
            "generator    busy 50% of the time\n",
        )

    def test_answers_that_came_just_after_the_end_have_their_latency(self):
        self.shows(evolve(REPORT, answered=0), "answers      0 in", "\nlatency      p50 500 us")

    def test_an_open_loop_says_how_late_it_was(self):
        plan = Plan("tcp:1", rate=5000, line=b"x", idle=7)
        report = evolve(REPORT, plan=plan, lags=SUMMARY)
        self.shows(report, "5,000 messages/s", "bytes a line", "7 idle", "sent late    p50 500 us")

    def test_failures_are_shown_by_cause(self):
        connections = ConnectionCounts(90, 1, {"timed out": 10}, {"reset": 2})
        report = evolve(
            REPORT, connections=connections, unanswered=3, wrong=1, first_wrong="byte 3 is bad"
        )
        self.shows(report, "not connected 10: timed out\n", "lost         2: reset\n")
        report = evolve(report, listen_overflows=7)
        self.shows(report, "overflows    7 times a listen queue was full (ListenOverflows)\n")
        self.shows(report, "unanswered   3\n", "WRONG        on 1 connections, such as byte 3 is")

    def test_no_connection_has_no_figures(self):
        self.assertNotIn("latency", as_text(UNCONNECTED))

    def test_the_server_is_shown_if_it_was_measured(self):
        before, end = Usage(0, 10_000_000, 1), Usage(1, 11_000_000, 3)
        report = evolve(
            REPORT, server=server_usage(before, before, end, 2000, 100, pss=(9_000_000, 9_500_000))
        )
        self.shows(report, "server CPU   1.00 s, 500.0 us per message in 3 processes\n")
        self.shows(report, "server RSS   11.0 MB, 10.0 kB more per connection\n")
        self.shows(report, "server PSS   9.5 MB, shared pages counted once\n")
        shrunk = server_usage(before, before, Usage(1, 9_999_999, 1), 2000, 100, pss=(None, None))
        self.shows(evolve(REPORT, server=shrunk), ", 0.0 kB more per connection\n")
        report = evolve(REPORT, server=server_usage(before, before, before, 0, 0, pss=(1, 1)))
        self.shows(report, "server CPU   0.00 s\n", "server RSS   10.0 MB\n")

    def test_doubtful_figures_are_marked(self):
        report = evolve(REPORT, saturated="it was busy 99% of the time", interrupted=True)
        self.shows(report, "SATURATED    the generator was the limit", "INTERRUPTED")
        busy = "DISTURBED    other programs used the CPU for 40% of the time\n"
        self.shows(evolve(REPORT, lost_share=0.4), busy)
        self.assertNotIn("DISTURBED", as_text(evolve(REPORT, lost_share=0.1)))

    def test_json_holds_everything(self):
        report = evolve(REPORT, plan=Plan("tcp:1", line=b"caf\xe9"), lags=SUMMARY)
        values = json.loads(as_json(report))
        self.assertEqual(values["plan"]["line"], "caf\\xe9")
        self.assertEqual(values["latencies"]["p999"], 0.003)
        self.assertEqual((values["rate"], values["failure"]), (1000, None))

    def test_durations_have_a_fitting_unit(self):
        self.assertEqual(
            [format_duration(2), format_duration(0.0123), format_duration(0)],
            ["2 s", "12.3 ms", "0 us"],
        )

    def test_progress_is_one_line(self):
        line = progress_line(2.0, 3000, 100, 0.004)
        self.assertEqual(line, "2 s: 100 connections, 3,000 answers, 1,500/s, p99 4 ms")
        self.assertIn("0/s", progress_line(0.0, 0, 0, 0.0))

    def test_without_time_there_is_no_rate(self):
        self.assertEqual(evolve(REPORT, seconds=0.0).rate, 0)


class SaturationTests(SynchronousTestCase):
    def lags(self, seconds):
        histogram = Histogram()
        histogram.record(seconds)
        return histogram.summary()

    def test_a_generator_with_time_to_spare_is_not_the_limit(self):
        self.assertIsNone(saturation(0.5, None, SUMMARY))
        self.assertIsNone(saturation(0.5, self.lags(0.001), SUMMARY))

    def test_a_busy_generator_is_the_limit(self):
        why = "it ran, or waited for a CPU, 97% of the time"
        self.assertEqual(saturation(0.97, None, SUMMARY), why)

    def test_a_late_generator_is_the_limit(self):
        why = saturation(0.2, self.lags(0.055), self.lags(0.060))
        self.assertEqual(why, "1 % of the messages were sent more than 55 ms late")

    def test_an_open_loop_whose_server_is_far_later_is_not_the_limit(self):
        self.assertIsNone(saturation(0.95, self.lags(0.086), self.lags(3.0)))
