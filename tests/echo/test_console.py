"""The console: its commands, and that closing it does not stop the server."""

import os

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from evserve.echo.console import Console, ConsoleService, peer_name
from evserve.echo.protocol import EchoFactory, Transform
from evserve.testing import MemoryHost


class PeerNameTests(SynchronousTestCase):
    def test_addresses_read_as_they_are_typed(self):
        names = [
            peer_name(address)
            for address in (
                IPv4Address("TCP", "127.0.0.1", 1),
                IPv6Address("TCP", "::1", 2),
                UNIXAddress(b""),
            )
        ]
        self.assertEqual(names, ["127.0.0.1:1", "[::1]:2", "unix"])


class ConsoleTests(SynchronousTestCase):
    def setUp(self):
        self.host = MemoryHost()
        self.factory = EchoFactory(Transform(), 0.0, self.host.reactor)
        self.console = Console(self.host, self.factory)
        self.terminal = StringTransport()
        self.console.makeConnection(self.terminal)

    def connect(self, address):
        """Connect a client; return the server's protocol."""
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(StringTransport(peerAddress=address))
        return protocol

    def ask(self, commands):
        """Return the answers."""
        self.terminal.clear()
        self.console.dataReceived(commands)
        return self.terminal.value()

    def test_answers_go_to_standard_output(self):
        self.connect(IPv4Address("TCP", "127.0.0.1", 5))
        self.host.reactor.advance(4)
        self.assertEqual(
            self.ask(b"status\r\n CONNECTIONS \n"),
            b"up 4 s, 1 connected, 1 connections since the start\n127.0.0.1:5 for 4 s\n",
        )

    def test_status_counts_open_and_all_connections(self):
        self.connect(UNIXAddress(b""))
        self.connect(UNIXAddress(b"")).connectionLost()
        self.host.reactor.advance(61)
        self.assertEqual(
            self.ask(b"status\n"), b"up 61 s, 1 connected, 2 connections since the start\n"
        )

    def test_connections_lists_each_client_on_its_line(self):
        self.assertEqual(self.ask(b"connections\n"), b"no connections\n")
        self.connect(IPv4Address("TCP", "127.0.0.1", 5))
        self.host.reactor.advance(3.4)
        self.connect(UNIXAddress(b""))
        self.assertEqual(self.ask(b"connections\n"), b"127.0.0.1:5 for 3 s\nunix for 0 s\n")

    def test_help_names_every_command(self):
        self.assertEqual(self.ask(b"help\n"), b"status, connections, quit, help\n")

    def test_an_unknown_command_is_answered_with_the_known_ones(self):
        self.assertEqual(
            self.ask(b"stats\n"),
            b"unknown command 'stats'; known: status, connections, quit, help\n",
        )

    def test_quit_finishes_with_success(self):
        self.console.dataReceived(b"quit\n")
        self.assertEqual(self.host.statuses, [0])

    def test_empty_lines_get_no_answer(self):
        self.console.dataReceived(b"\n \n")
        self.assertEqual(self.terminal.value(), b"")

    def test_bytes_that_are_no_text_are_an_unknown_command(self):
        self.console.dataReceived(b"\xff\n")
        self.assertIn(b"unknown command", self.terminal.value())

    def test_the_end_of_input_or_output_stops_nothing(self):
        verifyObject(IHalfCloseableProtocol, self.console)
        self.console.readConnectionLost()
        self.console.writeConnectionLost()
        self.assertEqual((self.host.statuses, self.host.failures), ([], []))


class PipeReactor(Clock):
    """Remembers which descriptors are watched."""

    def __init__(self):
        super().__init__()
        self.readers = set()
        self.addReader, self.removeReader = self.readers.add, self.readers.discard
        self.addWriter, self.removeWriter = set().add, set().discard


class ConsoleServiceTests(SynchronousTestCase):
    def start(self, stdin, stdout):
        self.host = MemoryHost(PipeReactor())
        factory = EchoFactory(Transform(), 0.0, self.host.reactor)
        service = ConsoleService(self.host, factory, stdin, stdout)
        service.startService()
        return service

    def test_it_reads_standard_input_while_it_runs(self):
        ends = os.pipe()
        for end in ends:
            self.addCleanup(os.close, end)
        service = self.start(*ends)
        self.assertIn(ends[0], [reader.fileno() for reader in self.host.reactor.readers])
        service.stopService()
        self.assertNotIn(ends[0], [reader.fileno() for reader in self.host.reactor.readers])

    def test_a_closed_standard_input_or_output_only_means_no_console(self):
        for stdin, stdout in [(None, 1), (0, None)]:
            service = self.start(stdin, stdout)
            self.assertEqual(self.host.reactor.readers, set())
            service.stopService()
        self.assertEqual(self.host.failures, [])
