"""One connection and its transport."""

from OpenSSL.SSL import Error, SysCallError
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from evserve.load.connection import LoadConnection, cause_of
from evserve.load.conversations import EchoConversation, Stream
from evserve.load.traffic import Traffic


class Owner:
    def opened(self, connection):
        self.connection = connection


class Wrapper(Protocol):
    """What endpoints put between a transport and a protocol."""

    def __init__(self, wrapped):
        self._wrappedProtocol = wrapped


class WrapperTests(SynchronousTestCase):
    def connect(self, above):
        """Return the connection and its transport, whose protocol is `above` the connection."""
        talk = EchoConversation(Stream.of(8), 0)
        connection = LoadConnection(talk, Traffic(lambda: None), Owner(), float, True)
        transport = StringTransport()
        transport.protocol = above(connection)
        connection.makeConnection(transport)
        return connection, transport

    def test_the_wrapper_of_an_endpoint_is_taken_out_of_the_hot_path(self):
        connection, transport = self.connect(Wrapper)
        self.assertIs(transport.protocol, connection)

    def test_anything_else_stays(self):
        """TLS reads from the transport, and must go on doing so."""
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
            self.assertEqual(cause_of(reason), words)
        self.assertIn("Unexpected EOF", cause_of(SysCallError(-1, "Unexpected EOF")))
