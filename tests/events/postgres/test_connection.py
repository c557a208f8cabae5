import socket
from types import SimpleNamespace

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from evserve.events.postgres.connection import Connection


class ConnectionTests(SynchronousTestCase):
    def setUp(self):
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        self.reactor = MemoryReactorClock()
        libpq = SimpleNamespace(
            socket=ours.fileno(),
            enter_pipeline_mode=lambda: None,
            pipeline_sync=lambda: None,
            flush=lambda: 1,
            finish=lambda: None,
        )
        self.connection = Connection(libpq, self.reactor, notified=self.fail, lost=self.fail)
        receiver = SimpleNamespace(lost=lambda _: None)
        self.addCleanup(self.connection.close, None)
        self.connection.send([], receiver)

    def test_an_answer_that_does_not_come_is_silence(self):
        self.reactor.advance(11)
        self.assertEqual(self.connection.silence(), 11)

    def test_a_server_that_still_reads_is_not_silent(self):
        self.reactor.advance(11)
        self.connection.doWrite()
        self.assertEqual(self.connection.silence(), 0)
