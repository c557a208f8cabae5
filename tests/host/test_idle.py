"""Closing connections on which nothing moves."""

import socket
import struct

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.connections import Door
from evserve.host.descriptors import DescriptorGuard
from evserve.host.idle import IdleSweep, seconds_since_sent
from evserve.host.options import Limits


class Handle:
    """A socket that says how long ago it sent something."""

    def __init__(self, seconds, size=104):
        self.info = struct.pack("=44xI56x", int(seconds * 1000))[:size]

    def getsockopt(self, level, option, size):
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        return self.info


class Transport(StringTransport):
    def __init__(self, handle=None):
        super().__init__()
        self.handle = handle

    def getHandle(self):
        if self.handle is None:
            raise AttributeError
        return self.handle


class SweepTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.open(4.0)

    def open(self, timeout):
        guard = DescriptorGuard(self.clock, 1024)
        factory = Factory.forProtocol(Protocol)
        self.door = Door("echo", factory, Limits(idle_timeout=timeout), self.clock, guard)
        self.sweep = IdleSweep(self.door)
        self.sweep.start()

    def connect(self, handle=None):
        connection = self.door.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        connection.makeConnection(Transport(handle))
        return connection

    def advance(self, seconds):
        self.clock.pump([1.0] * seconds)

    def test_a_silent_connection_is_cut_after_the_time_out(self):
        connection = self.connect()
        self.advance(4)
        self.assertFalse(connection.transport.disconnected)
        self.advance(1)
        self.assertTrue(connection.transport.disconnected)

    def test_bytes_that_arrive_start_the_time_anew(self):
        connection = self.connect()
        for _ in range(5):
            self.advance(3)
            connection.dataReceived(b"x")
        self.assertFalse(connection.transport.disconnected)

    def test_bytes_that_are_sent_count_as_well(self):
        connection = self.connect(Handle(3.9))
        self.advance(20)
        self.assertFalse(connection.transport.disconnected)
        connection.transport.handle = Handle(4.0)
        self.advance(1)
        self.assertTrue(connection.transport.disconnected)

    def test_without_a_time_out_nobody_looks(self):
        self.sweep.stop()
        self.open(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.sweep.stop()

    def test_stopping_ends_the_sweeps(self):
        self.sweep.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_is_kept_about_connections_that_are_gone(self):
        connection = self.connect()
        self.advance(1)
        self.door.closed(connection)
        del connection
        self.assertEqual(len(self.sweep._seen), 0)


class SecondsSinceSentTests(SynchronousTestCase):
    def test_the_kernel_is_asked_beneath_every_layer(self):
        layer = type("Layer", (), {})()
        layer.transport = Transport(Handle(2.5))
        self.assertEqual(seconds_since_sent(layer), 2.5)

    def test_what_is_not_tcp_cannot_tell(self):
        for transport in (StringTransport(), Transport(Handle(1, size=8)), object()):
            self.assertIsNone(seconds_since_sent(transport))

    def test_an_error_of_the_kernel_is_no_answer(self):
        left, right = socket.socketpair()
        self.addCleanup(left.close)
        self.addCleanup(right.close)
        self.assertIsNone(seconds_since_sent(Transport(left)))
