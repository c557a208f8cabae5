"""`python -m evserve.fetch.bench` runs."""

import sys
import unittest

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.integration.web_servers import NGINX


@unittest.skipUnless(NGINX, "nginx is not installed")
class BenchTests(TestCase):
    async def test_every_client_that_needs_nothing_else_in_small_scenarios(self):
        words = (
            "-m evserve.fetch.bench --runs 1 --scale 0.005 "
            "--clients evserve evserve-uvloop engine engine-uvloop treq treq-evserve"
        )
        scenarios = ["--scenario", "1 KiB", "100 ms", "HTTPS kept", "HTTPS new"]
        out, err, status = await getProcessOutputAndValue(
            sys.executable, [*words.split(), *scenarios], env=None
        )
        self.assertEqual(status, 0, err.decode())
        for name in ("evserve", "evserve-uvloop", "engine", "engine-uvloop"):
            self.assertEqual(out.decode().count(f"\n  {name} "), 4, name)
        self.assertNotIn(b"FAILED", out)
