"""What is measured, in what order, and what is not."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from evserve.lab.grid import Grid, available_memory
from evserve.lab.models import Model
from evserve.lab.results import Outcome
from evserve.lab.settings import Measure, allowed
from tests.lab.example_results import cell


A = Model("a", "told", Path("a.py"), "")
B = Model("b", "told", Path("b.py"), "")


class GridTests(SynchronousTestCase):
    def setUp(self):
        self.grid = Grid([A, B], Measure((1, 100, 1_000)))

    def test_all_models_take_their_turn_before_the_next_number(self):
        self.assertEqual(
            [(model.name, count) for model, count in self.grid],
            [("a", 1), ("b", 1), ("a", 100), ("b", 100), ("a", 1_000), ("b", 1_000)],
        )
        self.assertEqual(len(self.grid), 6)

    def test_the_first_is_always_measured(self):
        self.assertIsNone(self.grid.without_measuring(A, 1, 0))

    def test_whoever_broke_is_not_asked_for_more(self):
        self.grid.put(A, cell(1, Outcome.BROKE, "of itself"))
        skipped = self.grid.without_measuring(A, 100, None)
        self.assertEqual(skipped.outcome, Outcome.SKIPPED)
        self.assertEqual(skipped.why, "it broke at 1 connection")
        self.grid.put(A, skipped)
        self.assertEqual(self.grid.without_measuring(A, 1_000, None).why, skipped.why)
        self.assertIsNone(self.grid.without_measuring(B, 100, None))

    def test_what_is_missing_stays_missing(self):
        self.grid.put(A, cell(1, Outcome.UNAVAILABLE, "needs gevent"))
        found = self.grid.without_measuring(A, 100, None)
        self.assertEqual((found.outcome, found.why), (Outcome.UNAVAILABLE, "needs gevent"))

    def test_memory_that_is_not_there_is_not_asked_for(self):
        self.grid.put(A, cell(100, memory_bytes_per_connection=2e6))
        self.assertIsNone(self.grid.without_measuring(A, 1_000, 4_000_000_000))
        found = self.grid.without_measuring(A, 1_000, 2_000_000_000)
        self.assertEqual(found.outcome, Outcome.SKIPPED)
        self.assertIn("about 3 GB of memory, and 2 GB are left", found.why)

    def test_memory_at_few_connections_says_nothing_about_many(self):
        self.grid.put(A, cell(1, memory_bytes_per_connection=1e9))
        self.assertIsNone(self.grid.without_measuring(A, 1_000, 1_000))

    def test_what_was_not_reached_was_not_run(self):
        self.grid.put(A, cell(1))
        first, second = self.grid.results()
        outcomes = [each.outcome for each in (*first.cells, *second.cells)]
        self.assertEqual(outcomes, [Outcome.MEASURED, *[Outcome.NOT_RUN] * 5])


class SettingsTests(SynchronousTestCase):
    def test_a_limit_leaves_the_larger_numbers_out(self):
        fit, note = allowed((1, 1_000, 3_000, 10_000), 4_096)
        self.assertEqual(fit, (1, 1_000, 3_000))
        self.assertEqual(note, "left out 10,000 connections: 'ulimit -Hn' allows 4,096 open files")
        self.assertEqual(allowed((1, 10), 4_096), ((1, 10), None))

    def test_ten_at_most_are_active(self):
        plan = Measure().plan(9000, 5, 1_000, Measure().active(1_000))
        self.assertEqual((plan.connections, plan.idle), (10, 990))
        self.assertEqual(plan.expected, plan.line.upper())
        self.assertEqual(Measure().active(3), 3)

    def test_available_memory(self):
        path = Path(self.mktemp())
        self.assertIsNone(available_memory(path))
        path.write_text("MemTotal: 9 kB\nMemAvailable:    5 kB\n")
        self.assertEqual(available_memory(path), 5 * 1024)
