"""The ASGI benchmark: what it asks for, and a short run."""

import sys
from importlib.util import find_spec
from shutil import which

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from benchmarks.asgi.scenarios import GOALS, NEEDS, PROBES, SYSTEMS
from benchmarks.web.turns import LOGGED


class ScenarioTests(SynchronousTestCase):
    def test_goals_name_scenarios_and_systems_that_are_measured(self):
        for goal in GOALS:
            self.assertIn(goal.scenario.removesuffix(LOGGED), PROBES)
            self.assertLessEqual({goal.own, goal.other}, set(SYSTEMS))


class RunTests(TestCase):
    async def test_both_servers_answer_rightly_with_and_without_a_log(self):
        if which("cc") is None or which("taskset") is None or not all(map(find_spec, NEEDS)):
            raise SkipTest("there is no C compiler, no taskset or no such module")
        words = ["--rounds", "1", "--seconds", "0.05"]
        out, err, status = await getProcessOutputAndValue(
            sys.executable, ["-m", "benchmarks.asgi", *words], env=None
        )
        self.assertEqual(status, 0, err.decode())
        for name in SYSTEMS:
            self.assertEqual(out.decode().count(f"\n  {name} "), 2 * len(PROBES), out.decode())
        self.assertNotIn(b"not measured", out)
