"""The programs of examples/coroutines/: the order of what they print."""

import runpy
import subprocess
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.io_models.programs import FOLDER, PATIENCE, UNAVAILABLE


COROUTINES = FOLDER.with_name("coroutines")


class CoroutineTests(SynchronousTestCase):
    def run_it(self, name):
        """Return what a program prints."""
        done = subprocess.run(
            [sys.executable, COROUTINES / f"{name}.py"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode == UNAVAILABLE:
            raise SkipTest(done.stderr)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.splitlines()

    def test_an_event_is_made_on_request_and_goes_to_one_of_two_consumers(self):
        lines = self.run_it("two_consumers")
        self.assertEqual(
            lines[:4],
            [
                "producer makes event 1",
                "first takes event 1",
                "producer makes event 2",
                "second takes event 2",
            ],
        )
        taken = [line.partition(" takes ")[2] for line in lines if " takes " in line]
        self.assertEqual(taken, [f"event {number}" for number in range(1, 6)])

    def test_greenlets_run_when_they_are_switched_to(self):
        lines = self.run_it("greenlet_order")
        self.assertEqual([line[0] for line in lines[:6]], list("123456"))
        self.assertIn("ping is dead: False, pong is dead: True", lines[6])
        self.assertEqual(len(lines), 7)

    def test_sleeping_coroutines_are_woken_in_order_of_time(self):
        lines = self.run_it("sleeping_coroutines")
        self.assertEqual(lines[:3], ["long begins", "short begins", "twice begins"])
        self.assertRegex(lines[-1], r"^all together: \d+\.\d\d s; sequential: 1\.20 s$")

    def test_sleeping_coroutines_take_the_time_of_the_longest(self):
        program = runpy.run_path(str(COROUTINES / "sleeping_coroutines.py"))
        now, naps = [100.0], []

        def sleep(seconds):
            now[0] += seconds
            naps.append(seconds)

        def sleeper(*times):
            yield from times

        took = program["run"]([sleeper(6), sleeper(2), sleeper(1, 3)], lambda: now[0], sleep)
        self.assertEqual(took, 6)
        self.assertEqual([seconds for seconds in naps if seconds], [1, 1, 2, 2])

    def test_a_slow_handler_blocks_all_others_unless_it_runs_in_a_thread(self):
        lines = self.run_it("slow_handler")
        order = [line.strip().partition(" answered")[0] for line in lines]
        self.assertEqual(order[:4], ["blocking:", "slow", "quick 1", "quick 2"])
        self.assertEqual(order[4:], ["threaded:", "quick 1", "quick 2", "slow"])

    def test_three_slow_pages_are_waited_for_at_the_same_time(self):
        lines = self.run_it("three_slow_pages")
        asked = [line.rpartition(" of ")[2] for line in lines[:3]]
        self.assertEqual(sorted(asked), ["0.3 s", "0.6 s", "0.9 s"])  # before the first answer
        self.assertEqual(len([line for line in lines[3:6] if line.endswith("status 200")]), 3)
        self.assertRegex(lines[6], r"^all together: \d+\.\d\d s; sequential: 1\.80 s$")
