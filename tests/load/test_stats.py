"""Percentiles in constant memory."""

import math
import random

from twisted.trial.unittest import SynchronousTestCase

from evserve.load.stats import Histogram


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
