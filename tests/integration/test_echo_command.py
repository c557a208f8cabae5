"""The echo service as a process: `twistd -n evserve echo ...`."""

import socket

from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.integration.processes import spawn
from tests.integration.stream_client import StreamClient
from tests.ports import free_port


def ask_udp(address, datagram):
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(120)
        client.sendto(datagram, (host, int(port)))
        return client.recv(65535)


class EchoTestCase(TestCase):
    async def connect(self, server):
        from twisted.internet import reactor

        client = StreamClient()
        address = await server.listening()
        await connectProtocol(clientFromString(reactor, f"tcp:{address}"), client)
        self.addCleanup(client.hang_up)
        return client


class CommandTests(EchoTestCase):
    async def test_the_options_do_what_they_say(self):
        server = spawn(self, "--port", "0", "echo", "--transform", "upper", "--suffix", "!")
        client = await self.connect(server)
        client.transport.write(b"hello\n")
        self.assertEqual(await client.receive(7), b"HELLO!\n")

    async def test_udp_answers_beside_the_streams(self):
        server = spawn(self, "echo", "--port", "0", "--udp")
        await self.connect(server)
        address = await server.listening("udp")
        self.assertEqual(await deferToThread(ask_udp, address, b"hi"), b"hi")

    async def test_a_udp_port_in_use_is_one_line_and_status_1(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            port = free_port()  # for TCP
            taken.bind(("127.0.0.1", port))
            server = spawn(self, "echo", "--udp", "--port", str(port))
            self.assertEqual(await server.ended, 1)
        line = f"evserve: echo: cannot listen on udp 127.0.0.1:{port}: Address already in use"
        self.assertIn(line, server.err.decode().splitlines())
        self.assertNotIn(b"Traceback", server.err)

    async def test_a_stopping_server_still_sends_what_is_delayed(self):
        server = spawn(self, "echo", "--port", "0", "--delay", "0.5", "--console")
        host, _, port = (await server.listening()).rpartition(":")
        client = socket.create_connection((host, int(port)))
        self.addCleanup(client.close)
        client.sendall(b"first")
        self.assertEqual(await deferToThread(client.recv, 5), b"first")
        client.sendall(b"owed")
        server.transport.write(b"help\n")
        await server.shows(b"status")  # so the server has been at its sockets since
        ended = server.stop()
        self.assertEqual(await deferToThread(client.recv, 5), b"owed")
        self.assertEqual(await deferToThread(client.recv, 5), b"")
        self.assertEqual(await ended, 0)


class ConsoleTests(EchoTestCase):
    async def test_it_answers_on_standard_output(self):
        server = spawn(self, "echo", "--port", "0", "--console")
        client = await self.connect(server)
        client.transport.write(b"x")
        await client.receive(1)
        server.transport.write(b"status\nconnections\n")
        await server.shows(b"\n127.0.0.1:")
        self.assertIn(b" 1 connected, 1 connections since the start\n", server.out)

    async def test_quit_ends_the_process_with_status_0(self):
        server = spawn(self, "echo", "--port", "0", "--console")
        await server.listening()
        server.transport.write(b"quit\n")
        self.assertEqual(await server.ended, 0)

    async def test_the_end_of_standard_input_leaves_the_server_running(self):
        server = spawn(self, "echo", "--port", "0", "--console")
        await server.listening()
        server.transport.closeStdin()
        await server.until(lambda: b"end of standard input" in server.err)
        client = await self.connect(server)
        client.transport.write(b"still here")
        await client.receive(10)
        self.assertEqual(await server.stop(), 0)

    async def test_a_standard_input_closed_from_the_start_only_means_no_console(self):
        server = spawn(self, "echo", "--port", "0", "--console", stdin=False)
        client = await self.connect(server)
        client.transport.write(b"hello")
        await client.receive(5)
        self.assertIn(b"no console", server.err)
        self.assertNotIn(b"Traceback", server.err)
