"""A loop of asyncio's for a test that needs no reactor."""

import asyncio
import gc
import sys
from types import SimpleNamespace
from unittest.mock import patch

from twisted.trial.unittest import SkipTest, SynchronousTestCase


class LoopTestCase(SynchronousTestCase):
    """The loop belongs to the installed reactor; it has nothing to complain of."""

    def setUp(self):
        gc.freeze()  # so that the garbage of this test is soon collected
        self.addCleanup(gc.unfreeze)
        self.loop = self.new_loop()
        self.addCleanup(self.loop.close)
        self.problems = []
        self.loop.set_exception_handler(lambda _, context: self.problems.append(context))
        self.reactor = SimpleNamespace(_asyncioEventloop=self.loop)
        self.install(self.reactor)
        self.addCleanup(self.assert_no_problems)

    def assert_no_problems(self):
        gc.collect()  # what was not looked at is logged
        self.assertEqual(self.problems, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def new_loop(self):
        return asyncio.new_event_loop()

    def install(self, reactor):
        patcher = patch.dict(sys.modules, {"twisted.internet.reactor": reactor})
        patcher.start()
        self.addCleanup(patcher.stop)

    def run_in_task(self, coroutine):
        """Run a coroutine to its end; return its result."""
        return self.loop.run_until_complete(coroutine)


async def turns(count=3):
    """Let the loop run what it has to."""
    for _ in range(count):
        await asyncio.sleep(0)


def new_uvloop():
    """Return a loop as that of the default reactor; skips the test where it has none."""
    try:
        import uvloop
    except ImportError:
        raise SkipTest("uvloop is not installed") from None
    return uvloop.new_event_loop()
