"""The clusters that tests start: what a kill leaves, and what a broken network lets through."""

import socket
import subprocess
import sys
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.wire import Echo
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.documents import ROOT
from tests.integration.lossy_proxy import LossyProxy
from tests.integration.postgres import fresh_database, shared_cluster, start_cluster


# The last line of its output ends when the watchdog has, which has the same standard output.
OWNER = """
import os, signal
from tests.integration.postgres import Cluster
cluster = Cluster().start()
print(cluster.process.pid, cluster.folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


class ClusterTests(SynchronousTestCase):
    def test_a_killed_test_process_leaves_no_server(self):
        shared_cluster()  # skips this test where Postgres is missing
        command = [sys.executable, "-c", OWNER]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        pid, folder = done.stdout.split()
        self.assertFalse(Path(folder).exists())
        stat = Path("/proc", pid, "stat")
        self.assertTrue(not stat.exists() or stat.read_text().split()[2] == "Z")

    def test_databases_are_new(self):
        self.assertNotEqual(fresh_database(), fresh_database())

    def test_a_standby_has_what_was_committed_when_its_primary_is_killed(self):
        primary = start_cluster(self)
        standby = primary.standby()
        self.addCleanup(standby.remove)
        primary.wait_for_standby()
        primary.query("CREATE TABLE number AS SELECT 7 AS value")
        primary.kill()
        standby.promote()
        self.assertEqual(standby.query("SELECT value FROM number"), [(7,)])
        primary.copy(standby)
        primary.start()
        standby.wait_for_standby()
        standby.query("UPDATE number SET value = 8")
        standby.kill()
        primary.promote()
        self.assertEqual(primary.query("SELECT value FROM number"), [(8,)])


class Client(Protocol):
    def __init__(self):
        self.got = b""
        self.waiting = None
        self.lost = Deferred()

    async def receive(self, size):
        while len(self.got) < size:
            self.waiting = Deferred()
            await self.waiting
        return self.got

    def dataReceived(self, data):
        self.got += data
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            waiting.callback(None)

    def connectionLost(self, reason):
        self.lost.callback(reason.value)


class LossyProxyTests(TestCase):
    async def start(self):
        from twisted.internet import reactor

        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        server = await endpoint.listen(Factory.forProtocol(Echo))
        self.addCleanup(server.stopListening)
        proxy = await LossyProxy(server.getHost().port).listen()
        self.addCleanup(proxy.close)
        return proxy, await self.connect(proxy)

    async def connect(self, proxy):
        from twisted.internet import reactor

        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", proxy.port)
        return await connectProtocol(endpoint, Client())

    async def test_what_a_frozen_network_held_back_comes_when_it_is_mended(self):
        proxy, client = await self.start()
        proxy.after_replies(3, proxy.freeze)
        client.transport.write(b"abcdef")
        await client.receive(3)
        client.transport.write(b"ghi")
        self.assertEqual(client.got, b"abc")
        proxy.mend()
        self.assertEqual(await client.receive(9), b"abcdefghi")

    async def test_a_frozen_network_acknowledges_no_packet(self):
        proxy, client = await self.start()
        client.transport.getHandle().setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 50)
        proxy.freeze()
        client.transport.write(b"x")
        self.assertIsInstance(await client.lost, ConnectionLost)
        proxy.mend()
        client = await self.connect(proxy)
        client.transport.write(b"x")
        await client.receive(1)

    async def test_a_cut_resets_connections(self):
        proxy, client = await self.start()
        proxy.refuse()
        await client.lost
        client = await self.connect(proxy)
        await client.lost
        proxy.mend()
        client = await self.connect(proxy)
        client.transport.write(b"x")
        await client.receive(1)
