"""The placement of labels."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.lab.report.labels import Label, place_labels, stack_labels


def label(y, x=0.0, width=50.0):
    return Label("name", x, y, width, 10)


class LabelTests(SynchronousTestCase):
    def apart(self, labels):
        for one, other in combinations(labels, 2):
            self.assertFalse(one.covers(other), (one, other))

    def test_what_does_not_collide_stays(self):
        labels = [label(20), label(50), label(90)]
        self.assertEqual(stack_labels(labels, 0, 100), labels)

    def test_a_cluster_stands_around_its_middle(self):
        moved = stack_labels([label(50), label(50), label(50)], 0, 100)
        self.assertEqual(sorted(each.y for each in moved), [40, 50, 60])

    def test_the_edge_is_kept(self):
        self.assertEqual([each.y for each in stack_labels([label(0), label(1)], 0, 100)], [5, 15])
        self.assertEqual(
            [each.y for each in stack_labels([label(99), label(100)], 0, 100)], [85, 95]
        )

    @given(st.lists(st.floats(0, 300), max_size=25))
    def test_a_column_never_overlaps_and_keeps_its_order(self, heights):
        labels = [label(height) for height in heights]
        moved = stack_labels(labels, 0, 300)
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
        self.apart(place_labels(labels, 0, 300, lambda _: 0))

    def test_a_label_moves_to_cover_fewer_lines(self):
        def crossings(candidate):
            return int(35 < candidate.y < 65)

        inner, outer = place_labels([label(50, 0), label(50, 200)], 0, 100, crossings)
        self.assertFalse(35 < inner.y < 65)
        self.assertEqual(outer.y, 50)

    def test_without_free_space_a_label_does_not_move(self):
        labels = [label(5, 0, 80), *[label(5, 30, 80)] * 2]
        self.assertEqual(place_labels(labels, 0, 20, lambda _: 0)[0].y, 5)
