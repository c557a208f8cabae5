"""The queue benchmarks on Postgres run."""

import sys
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from benchmarks.queue.cluster import Cluster, find_program
from benchmarks.queue.scaling import Point, measure
from benchmarks.queue.systems import SYSTEMS
from tests.documents import ROOT


@unittest.skipUnless(find_program("initdb"), "Postgres is not installed")
class BenchTests(TestCase):
    async def test_each_system_has_a_row_or_a_line_that_says_that_it_is_not_installed(self):
        names = ["evserve", "evserve work", "plain", "procrastinate"]
        words = ["-m", "benchmarks.queue", "postgres", "--rounds", "1", "--seconds", "0.3"]
        words += [
            "--only",
            "cycle-50x1",
            "--systems",
            *names,
            "--folder",
            "/tmp",
        ]  # Postgres is another user
        out, err, status = await getProcessOutputAndValue(
            sys.executable, words, env=None, path=str(ROOT)
        )
        shown = out.decode()
        self.assertEqual(status, 0, err.decode())
        for name in names:
            wanted = f"\n  {name:20} " if SYSTEMS[name].installed else f"{name}: not installed\n"
            self.assertIn(wanted, shown)
        self.assertRegex(shown, r"cycle-50x1: rate of evserve >= 2.0 x plain: ")

    @unittest.skipUnless(
        SYSTEMS["evserve"].installed, "the extras postgres and uvloop are missing"
    )
    def test_a_load_is_measured_with_the_time_of_a_sync_in_it(self):
        folder = self.enterContext(TemporaryDirectory())
        Path(folder).chmod(0o711)  # Postgres is another user
        with Cluster(Path(folder) / "postgres") as cluster:
            ((_, found),) = measure(cluster, 0.3, 1, [Point("put")])
        self.assertGreater(found.sync, 0)
