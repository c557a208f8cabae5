"""Twisted's own reactor tests on this reactor."""

import contextlib
import json
import socket
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.integration.processes import run_python


ROOT = Path(__file__).parents[2]

# Tests that are skipped or fail on epoll don't count: without `gi`; test_changeUID as root.
FEWEST = 290
FEWEST_WITHOUT_IPV6 = 240


def has_ipv6():
    """Return whether the kernel has IPv6 enabled."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


async def outcomes_on(test, name):
    child = run_python(
        test, "-W", "ignore", "-m", "tests.reactor.conformance", name, folder=ROOT, stdin=False
    )
    await child.ended
    return json.loads(child.out.splitlines()[-1])


class ConformanceTests(TestCase):
    def test_every_test_that_passes_on_epoll_passes_on_uvloop(self):
        return Deferred.fromCoroutine(self._compare())

    async def _compare(self):
        epoll = Deferred.fromCoroutine(outcomes_on(self, "Epoll"))
        here = await outcomes_on(self, "Uvloop")
        passing = {name for name, outcome in (await epoll).items() if outcome == "pass"}
        self.assertGreater(len(passing), FEWEST if has_ipv6() else FEWEST_WITHOUT_IPV6)
        self.assertEqual({name: here[name] for name in passing if here[name] != "pass"}, {})
