"""The primary is killed under load, and its synchronous standby takes over."""

import random
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.chaos import ROUNDS, SEED
from tests.chaos.queue_database import effects, is_empty, make_effects
from tests.chaos.workload import Workload
from tests.integration.postgres import start_cluster, url_of
from tests.integration.queue_server import QueueServer
from tests.ports import free_port


BELOW_SERVERS = -(-ROUNDS // 4)  # they take more than a second of CPU each
TAKE_OVER = 5
"""Seconds after a promotion within which a queue server is active, and the other one knows it."""


class FailoverTests(SynchronousTestCase):
    def setUp(self):
        self.chance = random.Random(SEED)
        self.primary = start_cluster(self)
        self.standby = self.primary.standby()
        self.addCleanup(self.standby.remove)
        self.database = self.primary.create_database()
        addresses = [("127.0.0.1", each.port) for each in (self.primary, self.standby)]
        parameters = {"target_session_attrs": "read-write", "connect_timeout": 3}
        self.url = url_of(addresses, self.database, **parameters)

    def fail_over(self, load, rounds):
        """Yield after each promotion; the old primary then follows the new one."""
        for _ in range(rounds):
            load.wait_for(self.chance.randint(1, 200))
            self.primary.kill()
            self.standby.promote()
            yield
            load.wait_for_each(10)
            self.primary, self.standby = self.standby, self.primary
            self.standby.copy(self.primary)
            self.standby.start()
            self.primary.wait_for_standby()

    def test_each_effect_happens_once_when_the_primary_is_killed(self):
        self.primary.wait_for_standby()
        make_effects(self.primary, self.database)
        load = Workload(self, self.url, "--effect")
        for _ in self.fail_over(load, ROUNDS):
            pass
        load.finish(lambda: is_empty(self.primary, self.database))
        load.check(effects(self.primary, self.database))
        print(f"seed {SEED}, {ROUNDS} failovers: {load.summary()}")

    def test_a_queue_server_is_active_again_by_itself(self):
        self.primary.wait_for_standby()
        ports = free_port(), free_port()
        servers = [
            QueueServer(self, "--store", self.url, port=port, stands_by=number > 0)
            for number, port in enumerate(ports)
        ]
        load = Workload(self, "beanstalk://127.0.0.1:PROXY", "--proxy", *ports)
        longest = 0.0
        for _ in self.fail_over(load, BELOW_SERVERS):
            promoted = time.monotonic()
            for server in servers:
                server.wait_for(b"store: this server is active|standing by: another server")
            longest = max(longest, time.monotonic() - promoted)
        load.finish(lambda: is_empty(self.primary, self.database))
        load.check()
        self.assertLess(longest, TAKE_OVER)
        print(
            f"seed {SEED}, {BELOW_SERVERS} failovers below queue servers: {load.summary()}; "
            f"active {longest:.1f} s after the promotion at the latest"
        )

    def test_this_test_would_see_what_a_standby_lacks(self):
        load = Workload(self, self.url)
        start = self.primary.query("SELECT pg_current_wal_lsn()")[0][0]
        replayed = "SELECT pg_last_wal_replay_lsn() >= %s"
        load.wait_until(lambda: self.standby.query(replayed, start) == [(True,)])
        self.standby.configure(primary_conninfo="")  # it follows no more, and commits do not wait
        load.wait_for(100)
        self.primary.kill()
        self.standby.promote()
        load.wait_for_each(10)
        load.finish(lambda: is_empty(self.standby, self.database))
        self.assertRaises(AssertionError, load.check)
