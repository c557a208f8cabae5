"""The primary is killed under load, and its synchronous standby takes over."""

import random

from twisted.trial.unittest import SynchronousTestCase

from tests.chaos import ROUNDS, SEED
from tests.chaos.queue_database import effects, is_empty, make_effects
from tests.chaos.workload import Workload
from tests.integration.postgres import start_cluster, url_of


class FailoverTests(SynchronousTestCase):
    def start(self):
        """Return a primary, its standby, the name of a database and its URL."""
        primary = start_cluster(self)
        standby = primary.standby()
        self.addCleanup(standby.remove)
        database = primary.create_database()
        addresses = [("127.0.0.1", each.port) for each in (primary, standby)]
        url = url_of(addresses, database, target_session_attrs="read-write", connect_timeout=3)
        return primary, standby, database, url

    def test_each_effect_happens_once_when_the_primary_is_killed(self):
        chance = random.Random(SEED)
        primary, standby, database, url = self.start()
        primary.wait_for_standby()
        make_effects(primary, database)
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

    def test_this_test_would_see_what_a_standby_lacks(self):
        primary, standby, database, url = self.start()
        load = Workload(self, url)
        start = primary.query("SELECT pg_current_wal_lsn()")[0][0]
        replayed = "SELECT pg_last_wal_replay_lsn() >= %s"
        load.wait_until(lambda: standby.query(replayed, start) == [(True,)])
        standby.configure(primary_conninfo="")  # it follows no more, and commits do not wait
        load.wait_for(100)
        primary.kill()
        standby.promote()
        load.wait_for_each(10)
        load.finish(lambda: is_empty(standby, database))
        self.assertRaises(AssertionError, load.check)
