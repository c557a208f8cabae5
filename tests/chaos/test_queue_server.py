"""Of two queue servers on one database, the active one is killed, and the other takes over."""

import random

from twisted.trial.unittest import SynchronousTestCase

from tests.chaos import ROUNDS, SEED
from tests.chaos.queue_database import is_empty
from tests.chaos.workload import Workload
from tests.integration.postgres import shared_cluster
from tests.integration.queue_server import QueueServer


KILLS = -(-ROUNDS // 4)  # a server takes half a second of CPU to start


class QueueServerTests(SynchronousTestCase):
    def test_nothing_acknowledged_is_lost_when_another_server_takes_over(self):
        cluster, chance = shared_cluster(), random.Random(SEED)
        database = cluster.create_database()
        options = ("--store", cluster.url(database))
        active = QueueServer(self, *options)
        load = Workload(self, "beanstalk://127.0.0.1:PROXY", "--proxy", active.port)
        for _ in range(KILLS):
            other = QueueServer(self, *options, stands_by=True)
            load.wait_for(chance.randint(1, 200))
            active.kill()
            other.wait_until_active()
            load.tell(f"target {other.port}")  # as a load balancer does
            load.wait_for_each(10)
            active = other
        load.finish(lambda: is_empty(cluster, database))
        load.check()
        print(f"seed {SEED}, {KILLS} queue servers killed: {load.summary()}")
