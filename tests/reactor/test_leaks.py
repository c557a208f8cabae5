"""Closed connections leave nothing behind."""

import gc
from pathlib import Path

from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase

from evserve.reactor.stream import Stream
from tests.reactor.churn import Back, churn, garbage
from tests.reactor.connections import listen, run


class LeakTests(SynchronousTestCase):
    def test_closed_connections_leave_nothing_for_the_collector(self):
        async def scenario(reactor):
            port = listen(reactor, Back)
            await churn(reactor, port, 50)
            gc.collect()
            before = len(list(Path("/proc/self/fd").iterdir()))
            gc.disable()
            try:
                await churn(reactor, port, 1000)
                left = [each for each in garbage() if isinstance(each, Stream | Protocol)]
            finally:
                gc.enable()
            self.assertEqual(left, [])
            self.assertEqual(len(list(Path("/proc/self/fd").iterdir())), before)
            self.assertEqual(reactor.streams, set())

        run(self, scenario)
