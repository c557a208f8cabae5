"""Axes, names and lines of the charts."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.lab.report.labels import Label, place, stack
from evserve.lab.report.scales import LogScale, bounds, spread, ticks
from evserve.lab.report.series import METRICS, line_of, lines_of
from evserve.lab.report.units import duration, number, size
from evserve.lab.results import Outcome
from tests.lab.example_results import breaks, cell, model


METRIC = {metric.key: metric for metric in METRICS}


class ScaleTests(SynchronousTestCase):
    def test_equal_ratios_are_equal_distances(self):
        scale = LogScale(1, 10_000, 0, 400)
        self.assertEqual([round(scale.place(10**n)) for n in range(5)], [0, 100, 200, 300, 400])

    def test_an_axis_may_run_upwards(self):
        scale = LogScale(1, 100, 500, 10)
        self.assertEqual((scale.place(1), scale.place(100)), (500, 10))
        self.assertAlmostEqual(scale.place(10), 255)

    def test_a_single_value_stands_in_the_middle(self):
        self.assertEqual(LogScale(5, 5, 0, 100).place(5), 50)

    def test_bounds_are_round_and_apart(self):
        self.assertEqual(bounds([30, 400, 7]), (5, 500))
        self.assertEqual(bounds([0.003]), (0.002, 0.005))
        self.assertEqual(bounds([1.0]), (0.5, 2.0))
        self.assertEqual(bounds([0, -5, 10, 20]), (10, 20))

    @given(st.lists(st.floats(1e-9, 1e12), min_size=1))
    def test_bounds_hold_all_values(self, values):
        low, high = bounds(values)
        self.assertLess(low, high)
        self.assertLessEqual(low, min(values) * 1.001)
        self.assertGreaterEqual(high, max(values) * 0.999)

    def test_a_few_decades_name_their_parts(self):
        named, others = ticks(1, 100)
        self.assertEqual(named, [1, 2, 5, 10, 20, 50, 100])
        self.assertEqual(len(others), 12)

    def test_many_decades_name_only_themselves(self):
        named, _ = ticks(1, 1e6)
        self.assertEqual(named, [10**n for n in range(7)])

    def test_small_values_keep_their_digits(self):
        named, _ = ticks(2e-6, 5e-5)
        self.assertEqual(
            [duration(each) for each in named], ["2 µs", "5 µs", "10 µs", "20 µs", "50 µs"]
        )

    def test_names_keep_their_distance(self):
        self.assertEqual(spread([0, 10, 50, 95, 100], 40), [False, True, True, False, True])
        self.assertEqual(spread([], 40), [])


class UnitTests(SynchronousTestCase):
    def test_three_digits_and_a_unit(self):
        self.assertEqual(duration(0.0000123), "12.3 µs")
        self.assertEqual(duration(0.1), "100 ms")
        self.assertEqual(duration(2), "2 s")
        self.assertEqual(duration(0.0009999), "1 ms")
        self.assertEqual(duration(0), "0 ns")
        self.assertEqual(size(1234), "1.23 kB")
        self.assertEqual(size(-5), "-5 B")
        self.assertEqual(
            [number(n) for n in (1, 10, 999, 3_000, 10_000)], ["1", "10", "999", "3k", "10k"]
        )


def label(y, x=0.0, width=50.0):
    return Label("name", x, y, width, 10)


class LabelTests(SynchronousTestCase):
    def apart(self, labels):
        for one, other in combinations(labels, 2):
            self.assertFalse(one.covers(other), (one, other))

    def test_what_does_not_collide_stays(self):
        labels = [label(20), label(50), label(90)]
        self.assertEqual(stack(labels, 0, 100), labels)

    def test_a_cluster_stands_around_its_middle(self):
        moved = stack([label(50), label(50), label(50)], 0, 100)
        self.assertEqual(sorted(each.y for each in moved), [40, 50, 60])

    def test_the_edge_is_kept(self):
        self.assertEqual([each.y for each in stack([label(0), label(1)], 0, 100)], [5, 15])
        self.assertEqual([each.y for each in stack([label(99), label(100)], 0, 100)], [85, 95])

    @given(st.lists(st.floats(0, 300), max_size=25))
    def test_a_column_never_overlaps_and_keeps_its_order(self, heights):
        labels = [label(height) for height in heights]
        moved = stack(labels, 0, 300)
        self.apart(moved)
        for (a, b), (c, d) in combinations(
            zip(heights, (each.y for each in moved), strict=True), 2
        ):
            if a < c:
                self.assertLess(b, d)
        for each in moved:
            self.assertTrue(5 - 1e-6 <= each.y <= 295 + 1e-6)

    @given(
        st.lists(st.tuples(st.sampled_from([0.0, 30.0, 200.0]), st.floats(0, 300)), max_size=12)
    )
    def test_columns_that_reach_into_each_other_do_not_overlap(self, wishes):
        labels = [label(y, x, 80) for x, y in wishes]
        self.apart(place(labels, 0, 300, lambda _: 0))

    def test_a_name_goes_out_of_the_way_of_lines(self):
        def crossings(candidate):
            return int(35 < candidate.y < 65)

        inner, outer = place([label(50, 0), label(50, 200)], 0, 100, crossings)
        self.assertFalse(35 < inner.y < 65)
        self.assertEqual(outer.y, 50)

    def test_without_any_room_a_name_stays_where_it_wants(self):
        labels = [label(5, 0, 80), *[label(5, 30, 80)] * 2]
        self.assertEqual(place(labels, 0, 20, lambda _: 0)[0].y, 5)


class SeriesTests(SynchronousTestCase):
    def test_a_line_through_all_points(self):
        line = line_of(model(), METRIC["rate"])
        self.assertEqual([len(piece) for piece in line.pieces], [6])
        self.assertIsNone(line.end)

    def test_a_line_ends_where_the_model_broke(self):
        line = line_of(breaks("select_loop", "scanning", 3_000), METRIC["rate"])
        self.assertEqual([point.connections for point in line.points], [1, 10, 100, 1_000])
        self.assertEqual(line.end.connections, 3_000)

    def test_a_figure_that_is_missing_is_a_gap(self):
        cells = [cell(1), cell(10), cell(100, Outcome.NOT_RUN), cell(1_000)]
        line = line_of(model(cells=cells), METRIC["cpu"])
        self.assertEqual([len(piece) for piece in line.pieces], [2, 1])

    def test_what_is_not_above_zero_has_no_place(self):
        cells = [cell(100, memory_bytes_per_connection=-5.0), cell(1_000)]
        line = line_of(model(cells=cells), METRIC["memory"])
        self.assertEqual([point.connections for point in line.points], [1_000])

    def test_memory_is_shown_from_a_hundred_connections_on(self):
        line = line_of(model(), METRIC["memory"])
        self.assertEqual(line.points[0].connections, 100)

    def test_a_saturated_generator_makes_hollow_points_where_that_matters(self):
        cells = [cell(10, generator_saturated="it was busy"), cell(100)]
        found = {key: line_of(model(cells=cells), METRIC[key]).points for key in ("rate", "cpu")}
        self.assertEqual([point.is_hollow for point in found["rate"]], [True, False])
        self.assertEqual([point.is_hollow for point in found["cpu"]], [False, False])

    def test_models_without_points_have_no_line(self):
        broken = breaks("blocking", "blocking", 1)
        self.assertEqual(lines_of([broken], METRIC["rate"]), [])
