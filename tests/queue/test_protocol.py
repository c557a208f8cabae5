"""Replies on Twisted's own TCP transport."""

import socket

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from evserve.queue.protocol import _sender


class SenderTests(SynchronousTestCase):
    def setUp(self):
        ours, self.client = socket.socketpair()
        self.addCleanup(self.client.close)
        self.transport = Connection(ours, Protocol(), MemoryReactor())
        self.transport.connected = 1
        self.send = _sender(self.transport)

    def lose(self):
        self.transport.connectionLost(Failure(ConnectionDone()))

    def test_a_reply_goes_out_at_once(self):
        self.send(b"INSERTED 1\r\n")
        self.assertEqual(self.client.recv(99), b"INSERTED 1\r\n")
        self.lose()

    def test_a_reply_whose_commit_ends_when_the_client_has_gone_is_dropped(self):
        self.lose()
        self.send(b"INSERTED 1\r\n")
        self.assertEqual(self.client.recv(99), b"")
