"""Socket activation and notifications, with the test in the role of systemd."""

import os
import shutil
import socket
import stat
import sys
import tempfile
from pathlib import Path

from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.integration.processes import TWISTD, Child, on_chosen_reactor
from tests.integration.stream_client import echo_once


# LISTEN_PID must be the server's own, so it is set by the process that becomes the server.
AS_SYSTEMD = (
    "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


class Case(TestCase):
    def setUp(self):
        from twisted.internet import reactor

        self.reactor = reactor
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def spawn(self, *words, sockets=(), **environ):
        child = Child()
        self.addCleanup(lambda: None if child.ended.called else child.stop("KILL"))
        command = on_chosen_reactor(
            [sys.executable, "-c", AS_SYSTEMD, sys.executable, TWISTD, "-n", "evserve"]
        )
        environ = {**os.environ, "LISTEN_FDS": str(len(sockets)), **environ}
        passed = {number: each.fileno() for number, each in enumerate(sockets, 3)}
        self.reactor.spawnProcess(
            child,
            sys.executable,
            [*command, *words],
            environ,
            str(self.folder),
            childFDs={0: "w", 1: "r", 2: "r", **passed},
        )
        return child


class ActivationTests(Case):
    def tcp(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        return listener

    async def serves(self, listener, *words, **environ):
        server = self.spawn(*words, sockets=[listener], **environ)
        address = await server.listening("systemd")
        await echo_once(f"tcp:{address}")
        self.assertEqual(await server.stop(), 0)
        return server

    async def test_a_socket_without_a_name_is_found_by_its_index(self):
        await self.serves(self.tcp(), "--listen", "systemd:domain=INET:index=0")

    async def test_a_socket_with_a_name_is_found_by_it(self):
        listen = "systemd:domain=INET:name=web"
        await self.serves(self.tcp(), "--listen", listen, LISTEN_FDNAMES="web")

    async def test_workers_share_it(self):
        listen = "systemd:domain=INET:index=0"
        await self.serves(self.tcp(), "--workers", "2", "--listen", listen)

    async def test_a_socket_that_was_not_passed_is_one_line(self):
        server = self.spawn("--listen", "systemd:domain=INET:name=web", sockets=[self.tcp()])
        self.assertEqual(await server.ended, 1)
        self.assertIn(b"no socket is named 'web'", server.err)
        self.assertEqual(len(server.err.splitlines()), 1)

    async def test_the_file_of_a_unix_socket_stays_as_systemd_made_it(self):
        path = self.folder / "echo.sock"
        for words in ((), ("--workers", "2")):
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
                path.chmod(0o640)
                listener.listen()
                listen = "systemd:domain=UNIX:index=0"
                server = self.spawn(*words, "--listen", listen, sockets=[listener])
                await server.listening("systemd")
                await echo_once(f"unix:{path}")
                self.assertEqual(await server.stop(), 0)
                self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o640)
                await connectProtocol(clientFromString(self.reactor, f"unix:{path}"), Protocol())
            path.unlink()

    async def test_so_does_that_of_the_admin_port(self):
        path = self.folder / "admin.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            path.chmod(0o640)
            listener.listen()
            admin = "systemd:domain=UNIX:index=0"
            server = self.spawn("--port", "0", "--admin", admin, sockets=[listener])
            await server.listening("systemd")
            self.assertEqual(await server.stop(), 0)
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o640)


class NotifyTests(Case):
    def setUp(self):
        super().setUp()
        self.path = str(self.folder / "notify")
        self.receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.receiver.close)
        self.receiver.bind(self.path)
        self.receiver.settimeout(120)

    def heard(self):
        return deferToThread(lambda: self.receiver.recv(4096).decode())

    async def lives(self, *words):
        environ = {"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "200000"}
        server = self.spawn("--port", "0", *words, **environ)
        self.assertEqual(await self.heard(), "READY=1\nSTATUS=Serving echo")
        await server.listening()
        self.assertEqual([await self.heard() for _ in range(3)], ["WATCHDOG=1"] * 3)
        ended = server.stop()
        while (last := await self.heard()) == "WATCHDOG=1":
            pass
        self.assertEqual(last.split("\n")[0], "STOPPING=1")
        self.assertEqual(await ended, 0)

    async def test_systemd_is_notified_of_start_life_and_end(self):
        await self.lives()

    async def test_with_workers_only_the_supervisor_notifies(self):
        await self.lives("--workers", "2")
