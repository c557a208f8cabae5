"""The server as a process: its start, its stop, and the files that remain."""

import os
import select
import signal
import socket
import sys
from pathlib import Path

from twisted.internet.threads import deferToThread

from tests.integration.commands import EVSERVE, CommandCase
from tests.integration.processes import TWISTD
from tests.ports import free_port


SIZE = 32 * 1024 * 1024  # bytes, more than the buffers of two sockets hold
GIVER = f"""
from twisted.internet.protocol import Factory, Protocol
from twisted.python.usage import Options

class Giver(Protocol):
    def dataReceived(self, data):
        self.transport.write(bytes({SIZE}))

def makeService(options, host):
    return host.listen(options, Factory.forProtocol(Giver))
"""
LAST = """
import os

class Last:
    def __del__(self, write=os.write, read=os.read):
        write(2, b"the last thing")
        read(0, 1)

last = Last()
"""
PLUGIN = """
from evserve.plugin import ServicePlugin
it = ServicePlugin("giver", "giver_module", "Gives much more than it gets.")
"""


def port_of(address):
    return int(address.rpartition(":")[2])


class StopTests(CommandCase):
    async def test_either_signal_ends_it_with_status_0(self):
        for name in ("TERM", "INT"):
            server = self.evserve("--port", "0")
            await server.listening()
            self.assertEqual(await server.stop(name), 0)
            self.assertIn(f"SIG{name}: stopping", server.err.decode())

    async def test_idle_clients_do_not_hold_it_up(self):
        server = self.evserve("--port", "0")
        address = await server.listening()
        client = await self.check_echo(f"tcp:{address}")
        self.assertEqual(await server.stop(), 0)
        await client.closed

    async def test_without_a_drain_an_idle_server_still_ends_with_status_0(self):
        server = self.evserve("--port", "0", "--drain", "0")
        await self.check_echo(f"tcp:{await server.listening()}")
        self.assertEqual(await server.stop(), 0, server.err)

    async def test_an_unread_answer_keeps_it_until_the_drain_ends(self):
        server, _ = await self.server_with_unread_answer("--drain", "0.5")
        self.assertEqual(await server.stop(), 1)
        self.assertIn(b"still draining after 0.5 seconds: aborted 1 connections", server.err)

    async def test_an_answer_that_is_read_in_time_arrives_whole(self):
        server, client = await self.server_with_unread_answer("--drain", "30")
        ended = server.stop()
        await server.until(lambda: b"stopping" in server.err)
        self.assertEqual(await deferToThread(read_all, client), SIZE - 1)
        self.assertEqual(await ended, 0)

    async def test_a_second_signal_aborts_at_once(self):
        server, _ = await self.server_with_unread_answer("--drain", "600")
        server.stop()
        await server.until(lambda: b"stopping" in server.err)
        self.assertEqual(await server.stop(), 1)
        self.assertIn(b"SIGTERM again: aborted 1 connections", server.err)

    async def test_a_signal_while_the_interpreter_ends_does_not_spoil_the_status(self):
        self.write("twisted/plugins/giver.py", PLUGIN)
        self.write("giver_module.py", GIVER + LAST)
        server = self.evserve("giver", "--port", "0")
        await server.listening()
        ended = server.stop()
        await server.until(lambda: b"the last thing" in server.err)
        server.stop()
        server.transport.closeStdin()
        self.assertEqual(await ended, 0, server.err)

    async def server_with_unread_answer(self, *words):
        self.write("twisted/plugins/giver.py", PLUGIN)
        self.write("giver_module.py", GIVER)
        server = self.evserve(*words, "giver", "--port", "0")
        port = port_of(await server.listening())
        client = socket.create_connection(("127.0.0.1", port))
        self.addCleanup(client.close)
        client.settimeout(120)
        client.sendall(b"x")
        await deferToThread(client.recv, 1)
        return server, client


def read_all(client):
    total = 0
    while data := client.recv(1 << 20):
        total += len(data)
    return total


class PidfileTests(CommandCase):
    async def test_in_the_foreground_nothing_is_left_in_the_folder(self):
        server = self.evserve("--port", "0")
        await server.listening()
        self.assertEqual(list(self.folder.iterdir()), [])
        await server.stop()
        self.assertEqual(list(self.folder.iterdir()), [])

    async def test_two_run_in_one_folder(self):
        for server in [self.evserve("--port", "0"), self.evserve("--port", "0")]:
            await self.check_echo(f"tcp:{await server.listening()}")

    async def test_a_pidfile_that_is_asked_for_is_written_and_removed(self):
        words = (sys.executable, TWISTD, "-n", "--pidfile", "my.pid", "evserve", "--port", "0")
        server = self.run_command(*words)
        await server.listening()
        pidfile = self.folder / "my.pid"
        self.assertEqual(pidfile.read_text(), str(server.transport.pid))
        await server.stop()
        self.assertFalse(pidfile.exists())


class DaemonTests(CommandCase):
    def daemon(self, *words):
        return self.run_command(sys.executable, TWISTD, "evserve", *words)

    def setUp(self):
        super().setUp()
        self.addCleanup(self.kill)
        self.port = free_port()

    def kill(self):
        pidfile = self.folder / "twistd.pid"
        if pidfile.exists():
            os.kill(int(pidfile.read_text()), signal.SIGKILL)

    async def test_it_starts_behind_the_terminal_and_stops_on_sigterm(self):
        child = self.daemon("--port", self.port)
        self.assertEqual((await child.ended, child.out, child.err), (0, b"", b""))
        client = await self.check_echo(f"tcp:127.0.0.1:{self.port}")
        pid = int((self.folder / "twistd.pid").read_text())
        with os.fdopen(os.pidfd_open(pid)) as process:
            os.kill(pid, signal.SIGTERM)
            await client.closed
            await deferToThread(wait_for_the_end, process)
        self.assertFalse((self.folder / "twistd.pid").exists())
        log = (self.folder / "twistd.log").read_text()
        self.assertIn("SIGTERM: stopping", log)
        self.assertNotIn("Traceback", log)

    async def test_a_failure_is_shown_on_the_terminal(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            child = self.daemon("--port", port)
            self.assertEqual(await child.ended, 1)
        line = f"echo: cannot listen on 127.0.0.1:{port}: Address already in use"
        self.assertIn(line, child.err.decode())
        self.assertNotIn("Traceback", child.err.decode())


def wait_for_the_end(process):
    poll = select.poll()
    poll.register(process, select.POLLIN)
    assert poll.poll(120_000)


class EnvironmentTests(CommandCase):
    """Unusual environments: closed streams, folders without permissions, another user."""

    async def test_closed_standard_input(self):
        server = self.evserve("--port", "0", streams=(1, 2))
        await self.check_echo(f"tcp:{await server.listening()}")

    async def test_closed_standard_output(self):
        server = self.evserve("--port", "0", streams=(0, 2))
        await self.check_echo(f"tcp:{await server.listening()}")
        self.assertEqual(await server.stop(), 0)
        self.assertNotIn(b"Traceback", server.err)

    async def test_no_standard_streams_at_all(self):
        port = free_port()
        server = self.evserve("--port", port, streams=())
        client = await self.eventually(port)
        client.sendall(b"hello")
        self.assertEqual(await deferToThread(client.recv, 5), b"hello")
        self.assertEqual(await server.stop(), 0)

    async def eventually(self, port):
        """Connect to a server that has no way to say that it is ready."""
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        while True:
            try:
                client = socket.create_connection(("127.0.0.1", port))
            except ConnectionRefusedError:
                await deferLater(reactor, 0.05)
            else:
                self.addCleanup(client.close)
                return client

    async def test_a_folder_that_cannot_be_written(self):
        self.folder.chmod(0o555)
        server = self.run_command(*unprivileged(), *EVSERVE, "--port", "0")
        await self.check_echo(f"tcp:{await server.listening()}")
        self.assertEqual(await server.stop(), 0)
        self.assertEqual((server.out, server.err.count(b"\n")), (b"", 3), server.err)

    async def test_a_port_for_which_one_must_be_root(self):
        limit = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()
        if int(limit) <= 1:
            self.skipTest("every user may open every port here")
        child = self.run_command(*unprivileged(), *EVSERVE, "--port", "1")
        self.assertEqual(await child.ended, 1)
        line = "evserve: echo: cannot listen on 127.0.0.1:1: Permission denied\n"
        self.assertEqual(child.err.decode(), line)

    async def test_a_current_folder_that_may_not_be_read(self):
        closed = self.folder / "closed"
        closed.mkdir()
        script = 'cd closed && chmod 0 . && exec "$@"'
        twistd = (sys.executable, TWISTD, "--rundir", "/", "-n", "evserve", "--port", "0")
        server = self.run_command("/bin/sh", "-c", script, "sh", *unprivileged(), *twistd)
        await self.check_echo(f"tcp:{await server.listening()}")

    def in_no_folder(self, *words):
        return self.evserve_after("mkdir gone && cd gone && rmdir ../gone", *words)

    async def test_a_current_folder_that_is_gone(self):
        server = self.in_no_folder("--port", "0")
        await self.check_echo(f"tcp:{await server.listening()}")

    async def test_there_workers_serve_as_well(self):
        server = self.in_no_folder("--port", "0", "--workers", "1")
        await self.check_echo(f"tcp:{await server.listening()}")
        self.assertEqual(await server.stop(), 0, server.err)

    async def test_there_services_are_listed_as_well(self):
        child = self.in_no_folder("services")
        self.assertEqual((await child.ended, child.err), (0, b""))
        self.assertIn(b"\necho  ", child.out)


def unprivileged():
    """Return a command that runs another one without the capabilities of root."""
    if os.getuid() != 0:
        return ()
    return ("/usr/bin/setpriv", "--bounding-set=-all", "--inh-caps=-all")


class SeveralTests(CommandCase):
    """Many services in one process."""

    async def test_two_echoes_and_twisteds_own_web_server(self):
        self.write("page.txt", "a page")
        self.write(
            "evserve.toml",
            "[services.plain]\nplugin = 'echo'\nlisten = 'unix:plain.sock'\n"
            "[services.loud]\nplugin = 'echo'\nlisten = ['unix:loud.sock']\ntransform = 'upper'\n"
            "[services.web]\nlisten = 'unix:web.sock'\npath = '.'\n",
        )
        server = self.evserve("--config", "evserve.toml")
        await server.until(lambda: b" serves plain, loud, web " in server.err)
        for name, answer in (("plain", b"hello"), ("loud", b"HELLO")):
            client = await self.connect(f"unix:{self.folder}/{name}.sock")
            client.transport.write(b"hello")
            self.assertEqual(await client.receive(5), answer)
        client = await self.connect(f"unix:{self.folder}/web.sock")
        client.transport.write(b"GET /page.txt HTTP/1.0\r\n\r\n")
        self.assertTrue((await client.closed).endswith(b"\r\n\r\na page"))
        self.assertEqual(await server.stop(), 0)
        left = sorted(path.name for path in self.folder.iterdir())
        self.assertEqual(left, ["evserve.toml", "page.txt"])

    async def test_web_is_a_command_of_its_own(self):
        self.write("page.txt", "a page")
        server = self.evserve("web", "--listen", "unix:web.sock", "--path", ".")
        await server.until(lambda: b" serves web " in server.err)
        client = await self.connect(f"unix:{self.folder}/web.sock")
        client.transport.write(b"GET /page.txt HTTP/1.0\r\n\r\n")
        self.assertTrue((await client.closed).endswith(b"a page"))

    async def test_several_endpoints_lead_to_one_service(self):
        server = self.evserve("--listen", "unix:a.sock", "--port", "0", "--listen", "unix:b.sock")
        await self.check_echo(f"tcp:{await server.listening()}")
        for name in ("a", "b"):
            await self.check_echo(f"unix:{self.folder}/{name}.sock")


class HelpTests(CommandCase):
    async def help(self, *words):
        child = self.evserve(*words)
        self.assertEqual((await child.ended, child.err), (0, b""))
        return child.out.decode()

    async def test_the_host_lists_options_and_services(self):
        text = await self.help("--help")
        for part in ("--config=", "--port=", "--drain=", "echo   ", "web   ", "services   "):
            self.assertIn(part, text)

    async def test_a_service_lists_its_own(self):
        text = await self.help("echo", "--help")
        for part in ("--transform=", "--port=", "[default: 9000]"):
            self.assertIn(part, text)
        self.assertNotIn("--config", text)

    async def test_an_adapted_service_lists_its_own(self):
        self.assertIn("--wsgi=", await self.help("web", "--help"))

    async def test_the_version_is_that_of_evserve(self):
        self.assertRegex(await self.help("--version"), r"^evserve \d\S* \(Twisted \d\S*\)\n$")

    async def test_options_of_the_host_may_stand_on_either_side(self):
        for words in (
            ("--log-format", "json", "--port", "0", "echo"),
            ("echo", "--port", "0", "--log-format", "json"),
        ):
            server = self.evserve(*words)
            await server.until(
                lambda server=server: (
                    b'"listening on' in server.err or b"{name}: listening" in server.err
                )
            )
            self.assertTrue(server.err.startswith(b"{"))
