"""The arithmetic of goals."""

from attrs import evolve, frozen
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.goals import Goal, ratio, verdict


@frozen
class Result:
    rate: float


def results(*rates):
    return [Result(rate) for rate in rates]


class GoalTests(SynchronousTestCase):
    def test_a_ratio_is_the_median_of_the_rounds(self):
        measured = {"evserve": results(10, 30, 80), "plain": results(10, 10, 10)}
        self.assertEqual(ratio(measured, "rate", "evserve", "plain"), 3)
        self.assertIsNone(ratio(measured, "rate", "evserve", "pgqueuer"))

    def test_goals_are_met_missed_or_not_measured(self):
        goal = Goal("put", "rate", "evserve", "plain", at_least=2.0)
        measured = {"put": {"evserve": results(30), "plain": results(10)}}
        self.assertTrue(verdict(goal, measured).endswith("3.00 met"))
        self.assertTrue(verdict(evolve(goal, at_least=4.0), measured).endswith("3.00 MISSED"))
        most = evolve(goal, at_least=None, at_most=2.5)
        self.assertTrue(verdict(most, measured).endswith("3.00 MISSED"))
        self.assertTrue(verdict(evolve(goal, other="pgqueuer"), measured).endswith("not measured"))
        self.assertTrue(verdict(goal, {}).endswith("not measured"))
