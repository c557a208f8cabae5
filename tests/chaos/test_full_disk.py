"""The disk of the database fills up, and has room again."""

import random
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.chaos import ROUNDS, SEED
from tests.chaos.queue_database import is_empty
from tests.chaos.workload import Workload
from tests.integration.postgres import base_folder, start_cluster
from tests.integration.queue_server import compile_shim


SHIM = Path(__file__).with_name("disk_shim.c")


class FullDiskTests(SynchronousTestCase):
    def setUp(self):
        shim, self.flag = compile_shim(base_folder(), SHIM), base_folder() / "full"
        environment = {"LD_PRELOAD": str(shim), "FULL_FLAG": str(self.flag)}
        self.cluster = start_cluster(
            self, environment=environment, autovacuum="off", restart_after_crash="off"
        )
        self.database = self.cluster.create_database()
        self.addCleanup(self.flag.unlink, missing_ok=True)

    def finish(self, load, what):
        load.finish(lambda: is_empty(self.cluster, self.database))
        load.check()
        print(f"seed {SEED}, {what}: {load.summary()}")

    def test_puts_are_refused_while_tables_cannot_grow(self):
        chance = random.Random(SEED)
        load = Workload(self, self.cluster.url(self.database), "--size", 2000)
        for _ in range(ROUNDS):
            load.wait_for(chance.randint(1, 100))
            self.flag.write_text(f"{self.cluster.data}/base")
            load.wait_for_refusals(10)
            self.flag.unlink()
            load.wait_for_each(10)
        self.finish(load, f"{ROUNDS} full disks")

    def test_a_server_that_stopped_for_want_of_room_has_lost_nothing(self):
        """Postgres panics when its write-ahead log cannot grow."""
        load = Workload(self, self.cluster.url(self.database), "--size", 20_000)
        self.flag.write_text(f"{self.cluster.data}/pg_wal")
        load.wait_until(lambda: load.read() and "PANIC" in self.cluster.log())
        self.flag.unlink()
        self.cluster.process.wait()
        self.cluster.start()
        load.wait_for_each(10)
        self.finish(load, "a server without room for its log")
