"""Counting messages, and percentiles in constant memory."""

import math
import random

from twisted.trial.unittest import SynchronousTestCase

from evserve.load.stats import Histogram, MessageStats


def of(values):
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def exact(values, percent):
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


class HistogramTests(SynchronousTestCase):
    def test_percentiles_are_within_a_thousandth_of_the_exact_ones(self):
        chance = random.Random(7)
        for values in (
            [chance.expovariate(1000) for _ in range(5000)],
            [chance.uniform(1e-6, 100) for _ in range(5000)],
            [chance.lognormvariate(-7, 2) for _ in range(5000)],
        ):
            histogram = of(values)
            for percent in (1, 50, 90, 99, 99.9, 100):
                found, wanted = histogram.percentile(percent), exact(values, percent)
                self.assertGreaterEqual(found, wanted)
                self.assertLess(found / wanted - 1, 0.001)

    def test_the_summary_has_the_exact_mean_and_maximum(self):
        summary = of([0.001, 0.002, 0.009]).summary()
        self.assertEqual(summary.count, 3)
        self.assertAlmostEqual(summary.mean, 0.004)
        self.assertEqual(summary.max, 0.009)

    def test_no_percentile_is_above_the_maximum(self):
        self.assertEqual(of([0.0123]).percentile(50), 0.0123)

    def test_zero_is_a_value(self):
        self.assertLess(of([0, 0, 5]).percentile(50), 0.001)
        self.assertEqual(of([0]).summary().max, 0)

    def test_without_values_all_is_zero(self):
        summary = Histogram().summary()
        self.assertEqual((summary.count, summary.mean, summary.p50, summary.max), (0, 0, 0, 0))

    def test_memory_grows_with_magnitudes_not_with_values(self):
        histogram = of(1 + n / 100_000 for n in range(100_000))
        self.assertLessEqual(len(histogram._counts), 1024)


class MessageStatsTests(SynchronousTestCase):
    def setUp(self):
        self.settled = []
        self.stats = MessageStats(lambda: self.settled.append(True))

    def test_nothing_may_be_sent_before_the_beginning(self):
        self.assertEqual(self.stats.take(5), 0)

    def test_without_a_count_everything_may_be_sent(self):
        self.stats.restart(None)
        self.assertEqual(self.stats.take(5), 5)
        self.assertFalse(self.stats.is_settled)

    def test_a_count_limits_what_is_sent(self):
        self.stats.restart(7)
        self.assertEqual([self.stats.take(5), self.stats.take(5)], [5, 2])

    def test_it_is_settled_with_the_last_answer(self):
        self.stats.restart(2)
        self.stats.take(2)
        self.stats.add_answered(1)
        self.assertEqual(self.settled, [])
        self.stats.add_answered(1)
        self.assertEqual(self.settled, [True])

    def test_a_lost_message_needs_no_answer(self):
        self.stats.restart(1)
        self.stats.take(1)
        self.stats.add_lost(1)
        self.assertEqual((self.settled, self.stats.unanswered), ([True], 1))

    def test_the_end_waits_for_messages_in_flight(self):
        self.stats.restart(None)
        self.stats.take(1)
        self.stats.stop_sending()
        self.assertEqual((self.settled, self.stats.take(1)), ([], 0))
        self.stats.add_answered(1)
        self.assertEqual(self.settled, [True])

    def test_restarting_forgets_the_warm_up_but_not_messages_in_flight(self):
        self.stats.restart(None)
        self.stats.take(5)
        self.stats.latencies.record(1)
        self.stats.add_answered(2)
        self.stats.restart(10)
        self.assertEqual((self.stats.answered, self.stats.latencies.count), (0, 0))
        self.assertEqual(self.stats.take(100), 7)
