"""A client that sends forever and never reads costs the server almost no memory."""

import socket
import ssl
import tempfile
from pathlib import Path
from unittest import skipUnless

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.certificates import NAME, make_certificates
from tests.integration.processes import spawn


MIB = 1024 * 1024
TO_SEND = 64 * MIB
ALLOWED = 4 * MIB  # what the server may grow by
STALLED = 1.0  # seconds without a byte taken: the server has stopped reading


def resident(pid):
    """Return how many bytes of memory the process holds."""
    (line,) = [
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    ]
    return int(line.split()[1]) * 1024


def flood(client):
    """Send up to TO_SEND bytes and read none; return how many were taken."""
    client.settimeout(STALLED)
    block = bytes(MIB // 4)
    taken = 0
    try:
        while taken < TO_SEND:
            taken += client.send(block)
    except TimeoutError:
        pass
    return taken


@skipUnless(Path("/proc/self/status").exists(), "memory is measured in /proc")
class NeverReadingTests(TestCase):
    async def grown(self, server, client):
        """Return by how much the server has grown once the flood has stalled."""
        self.addCleanup(client.close)
        client.sendall(b"warm up")
        await deferToThread(client.recv, 7)
        before = resident(server.transport.pid)
        taken = await deferToThread(flood, client)
        self.assertLess(taken, TO_SEND, "the server did not stop reading")
        return resident(server.transport.pid) - before

    async def connect(self, server, kind="tcp"):
        host, _, port = (await server.listening(kind)).rpartition(":")
        return socket.create_connection((host, int(port)))

    async def test_over_tcp(self):
        server = spawn(self, "--port", "0")
        client = await self.connect(server)
        self.assertLess(await self.grown(server, client), ALLOWED)

    async def test_with_a_transform_and_a_suffix(self):
        server = spawn(self, "echo", "--port", "0", "--transform", "upper", "--suffix", "!")
        client = await self.connect(server)
        self.assertLess(await self.grown(server, client), ALLOWED)

    async def test_with_a_delay(self):
        server = spawn(self, "echo", "--port", "0", "--delay", "0.01")
        client = await self.connect(server)
        self.assertLess(await self.grown(server, client), ALLOWED)

    async def test_over_tls(self):
        certificates = make_certificates()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        pem = Path(folder.name, "server.pem")
        pem.write_bytes(certificates.server_pem)
        server = spawn(self, "echo", "--listen", f"ssl:0:privateKey={pem}")
        context = ssl.create_default_context(cadata=certificates.authority_pem.decode())
        plain = await self.connect(server, "ssl")
        client = await deferToThread(context.wrap_socket, plain, server_hostname=NAME)
        self.assertLess(await self.grown(server, client), ALLOWED)
