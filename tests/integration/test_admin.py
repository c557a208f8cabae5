"""The admin port of a real process."""

import shutil
import sys
import tempfile
from pathlib import Path

from treq.client import HTTPClient
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent

from tests.integration.processes import address_of, spawn
from tests.integration.stream_client import send


class AdminTests(TestCase):
    async def get(self, address, path, **headers):
        from twisted.internet import reactor

        response = await HTTPClient(Agent(reactor)).get(f"http://{address}{path}", headers=headers)
        return response.code, await response.text()

    async def test_every_path_responds(self):
        child = spawn(self, "--port", "0", "--admin", "tcp:0")
        admin = await address_of(child, "admin")
        echo = await address_of(child, "echo")
        self.assertEqual(await self.get(admin, "/healthz"), (200, "ok\n"))
        self.assertEqual(await self.get(admin, "/readyz"), (200, "ready\n"))
        self.assertIn(f"tcp {echo}", (await self.get(admin, "/api/status"))[1])
        self.assertIn("evserve_connections{", (await self.get(admin, "/metrics"))[1])
        self.assertIn("</html>", (await self.get(admin, "/"))[1])
        self.assertEqual(await child.stop(), 0)

    async def test_it_responds_during_a_drain_and_its_clients_delay_nothing(self):
        child = spawn(
            self, "--admin", "tcp:0", "--drain", "1000", "echo", "--port", "0", "--delay", "900"
        )
        admin = await address_of(child, "admin")
        waiting = await send(self, await address_of(child, "echo"), b"late")
        await send(self, admin)  # sends nothing and stays connected
        await self.until_status(admin, '"received_bytes": 4')
        ended = child.stop()
        await child.until(lambda: b"stopping" in child.err)
        self.assertEqual(await self.get(admin, "/readyz"), (503, "draining: 1 left\n"))
        self.assertEqual((await self.get(admin, "/healthz"))[0], 200)
        waiting.transport.abortConnection()
        self.assertEqual(await ended, 0)

    async def until_status(self, admin, text):
        """Repeat the request until /api/status contains `text`."""
        while text not in (await self.get(admin, "/api/status"))[1]:
            pass

    async def test_a_unix_socket_is_removed_afterwards(self):
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        child = spawn(self, "--port", "0", "--admin", f"unix:{folder}/admin")
        await child.listening("unix")
        self.assertTrue(folder.joinpath("admin").is_socket())
        self.assertEqual(await child.stop(), 0)
        self.assertEqual(list(folder.iterdir()), [])

    async def test_a_busy_port_is_one_line_and_status_1(self):
        admin = await address_of(spawn(self, "--port", "0", "--admin", "tcp:0"), "admin")
        child = spawn(self, "--port", "0", "--admin", f"tcp:{admin.rpartition(':')[2]}")
        self.assertEqual(await child.ended, 1)
        reason = f"evserve: admin: cannot listen on {admin}: Address already in use\n"
        self.assertEqual(child.err.decode(), reason)

    async def test_importing_it_installs_no_reactor(self):
        """prometheus_client's own Twisted support would, before `--reactor` is read."""
        program = (
            "import sys, evserve.host.command, evserve.host.admin.service; "
            "print('twisted.internet.reactor' in sys.modules)"
        )
        out, err, _ = await getProcessOutputAndValue(sys.executable, ["-c", program])
        self.assertEqual((out, err), (b"False\n", b""))
