"""What real workers count reaches their parent."""

import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import TestCase

from evserve.host.workers.launch import Launcher
from evserve.host.workers.supervisor import Crew
from evserve.host.workers.totals import Totals
from tests.integration.processes import TWISTD, on_chosen_reactor


class WatchedTotals(Totals):
    """Totals that tell when a sum has been reached."""

    def __init__(self):
        Totals.__init__(self)
        self.waiting = []

    def value(self, name):
        return sum(s.value for m in self.collect() for s in m.samples if s.name == name)

    def reaches(self, name, value):
        deferred = Deferred()
        self.waiting.append((name, value, deferred))
        return deferred

    def update(self, worker, families):
        Totals.update(self, worker, families)
        for entry in list(self.waiting):
            if self.value(entry[0]) == entry[1]:
                self.waiting.remove(entry)
                entry[2].callback(None)


class CountTests(TestCase):
    def setUp(self):
        from twisted.internet import reactor

        self.reactor = reactor
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.addCleanup(self.listener.close)

    def start(self):
        words = ["-n", "evserve", "echo", "--port", "0"]
        command = on_chosen_reactor([sys.executable, TWISTD, *words])
        launcher = Launcher(self.reactor, False, command, Path(self.folder))
        self.crew = Crew(2, self.reactor, launcher, self.fail, WatchedTotals())
        self.addCleanup(self.crew.stopService)
        self.crew.start({("echo", "tcp:0"): self.listener.fileno()})
        return self.crew.complete

    def connect(self):
        host, port = self.listener.getsockname()
        return connectProtocol(clientFromString(self.reactor, f"tcp:{host}:{port}"), Protocol())

    async def test_connections_are_summed_and_no_count_goes_back_when_a_worker_dies(self):
        await self.start()
        clients = [await self.connect() for _ in range(10)]
        totals = self.crew.totals
        await totals.reaches("evserve_connections", 10)
        for pid in self.crew.pids():
            os.kill(pid, signal.SIGKILL)
        await totals.reaches("evserve_connections", 0)  # what the new ones report
        self.assertEqual(totals.value("evserve_connections_accepted_total"), 10)
        for client in clients:
            client.transport.abortConnection()
