"""Limits on real sockets: too many clients, silent ones, and too few descriptors."""

import contextlib
import os
import re
import socket
import struct
from pathlib import Path

from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import clientFromString, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.certificates import make_certificates
from tests.integration.commands import CommandCase
from tests.integration.stream_client import StreamClient


RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset


class Limits:
    """Tests for every kind of stream; each kind below is one TestCase."""

    async def start(self, *words):
        self.server = self.evserve("--listen", self.endpoint(), *words)
        self.address = await self.server.listening(self.kind)

    async def client(self):
        from twisted.internet import reactor

        client = StreamClient()
        await connectProtocol(self.client_endpoint(reactor), client)
        self.addCleanup(client.hang_up)
        client.transport.write(b"hello")
        return client

    async def served(self):
        client = await self.client()
        self.assertEqual(await client.receive(5), b"hello")
        return client

    async def refused(self):
        with contextlib.suppress(ConnectError):  # if the reset arrives first
            client = await self.client()
            self.assertEqual(await client.closed, b"")

    async def leave(self, client):
        """Close a client, and wait until the server has noticed."""
        client.transport.loseWriteConnection()
        await client.closed

    async def test_beyond_max_connections_clients_are_refused(self):
        await self.start("--max-connections", "2")
        first, second = await self.served(), await self.served()
        for _ in range(5):
            await self.refused()
        second.transport.write(b"again")
        self.assertEqual(await second.receive(10), b"helloagain")
        await self.server.until(lambda: self.refusals()[0] == 5)
        self.assertTrue(self.refusals()[1] <= 2, self.server.err)
        await self.leave(first)
        await self.served()

    def refusals(self):
        """Return how many refusals are in the log, and on how many lines."""
        counts = re.findall(rb"refused (\d+) connections .*max-connections", self.server.err)
        return sum(map(int, counts)), len(counts)

    async def test_silent_clients_are_closed(self):
        await self.start("--idle-timeout", "0.4")
        # On a slow machine a client may be closed before the server has read its bytes.
        while await (await self.client()).closed != b"hello":
            pass
        closed = re.compile(rb"closed \d+ idle connections")
        await self.server.until(lambda: closed.search(self.server.err))


class TCPTests(Limits, CommandCase):
    kind = "tcp"

    def endpoint(self):
        return "tcp:0"

    def client_endpoint(self, reactor):
        return clientFromString(reactor, f"tcp:{self.address}")

    async def test_each_address_has_its_share(self):
        await self.start("--max-per-peer", "1")
        await self.served()
        await self.refused()
        host, _, port = self.address.rpartition(":")
        other = socket.create_connection((host, int(port)), source_address=("127.0.0.2", 0))
        self.addCleanup(other.close)
        other.sendall(b"hello")
        self.assertEqual(await deferToThread(other.recv, 5), b"hello")


class TLSTests(Limits, CommandCase):
    kind = "ssl"

    def endpoint(self):
        self.certificates = make_certificates()
        self.folder.joinpath("server.pem").write_bytes(self.certificates.server_pem)
        return "ssl:0"

    def client_endpoint(self, reactor):
        return wrapClientTLS(
            self.certificates.client_options(), clientFromString(reactor, f"tcp:{self.address}")
        )

    async def leave(self, client):
        client.transport.loseConnection()  # which waits for the server's answer
        await client.closed

    async def test_each_address_has_its_share(self):
        await self.start("--max-per-peer", "1")
        await self.served()
        await self.refused()


class UNIXTests(Limits, CommandCase):
    kind = "unix"

    def endpoint(self):
        return "unix:echo.sock"

    def client_endpoint(self, reactor):
        return clientFromString(reactor, f"unix:{self.folder}/echo.sock")


class ResetTests(CommandCase):
    async def test_ten_thousand_clients_that_connect_and_reset_leave_nothing_behind(self):
        server = self.evserve("--port", "0")
        address = await server.listening()
        port = int(address.rpartition(":")[2])
        await deferToThread(reset, port, 2000)
        await self.check_echo(f"tcp:{address}")
        before = self.usage(server)
        await deferToThread(reset, port, 10_000)
        await self.settle(server, address, before)
        self.assertEqual(await server.stop(), 0)
        self.assertNotIn(b"Traceback", server.err)
        self.assertEqual(len(server.err.splitlines()), 3, server.err)

    async def settle(self, server, address, before):
        """Wait until the server has as many descriptors as before; check its memory."""
        descriptors, memory = before
        client = await self.check_echo(f"tcp:{address}")
        await client.hang_up()
        while self.usage(server)[0] > descriptors + 2:
            await pause(0.05)
        after = self.usage(server)[1]
        self.assertTrue(after <= memory + 2048, (memory, after))

    def usage(self, server):
        """Return how many descriptors and how many KiB of memory a process has."""
        process = Path("/proc", str(server.transport.pid))
        (memory,) = [
            int(line.split()[1])
            for line in (process / "status").read_text().splitlines()
            if line.startswith("VmRSS")
        ]
        return len(list((process / "fd").iterdir())), memory


def pause(seconds):
    from twisted.internet import reactor

    return deferLater(reactor, seconds)


def reset(port, count):
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()


class DescriptorTests(CommandCase):
    """64 descriptors: half of them for connections, half kept in reserve."""

    async def test_accepting_pauses_without_cpu_and_goes_on_and_no_client_is_dropped(self):
        server = self.evserve_after("ulimit -n 64", "--port", "0")
        address = await server.listening()
        clients = [self.dial(address) for _ in range(100)]
        await server.until(lambda: b"file limit (64) nearly reached" in server.err)
        await self.is_quiet(server)
        for client in clients:
            client.sendall(b"hello")
        served = 0
        while clients:
            # The kernel hands out connections in the order in which they came.
            answer = await deferToThread(clients[0].recv, 5)
            self.assertEqual(answer, b"hello")
            clients.pop(0).close()
            served += 1
        self.assertEqual(served, 100)
        await self.check_echo(f"tcp:{address}")
        self.assertIn(b"accepting connections again", server.err)
        self.assertNotIn(b"Traceback", server.err)
        self.assertNotIn(b"EMFILE", server.err)
        self.assertEqual(await server.stop(), 0)

    async def test_a_limit_that_is_too_low_for_connections_is_an_error(self):
        for words in ([], ["--workers", "1"]):
            server = self.evserve_after("ulimit -n 18", "--port", "0", *words)
            self.assertEqual(await server.ended, 1, server.err)
            line = b"evserve: file limit 18: too low to accept connections (raise ulimit -n)\n"
            self.assertTrue(server.err.endswith(line), server.err)

    async def test_the_soft_limit_is_raised_to_the_hard_one(self):
        server = self.evserve_after("ulimit -Sn 64; ulimit -Hn 512", "--port", "0")
        address = await server.listening()
        clients = [self.dial(address) for _ in range(200)]
        for client in clients:
            client.sendall(b"hello")
        answers = await gatherResults([deferToThread(each.recv, 5) for each in clients])
        self.assertEqual(answers, [b"hello"] * 200)
        self.assertNotIn(b"file limit", server.err)

    def dial(self, address):
        host, _, port = address.rpartition(":")
        client = socket.create_connection((host, int(port)))
        client.settimeout(120)
        self.addCleanup(client.close)
        return client

    async def is_quiet(self, server):
        """Check that a server uses almost no processor time once it has handled its input."""
        for _ in range(5):
            before = self.cpu(server)
            await pause(0.5)
            used = self.cpu(server) - before
            if used <= 0.02:
                return
        self.fail(f"it uses {used:.2f} s in half a second")

    def cpu(self, server):
        """Return the seconds of processor time that a process has used."""
        fields = Path("/proc", str(server.transport.pid), "stat").read_text().split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
