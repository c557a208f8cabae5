"""`python -m benchmarks.http` runs."""

import sys
import unittest

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.integration.web_servers import NGINX


@unittest.skipUnless(NGINX, "nginx is not installed")
class BenchTests(TestCase):
    async def bench(self, clients, scenarios):
        """Run it in small; every client has a line for every scenario."""
        words = ["-m", "benchmarks.http", "--runs", "1", "--scale", "0.005", "--clients"]
        out, err, status = await getProcessOutputAndValue(
            sys.executable, [*words, *clients, "--scenario", *scenarios], env=None
        )
        self.assertEqual(status, 0, err.decode())
        for name in clients:
            self.assertEqual(out.decode().count(f"\n  {name} "), len(scenarios), name)
        self.assertNotIn(b"FAILED", out)

    async def test_clients_without_extra_modules_run_every_scenario(self):
        clients = ["evserve", "evserve-epoll", "client", "client-epoll", "treq", "treq-evserve"]
        await self.bench(clients, ["HTTPS kept"])

    async def test_the_remaining_scenarios_run(self):
        await self.bench(["evserve"], ["1 KiB", "100 ms", "HTTPS new"])
