"""The primary is killed under load, and its synchronous standby takes over."""

import random

from twisted.trial.unittest import SynchronousTestCase

from tests.chaos import ROUNDS, SEED
from tests.chaos.queue_database import effects, is_empty, make_effects
from tests.chaos.workload import Workload
from tests.integration.postgres import start_cluster, url_of


class FailoverTests(SynchronousTestCase):
    def test_each_effect_happens_once_when_the_primary_is_killed(self):
        chance = random.Random(SEED)
        primary = start_cluster(self)
        standby = primary.standby()
        self.addCleanup(standby.remove)
        primary.wait_for_standby()
        database = primary.create_database()
        make_effects(primary, database)
        addresses = [("127.0.0.1", each.port) for each in (primary, standby)]
        url = url_of(addresses, database, target_session_attrs="read-write", connect_timeout=3)
        load = Workload(self, url, "--effect")
        for _ in range(ROUNDS):
            load.wait_for(chance.randint(1, 200))
            primary.kill()
            standby.promote()
            load.wait_for_each(10)
            primary, standby = standby, primary
            standby.copy(primary)
            standby.start()
            primary.wait_for_standby()
        load.finish(lambda: is_empty(primary, database))
        load.check(effects(primary, database))
        print(f"seed {SEED}, {ROUNDS} failovers: {load.summary()}")
