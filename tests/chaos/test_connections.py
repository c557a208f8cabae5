"""Connections are terminated, cut and frozen, and processes killed, all at random."""

import random

from twisted.trial.unittest import SynchronousTestCase

from tests.chaos import ROUNDS, SEED
from tests.chaos.queue_database import effects, is_empty, make_effects
from tests.chaos.workload import Workload
from tests.integration.postgres import start_cluster, url_of


class ConnectionTests(SynchronousTestCase):
    def setUp(self):
        self.cluster = start_cluster(self)
        self.database = self.cluster.create_database()
        make_effects(self.cluster, self.database)
        self.chance = random.Random(SEED)

    def finish(self, load, what):
        load.finish(lambda: is_empty(self.cluster, self.database))
        load.check(effects(self.cluster, self.database))
        print(f"seed {SEED}, {ROUNDS} rounds of {what}: {load.summary()}")

    def test_terminated_backends_killed_servers_and_killed_workers(self):
        load = Workload(self, self.cluster.url(self.database), "--effect")
        for number in range(ROUNDS):
            load.wait_for(self.chance.randint(1, 200))
            if number % 2:
                self.cluster.kill()
                self.cluster.start()
            else:
                self.terminate()
            if number % 5 == 0:
                load.kill(-1)
                load.start()
            load.wait_for_each(10)
        self.finish(load, "pg_terminate_backend or kill -9")

    def terminate(self):
        """Terminate one of the connections, or all of them."""
        pids = self.cluster.query(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s", self.database
        )
        self.assertNotEqual(pids, [])
        for (pid,) in pids if self.chance.random() < 0.3 else [self.chance.choice(pids)]:
            self.cluster.query("SELECT pg_terminate_backend(%s)", pid)

    def test_a_network_that_is_cut_or_freezes_in_the_middle_of_replies(self):
        parameters = {
            "connect_timeout": 2,
            "keepalives_idle": 1,
            "keepalives_interval": 1,
            "keepalives_count": 1,
            "tcp_user_timeout": 500,
        }
        url = url_of([("127.0.0.1", "PROXY")], self.database, **parameters)
        load = Workload(self, url, "--effect", "--proxy", self.cluster.port)
        for _ in range(ROUNDS):
            load.wait_for(self.chance.randint(1, 200))
            what = self.chance.choice(("cut", "freeze", "freeze", "refuse"))
            count = self.chance.randrange(5000)
            load.tell(what if count > 4000 else f"{what}-after {count}", number=0)
            # The other worker goes on. After a short freeze all is as it was, after a long one
            # the engine has given the connection up.
            load.wait_for(self.chance.choice((20, 20, 400)))
            load.tell("mend", number=0)
            load.wait_for_each(10)
        self.finish(load, "a broken network")
