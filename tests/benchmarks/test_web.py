"""The web benchmark: what it asks for, what it checks, and a short run."""

import sys
from importlib.util import find_spec
from shutil import which

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from benchmarks.web.scenarios import GOALS, LOGGED, SCENARIOS
from benchmarks.web.systems import SYSTEMS


class ScenarioTests(SynchronousTestCase):
    def test_goals_name_scenarios_and_systems_that_are_measured(self):
        names = {each.name for each in SCENARIOS}
        for goal in GOALS:
            self.assertIn(goal.scenario.removesuffix(LOGGED), names)
            self.assertLessEqual({goal.own, goal.other}, SYSTEMS.keys())

    def test_every_system_has_a_module_and_lacks_paths_that_exist(self):
        paths = {each.path for each in SCENARIOS}
        for system in SYSTEMS.values():
            self.assertIsNotNone(find_spec(f"benchmarks.web.{system.module}"))
            self.assertLess(system.lacks, paths)

    def test_a_request_with_a_body_says_how_long_it_is(self):
        for scenario in SCENARIOS:
            head, _, body = scenario.request.partition(b"\r\n\r\n")
            self.assertEqual(body, scenario.body)
            self.assertEqual(b"Content-Length" in head, bool(body))


class RunTests(TestCase):
    async def test_servers_on_epoll_answer_rightly_with_and_without_a_log(self):
        if which("cc") is None or which("taskset") is None:
            raise SkipTest("there is no C compiler, or no taskset")
        systems = ["stock, epoll", "fast, epoll"]
        words = ["--rounds", "1", "--seconds", "0.05", "--systems", *systems]
        out, err, status = await getProcessOutputAndValue(
            sys.executable, ["-m", "benchmarks.web", *words], env=None
        )
        self.assertEqual(status, 0, err.decode())
        tables = [each for each in SCENARIOS if each.name != "klein" or find_spec("klein")]
        for name in systems:
            self.assertEqual(out.decode().count(f"\n  {name} "), 2 * len(tables), out.decode())
        self.assertEqual(out.decode().count(": not measured\n"), len(GOALS))
