"""One connection and its transport, source addresses, and the limit of open files."""

import errno
import resource

from OpenSSL.SSL import Error, SysCallError
from twisted.internet.error import ConnectBindError, getConnectError
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from evserve.load.connections import (
    LoadConnection,
    SourceAddresses,
    TooManyFilesError,
    describe_cause,
    raise_file_limit,
)
from evserve.load.conversations import EchoConversation, Stream
from evserve.load.stats import MessageStats


class Pool:
    def connection_opened(self, connection):
        self.connection = connection


class Wrapper(Protocol):
    """What endpoints put between a transport and a protocol."""

    def __init__(self, wrapped):
        self._wrappedProtocol = wrapped


class WrapperTests(SynchronousTestCase):
    def connect(self, above):
        """Return the connection and its transport, whose protocol is `above` the connection."""
        conversation = EchoConversation(Stream.of(8), 0)
        connection = LoadConnection(conversation, MessageStats(lambda: None), Pool(), float, True)
        transport = StringTransport()
        transport.protocol = above(connection)
        connection.makeConnection(transport)
        return connection, transport

    def test_the_wrapper_of_an_endpoint_is_taken_out_of_the_hot_path(self):
        connection, transport = self.connect(Wrapper)
        self.assertIs(transport.protocol, connection)

    def test_anything_else_stays(self):
        """TLS reads from the transport, and must continue to do so."""
        for above in (lambda _: Protocol(), lambda _: Wrapper(Protocol())):
            connection, transport = self.connect(above)
            self.assertIsNot(transport.protocol, connection)


class CauseTests(SynchronousTestCase):
    def test_a_cause_is_a_few_words(self):
        for reason, words in (
            (Error([("SSL routines", "", "unexpected message")]), "TLS: unexpected message"),
            (Error(), "Error"),
            (
                OverflowError("connect_ex(): port must be 0-65535."),
                "not a port number (0 to 65535)",
            ),
            (ValueError("two\nlines"), "two lines"),
        ):
            self.assertEqual(describe_cause(reason), words)
        self.assertIn("Unexpected EOF", describe_cause(SysCallError(-1, "Unexpected EOF")))


NO_PORT = getConnectError((errno.EADDRNOTAVAIL, "no port"))


class SourceAddressTests(SynchronousTestCase):
    def test_the_system_chooses_until_its_ports_are_used_up(self):
        sources = SourceAddresses("tcp:127.0.0.1:9000")
        first = sources.current
        self.assertEqual(first, "tcp:127.0.0.1:9000")
        self.assertTrue(sources.advance(first, NO_PORT))
        self.assertEqual(sources.current, "tcp:127.0.0.1:9000:bindAddress=127.0.0.2")
        self.assertTrue(sources.advance(sources.current, ConnectBindError(errno.EADDRINUSE, "")))
        self.assertTrue(sources.current.endswith(".3"))

    def test_several_failures_with_one_address_are_one_step(self):
        sources = SourceAddresses("tcp:host=127.0.0.1:port=9000")
        first = sources.current
        for _ in range(5):
            self.assertTrue(sources.advance(first, NO_PORT))
        self.assertTrue(sources.current.endswith(".2"))

    def test_other_errors_do_not_change_the_address(self):
        sources = SourceAddresses("tcp:127.0.0.1:9000")
        for error in (getConnectError((errno.ECONNREFUSED, "")), ValueError("x")):
            self.assertFalse(sources.advance(sources.current, error))

    def test_only_loopback_has_other_addresses(self):
        for connect in ("tcp:192.0.2.1:9000", "tcp:localhost:9000", "unix:/run/echo"):
            sources = SourceAddresses(connect)
            self.assertFalse(sources.advance(connect, NO_PORT))

    def test_an_address_that_was_asked_for_stays(self):
        connect = "tcp:127.0.0.1:9000:bindAddress=127.0.0.9"
        self.assertFalse(SourceAddresses(connect).advance(connect, NO_PORT))

    def test_the_addresses_end(self):
        sources = SourceAddresses("tcp:127.0.0.1:9000")
        moves = 0
        while sources.advance(sources.current, NO_PORT):
            moves += 1
        self.assertEqual(moves, 253)


class FileLimitTests(SynchronousTestCase):
    def limits(self, soft, hard, connections):
        given = []
        self.patch(resource, "getrlimit", lambda _: (soft, hard))
        self.patch(resource, "setrlimit", lambda _, limits: given.append(limits))
        raise_file_limit(connections)
        return given

    def test_the_soft_limit_is_raised_as_far_as_needed(self):
        self.assertEqual(self.limits(1024, 20_000, 10_000), [(10_064, 20_000)])
        self.assertEqual(
            self.limits(1024, resource.RLIM_INFINITY, 10_000), [(10_064, resource.RLIM_INFINITY)]
        )

    def test_a_limit_that_is_high_enough_stays(self):
        self.assertEqual(self.limits(1024, 2048, 100), [])
        self.assertEqual(self.limits(resource.RLIM_INFINITY, resource.RLIM_INFINITY, 100), [])

    def test_a_hard_limit_that_is_too_low_is_one_line(self):
        error = self.assertRaises(TooManyFilesError, self.limits, 1024, 4096, 5000)
        self.assertEqual(
            str(error), "5000 connections need 5064 open files, but 'ulimit -Hn' allows 4096"
        )
