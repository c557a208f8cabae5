"""The clocks of the workers differ by minutes, and the database's clock is another one still."""

from functools import partial
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.chaos import SEED
from tests.chaos.queue_database import is_empty
from tests.chaos.workload import Workload
from tests.integration.postgres import base_folder, shared_cluster
from tests.integration.queue_server import compile_shim


SHIM = Path(__file__).with_name("clock_shim.c")
SHIFTS = (-60, 60)
"""Seconds by which the clock of each worker is wrong."""


class ClockTests(SynchronousTestCase):
    def test_reservations_delays_and_order_do_not_depend_on_the_clocks_of_workers(self):
        cluster = shared_cluster()
        database = cluster.create_database()
        shim = str(compile_shim(base_folder(), SHIM))
        env = [{"LD_PRELOAD": shim, "CLOCK_SHIFT": str(seconds)} for seconds in SHIFTS]
        load = Workload(self, cluster.url(database), "--ttr", 50, env=env)
        load.wait_for(300)
        line = [f"line.{number}" for number in range(6)]
        for number, body in enumerate(line):
            load.tell(f"append {body}", number % 2)
            load.wait_until(partial(self.has, load, load.put, body))
        for number, body in enumerate(line):
            load.tell("take", (number + 1) % 2)
            load.wait_until(partial(self.has, load, load.reserved, body))
        load.finish(lambda: is_empty(cluster, database))
        load.check()
        self.assertEqual(load.overran, set())
        latest = max(load.lateness[body] for body in load.lateness.keys() - set(line))
        self.assertLess(latest, 30)
        print(
            f"seed {SEED}, clocks off by {SHIFTS} s: {load.summary()}; {latest:.1f} s late at most"
        )

    def has(self, load, record, body):
        load.read()
        return body in record
