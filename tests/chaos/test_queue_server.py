"""Of two queue servers on one database, the active one is lost, and the other takes over."""

import random
import time

from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import TestCase

from tests.chaos import ROUNDS, SEED
from tests.chaos.queue_database import is_empty
from tests.chaos.workload import PATIENCE, Workload
from tests.integration.lossy_proxy import LossyProxy
from tests.integration.postgres import shared_cluster, url_of
from tests.integration.queue_server import QueueServer
from tests.ports import free_port


KILLS = -(-ROUNDS // 4)  # a server takes half a second of CPU to start
FREEZES = -(-ROUNDS // 10)  # each takes five seconds
TAKE_OVER = 10
"""Seconds within which another server is active; five are usual."""


class QueueServerTests(TestCase):
    timeout = PATIENCE * ROUNDS

    def setUp(self):
        self.chance = random.Random(SEED)
        self.cluster = shared_cluster()
        self.database = self.cluster.create_database()
        self.ports = free_port(), free_port()

    def work(self):
        return Workload(self, "beanstalk://127.0.0.1:PROXY", "--proxy", *self.ports)

    def finish(self, load, what):
        load.finish(lambda: is_empty(self.cluster, self.database))
        load.check()
        print(f"seed {SEED}, {what}: {load.summary()}")

    def test_nothing_acknowledged_is_lost_when_another_server_takes_over(self):
        options = ("--store", self.cluster.url(self.database))
        active = QueueServer(self, *options, port=self.ports[0])
        load = self.work()
        for number in range(KILLS):
            port = self.ports[(number + 1) % 2]
            other = QueueServer(self, *options, port=port, stands_by=True)
            load.wait_for(self.chance.randint(1, 200))
            active.kill()
            other.wait_until_active()
            load.wait_for_each(10)
            active = other
        self.finish(load, f"{KILLS} queue servers killed")

    async def test_another_server_takes_over_when_the_network_to_postgres_freezes(self):
        from twisted.internet import reactor

        proxies = [await LossyProxy(self.cluster.port).listen() for _ in self.ports]
        for proxy in proxies:
            self.addCleanup(proxy.close)
        await deferToThread(self.freeze, proxies, reactor)

    def freeze(self, proxies, reactor):
        """Freeze the network of the active server, and mend it when the other one is active."""
        servers = []
        for proxy, port in zip(proxies, self.ports, strict=True):
            url = url_of([("127.0.0.1", proxy.port)], self.database)
            stands_by = bool(servers)
            servers.append(QueueServer(self, "--store", url, port=port, stands_by=stands_by))
        load, longest = self.work(), 0.0
        for number in range(FREEZES):
            active = number % 2
            load.wait_for(self.chance.randint(1, 200))
            blockingCallFromThread(reactor, proxies[active].freeze)
            frozen = time.monotonic()
            servers[1 - active].wait_until_active()
            longest = max(longest, time.monotonic() - frozen)
            load.wait_for_each(10)
            blockingCallFromThread(reactor, proxies[active].mend)
            servers[active].wait_for(b"standing by: another server is active")
        self.finish(load, f"{FREEZES} frozen networks, {longest:.1f} s until active at the latest")
        self.assertLess(longest, TAKE_OVER)
