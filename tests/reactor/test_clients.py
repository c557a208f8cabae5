"""Connecting, which is Twisted's own up to a connected socket."""

import socket

from twisted.internet.defer import Deferred
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.error import UserError
from twisted.internet.protocol import ClientFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.reactor.connections import run, turn


class Failing(ClientFactory):
    """`failed` fires with the reason why there is no connection."""

    noisy = False

    def __init__(self):
        self.failed = Deferred()

    def clientConnectionFailed(self, connector, reason):
        self.failed.callback(reason.type)


class ConnectingTests(SynchronousTestCase):
    def full(self):
        """Return a port whose queue of connections is full."""
        server = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.addCleanup(server.close)
        for _ in range(3):
            client = socket.socket()
            self.addCleanup(client.close)
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        return server.getsockname()[1]

    def test_a_server_that_does_not_answer_times_out(self):
        async def scenario(reactor):
            factory = Failing()
            reactor.connectTCP("127.0.0.1", self.full(), factory, timeout=0.1)
            self.assertIs(await factory.failed, ConnectTimeout)

        run(self, scenario)

    def test_an_attempt_can_be_stopped(self):
        async def scenario(reactor):
            factory = Failing()
            connector = reactor.connectTCP("127.0.0.1", self.full(), factory)
            await turn(reactor)
            connector.stopConnecting()
            self.assertIs(await factory.failed, UserError)

        run(self, scenario)
