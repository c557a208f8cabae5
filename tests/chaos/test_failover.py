"""The primary is killed under load, and its synchronous standby takes over."""

import random

from twisted.trial.unittest import SynchronousTestCase

from tests.chaos import ROUNDS, SEED
from tests.chaos.queue_database import is_empty
from tests.chaos.workload import Workload
from tests.integration.postgres import start_cluster, url_of


class FailoverTests(SynchronousTestCase):
    def test_nothing_acknowledged_is_lost_when_the_primary_is_killed(self):
        chance = random.Random(SEED)
        primary = start_cluster(self)
        standby = primary.standby()
        self.addCleanup(standby.remove)
        primary.wait_for_standby()
        addresses = [("127.0.0.1", each.port) for each in (primary, standby)]
        database = primary.create_database()
        url = url_of(addresses, database, target_session_attrs="read-write", connect_timeout=3)
        load, stalls = Workload(self, url), []
        for _ in range(ROUNDS):
            load.wait_for(chance.randint(1, 200))
            load.watch()
            primary.kill()
            standby.promote()
            load.wait_for(50)
            stalls.append(load.stall)
            primary, standby = standby, primary
            standby.copy(primary)
            standby.start()
            primary.wait_for_standby()
        load.finish(lambda: is_empty(primary, database))
        load.check()
        print(
            f"seed {SEED}, {ROUNDS} failovers: {load.summary()}; longest stall {max(stalls):.1f} s"
        )
