"""Axes, series and the SVG of the charts."""

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.lab.report.chart import (
    METRICS,
    Chart,
    LogScale,
    axis_bounds,
    axis_ticks,
    choose_labelled,
    make_series,
    series_with_points,
)
from evserve.lab.report.labels import Label
from evserve.lab.report.units import format_duration
from evserve.lab.results import Outcome
from tests.lab.example_results import COUNTS, all_models, breaks, measurement, model


METRIC = {metric.key: metric for metric in METRICS}


class ScaleTests(SynchronousTestCase):
    def test_equal_ratios_are_equal_distances(self):
        scale = LogScale(1, 10_000, 0, 400)
        self.assertEqual([round(scale.position(10**n)) for n in range(5)], [0, 100, 200, 300, 400])

    def test_an_axis_may_run_upwards(self):
        scale = LogScale(1, 100, 500, 10)
        self.assertEqual((scale.position(1), scale.position(100)), (500, 10))
        self.assertAlmostEqual(scale.position(10), 255)

    def test_a_single_value_stands_in_the_middle(self):
        self.assertEqual(LogScale(5, 5, 0, 100).position(5), 50)

    def test_bounds_are_round_and_apart(self):
        self.assertEqual(axis_bounds([30, 400, 7]), (5, 500))
        self.assertEqual(axis_bounds([0.003]), (0.002, 0.005))
        self.assertEqual(axis_bounds([1.0]), (0.5, 2.0))
        self.assertEqual(axis_bounds([0, -5, 10, 20]), (10, 20))

    @given(st.lists(st.floats(1e-9, 1e12), min_size=1))
    def test_bounds_hold_all_values(self, values):
        low, high = axis_bounds(values)
        self.assertLess(low, high)
        self.assertLessEqual(low, min(values) * 1.001)
        self.assertGreaterEqual(high, max(values) * 0.999)

    def test_a_few_decades_label_2_and_5_too(self):
        named, others = axis_ticks(1, 100)
        self.assertEqual(named, [1, 2, 5, 10, 20, 50, 100])
        self.assertEqual(len(others), 12)

    def test_many_decades_label_only_powers_of_ten(self):
        named, _ = axis_ticks(1, 1e6)
        self.assertEqual(named, [10**n for n in range(7)])

    def test_small_values_keep_their_digits(self):
        named, _ = axis_ticks(2e-6, 5e-5)
        self.assertEqual(
            [format_duration(each) for each in named], ["2 µs", "5 µs", "10 µs", "20 µs", "50 µs"]
        )

    def test_names_keep_their_distance(self):
        self.assertEqual(
            choose_labelled([0, 10, 50, 95, 100], 40), [False, True, True, False, True]
        )
        self.assertEqual(choose_labelled([], 40), [])


class SeriesTests(SynchronousTestCase):
    def test_a_line_through_all_points(self):
        line = make_series(model(), METRIC["rate"])
        self.assertEqual([len(segment) for segment in line.segments], [6])
        self.assertIsNone(line.end)

    def test_a_line_ends_where_the_model_broke(self):
        line = make_series(breaks("select_loop", "scanning", 3_000), METRIC["rate"])
        self.assertEqual([point.connections for point in line.points], [1, 10, 100, 1_000])
        self.assertEqual(line.end.connections, 3_000)

    def test_a_figure_that_is_missing_is_a_gap(self):
        cells = [
            measurement(1),
            measurement(10),
            measurement(100, Outcome.NOT_RUN),
            measurement(1_000),
        ]
        line = make_series(model(cells=cells), METRIC["cpu"])
        self.assertEqual([len(segment) for segment in line.segments], [2, 1])

    def test_values_of_zero_or_less_are_not_drawn(self):
        cells = [measurement(100, memory_bytes_per_connection=-5.0), measurement(1_000)]
        line = make_series(model(cells=cells), METRIC["memory"])
        self.assertEqual([point.connections for point in line.points], [1_000])

    def test_memory_is_shown_from_a_hundred_connections_on(self):
        line = make_series(model(), METRIC["memory"])
        self.assertEqual(line.points[0].connections, 100)

    def test_a_saturated_generator_makes_hollow_points_where_that_matters(self):
        cells = [measurement(10, generator_saturated="it was busy"), measurement(100)]
        found = {
            key: make_series(model(cells=cells), METRIC[key]).points for key in ("rate", "cpu")
        }
        self.assertEqual([point.is_hollow for point in found["rate"]], [True, False])
        self.assertEqual([point.is_hollow for point in found["cpu"]], [False, False])

    def test_models_without_points_have_no_line(self):
        broken = breaks("blocking", "blocking", 1)
        self.assertEqual(series_with_points([broken], METRIC["rate"]), [])


class ChartTests(SynchronousTestCase):
    def setUp(self):
        models = [*all_models()[2:], breaks("blocking", "blocking", 10)]
        models.append(breaks("thread_pool", "blocking", 10))
        self.series = series_with_points(models, METRICS[0])
        self.svg = ET.fromstring(Chart.of(METRICS[0], self.series, COUNTS).svg())

    def test_a_broken_line_has_its_cross_and_its_number(self):
        (line,) = self.svg.findall(".//a[@data-model='blocking']")
        self.assertEqual(len(line.findall("path[@class='broke']")), 1)
        self.assertEqual(line.find("text").text, "blocking ✕ at 10")
        (whole,) = self.svg.findall(".//a[@data-model='poll_loop']")
        self.assertEqual(whole.findall("path[@class='broke']"), [])

    def test_names_do_not_cover_each_other(self):
        labels = [
            Label(each.text, float(each.get("x")), float(each.get("y")), len(each.text) * 6.9, 12)
            for each in self.svg.findall(".//text[@class='name']")
        ]
        self.assertEqual(len(labels), len(self.series))
        for number, one in enumerate(labels):
            for other in labels[number + 1 :]:
                self.assertFalse(one.covers(other), (one, other))

    def test_the_numbers_of_connections_are_on_the_axis(self):
        texts = [each.text for each in self.svg.findall(".//text[@class='x']")]
        self.assertEqual(texts, ["1", "10", "100", "1k", "3k", "10k"])

    def test_members_of_a_family_have_different_markers(self):
        marks = {}
        for name in ("epoll_level", "epoll_edge", "selectors_loop", "io_uring_completion"):
            (line,) = self.svg.findall(f".//a[@data-model='{name}']")
            marks[name] = line.find("path[@class='full']").get("d")
        self.assertEqual(len(set(marks.values())), 4)
