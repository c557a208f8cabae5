"""Connections that are gone leave nothing behind."""

import gc
from functools import partial
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from evserve.reactor.secure import Stream
from tests.reactor.running import listen, run, turn


class Once(Protocol):
    """Sends a byte, and ends when it comes back."""

    def connectionMade(self):
        self.transport.write(b"x")

    def dataReceived(self, data):
        self.transport.loseConnection()

    def connectionLost(self, reason):
        self.factory.next_one()


class Back(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)


class Churn(ClientFactory):
    """Connects again and again; `done` fires after `count` connections."""

    noisy = False
    protocol = Once

    def __init__(self, reactor, port, count):
        self.connect = partial(reactor.connectTCP, "127.0.0.1", port.getHost().port, self)
        self.count = count
        self.done = Deferred()
        self.connect()

    def next_one(self):
        self.count -= 1
        if self.count:
            self.connect()
        else:
            self.done.callback(None)


class LeakTests(SynchronousTestCase):
    def test_connections_that_are_gone_leave_nothing_for_the_collector(self):
        async def scenario(reactor):
            port = listen(reactor, Back)
            await self._churn(reactor, port, 50)
            gc.collect()
            before = len(list(Path("/proc/self/fd").iterdir()))
            gc.disable()
            try:
                await self._churn(reactor, port, 1000)
                garbage = [each for each in self._found() if isinstance(each, Stream | Protocol)]
            finally:
                gc.enable()
            self.assertEqual(garbage, [])
            self.assertEqual(len(list(Path("/proc/self/fd").iterdir())), before)
            self.assertEqual(reactor.streams, set())

        run(self, scenario)

    async def _churn(self, reactor, port, count):
        await Churn(reactor, port, count).done
        await turn(reactor, 0.05)

    def _found(self):
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            gc.collect()
            return list(gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
