"""`--workers N` with real processes."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import stat
import sys
import tempfile
from pathlib import Path

from prometheus_client.utils import floatToGoString
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import clientFromString, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import TestCase

from evserve.host.process import MAX_DESCRIPTORS
from evserve.host.workers.supervisor import Launcher, Supervisor
from evserve.host.workers.totals import Totals
from tests.certificates import make_certificates
from tests.integration.processes import TWISTD, on_chosen_reactor, spawn
from tests.integration.stream_client import OneEcho, StreamClient, echo_once


WORKERS = re.compile(rb"workers: processes ([\d, ]+)\n")
REPLACED = re.compile(rb"worker (\d+) serves \(process (\d+)\)\n")


def pids(server):
    """Return the process ids of the workers that serve now, by number."""
    first = WORKERS.search(server.err)[1].split(b", ")
    found = dict(enumerate(map(int, first), 1))
    found.update((int(number), int(pid)) for number, pid in REPLACED.findall(server.err))
    return found


class Case(TestCase):
    def setUp(self):
        from twisted.internet import reactor

        self.reactor = reactor
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    async def published(self, admin, line):
        """Wait until /metrics contains a line; workers report once a second."""
        got = b""
        while line not in got:
            client = StreamClient()
            await connectProtocol(clientFromString(self.reactor, f"tcp:{admin}"), client)
            client.transport.write(b"GET /metrics HTTP/1.0\r\n\r\n")
            got = await client.closed

    async def replaced(self, server, number, name):
        """End a worker with a signal and wait until another one serves under its number."""
        count = len(REPLACED.findall(server.err))
        os.kill(pids(server)[number], name)
        await server.until(lambda: len(REPLACED.findall(server.err)) > count)


class WorkersTests(Case):
    async def test_all_serve_from_one_port_and_end_with_status_0(self):
        server = spawn(self, "--port", "0", "--workers", "2")
        address = await server.listening()
        for _ in range(20):
            await echo_once(f"tcp:{address}")
        self.assertEqual(len(set(pids(server).values())), 2)
        self.assertEqual(await server.stop(), 0)
        self.assertEqual(server.err.count(b"listening on"), 1)

    async def test_ctrl_c_at_a_terminal_reaches_all_and_is_a_clean_end(self):
        server = spawn(self, "--port", "0", "--workers", "2")
        await server.listening()
        for pid in (*pids(server).values(), server.transport.pid):
            os.kill(pid, signal.SIGINT)
        self.assertEqual(await server.ended, 0)
        self.assertNotIn(b"starting another", server.err)

    async def test_a_config_file_may_ask_for_workers(self):
        config = self.folder / "evserve.toml"
        config.write_text(
            "[evserve]\nworkers = 2\n[services.echo]\nport = 0\n"
            '[services.loud]\nplugin = "echo"\nport = 0\n'
        )
        server = spawn(self, "--config", config)
        await server.listening()
        for found in re.findall(rb"listening on tcp (\S+)", server.err):
            await echo_once(f"tcp:{found.decode()}")
        self.assertEqual(await server.stop(), 0)


class ErrorTests(Case):
    async def one_line(self, *words):
        server = spawn(self, *words)
        self.assertEqual(await server.ended, 1)
        lines = server.err.decode().splitlines()
        (line,) = [each for each in lines if "listening on" not in each]
        return line

    async def test_a_busy_port_ends_the_supervisor_before_any_worker_starts(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            line = await self.one_line("--port", port, "--workers", "2")
        self.assertIn(f"cannot listen on 127.0.0.1:{port}: Address already in use", line)

    async def test_a_service_that_cannot_be_shared_is_refused(self):
        line = await self.one_line("--workers", "2", "web", "--path", ".")
        self.assertTrue(line.startswith("evserve: --workers: 'web' does not listen"), line)
        line = await self.one_line("--workers", "2", "echo", "--port", "0", "--udp")
        self.assertEqual(line, "evserve: --workers: 'echo' needs one process for --udp")

    async def test_a_failure_in_the_workers_is_reported_once(self):
        plugins = self.folder / "plugins"
        plugins.mkdir(mode=0o755)
        (plugins / "moody_plugin.py").write_text(
            "from evserve.plugin import ServicePlugin\n"
            "moody = ServicePlugin('moody', 'moody', 'Moody.', stateless=True)\n"
        )
        (plugins / "moody.py").write_text(
            "from twisted.python import usage\n"
            "class Options(usage.Options):\n    pass\n"
            "def makeService(options, host):\n    raise ValueError('not today')\n"
        )
        line = await self.one_line(
            "--plugin-dir", plugins, "--workers", "3", "moody", "--port", "0"
        )
        self.assertEqual(line, "evserve: moody: not today")


class EndpointTests(Case):
    async def test_a_unix_socket_keeps_its_mode_and_outlives_a_worker(self):
        path = self.folder / "echo.sock"
        server = spawn(self, "echo", "--listen", f"unix:{path}:mode=600", "--workers", "2")
        await server.listening("unix")
        await self.replaced(server, 1, signal.SIGTERM)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        for _ in range(10):
            await echo_once(f"unix:{path}")
        self.assertEqual(await server.stop(), 0)
        self.assertFalse(path.exists())

    async def test_the_workers_speak_tls(self):
        certificates = make_certificates()
        key = self.folder / "server.pem"
        key.write_bytes(certificates.server_pem)
        listen = f"ssl:0:privateKey={key}:certKey={key}"
        server = spawn(self, "echo", "--listen", listen, "--workers", "2")
        plain = clientFromString(self.reactor, f"tcp:{await server.listening('ssl')}")
        client = OneEcho()
        await connectProtocol(wrapClientTLS(certificates.client_options(), plain), client)
        await gatherResults([client.done, client.closed])


class AdminTests(Case):
    async def test_the_status_is_there_before_the_workers_have_reported(self):
        server = spawn(self, "--port", "0", "--workers", "2", "--admin", "tcp:0")
        await server.until(lambda: b"admin: listening on" in server.err)
        admin = re.search(rb"admin: listening on tcp (\S+)", server.err)[1].decode()
        while not server.err.count(b" serves "):
            client = StreamClient()
            await connectProtocol(clientFromString(self.reactor, f"tcp:{admin}"), client)
            client.transport.write(b"GET /api/status HTTP/1.0\r\n\r\n")
            status = json.loads((await client.closed).partition(b"\r\n\r\n")[2])
            (echo,) = status["services"]
            self.assertEqual((echo["connections"], echo["refused"]), (0, 0))
        await self.published(admin, b"# TYPE evserve_connections_refused_total counter\n")
        self.assertEqual(await server.stop(), 0)
        self.assertNotIn(b"Traceback", server.err)

    async def test_process_metrics_are_sums(self):
        server = spawn(self, "--port", "0", "--workers", "2", "--admin", "tcp:0")
        await server.listening()
        admin = re.search(rb"admin: listening on tcp (\S+)", server.err)[1].decode()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limit = MAX_DESCRIPTORS if limit == resource.RLIM_INFINITY else min(limit, MAX_DESCRIPTORS)
        await self.published(admin, f"process_max_fds {floatToGoString(3 * limit)}\n".encode())

    async def test_the_supervisor_publishes_the_sums(self):
        path = self.folder / "echo.sock"
        words = ["echo", "--listen", f"unix:{path}", "--workers", "2", "--admin", "tcp:0"]
        server = spawn(self, *words)
        admin = await server.listening()
        for _ in range(10):
            await echo_once(f"unix:{path}")
        await self.replaced(server, 1, signal.SIGTERM)
        await self.published(admin, b'evserve_connections_accepted_total{service="echo"} 10.0\n')
        self.assertEqual(await server.stop(), 0)


class LifeTests(Case):
    async def test_a_killed_worker_is_replaced(self):
        server = spawn(self, "--port", "0", "--workers", "2")
        address = await server.listening()
        before = pids(server)
        await self.replaced(server, 2, signal.SIGKILL)
        self.assertIn(f"worker 2 (process {before[2]}) was ended by SIGKILL".encode(), server.err)
        for _ in range(20):
            await echo_once(f"tcp:{address}")
        self.assertEqual(await server.stop(), 0)

    async def test_workers_do_not_outlive_a_killed_supervisor(self):
        server = spawn(self, "--port", "0", "--workers", "2")
        await server.listening()
        found = pids(server)
        await server.stop("KILL")  # fires when the last process has closed standard error
        self.assertEqual(server.err.count(b"the supervisor is gone: stopping"), 2)
        self.assertEqual(len(found), 2)

    async def test_clients_notice_nothing_when_workers_are_restarted_under_load(self):
        server = spawn(self, "--port", "0", "--workers", "3")
        address = await server.listening()
        running, counts = [True], []

        async def client():
            while running:
                await echo_once(f"tcp:{address}")
                counts.append(1)

        clients = gatherResults([Deferred.fromCoroutine(client()) for _ in range(20)])
        for number in (1, 2, 3):
            await self.replaced(server, number, signal.SIGTERM)
        running.clear()
        await clients  # a connection that was refused, reset or not answered would fail it
        self.assertGreater(len(counts), 20)
        self.assertEqual(await server.stop(), 0)


class DrainTests(Case):
    async def serve(self, drain):
        """Return a server and a client that waits for its echo."""
        path = self.folder / "echo.sock"
        words = ["echo", "--listen", f"unix:{path}", "--delay", "1000", "--workers", "2"]
        server = spawn(self, "--drain", drain, "--admin", "tcp:0", *words)
        admin = await server.listening()
        client = StreamClient()
        await connectProtocol(clientFromString(self.reactor, f"unix:{path}"), client)
        self.addCleanup(client.hang_up)
        client.transport.write(b"more")
        await self.published(admin, b'evserve_received_bytes_total{service="echo"} 4.0\n')
        return server, client

    async def test_connections_left_after_the_drain_are_aborted_with_status_1(self):
        server, client = await self.serve("0.2")
        self.assertEqual(await server.stop(), 1)
        self.assertIn(b"still draining after 0.2 seconds: aborted 1 connections", server.err)
        await client.closed

    async def test_a_second_signal_aborts_at_once(self):
        server, client = await self.serve("900")
        server.stop()
        await server.until(lambda: b"SIGTERM: stopping" in server.err)
        self.assertEqual(await server.stop(), 1)
        self.assertIn(b"SIGTERM again: aborting what workers do", server.err)
        self.assertIn(b"aborted 1 connections", server.err)
        await client.closed


class WatchedTotals(Totals):
    """Totals with Deferreds that fire when a sum reaches a value."""

    def __init__(self):
        Totals.__init__(self)
        self.waiting = []

    def value(self, name):
        return sum(s.value for m in self.collect() for s in m.samples if s.name == name)

    def reaches(self, name, value):
        deferred = Deferred()
        self.waiting.append((name, value, deferred))
        return deferred

    def update(self, worker, families):
        Totals.update(self, worker, families)
        for entry in list(self.waiting):
            if self.value(entry[0]) == entry[1]:
                self.waiting.remove(entry)
                entry[2].callback(None)


class TotalsTests(TestCase):
    def setUp(self):
        from twisted.internet import reactor

        self.reactor = reactor
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.addCleanup(self.listener.close)

    def start(self):
        words = ["-n", "evserve", "echo", "--port", "0"]
        command = on_chosen_reactor([sys.executable, TWISTD, *words])
        launcher = Launcher(self.reactor, False, command, Path(self.folder))
        self.supervisor = Supervisor(2, self.reactor, launcher, self.fail, WatchedTotals())
        self.addCleanup(self.supervisor.stopService)
        self.supervisor.start({("echo", "tcp:0"): self.listener.fileno()})
        return self.supervisor.all_serving

    def connect(self):
        host, port = self.listener.getsockname()
        return connectProtocol(clientFromString(self.reactor, f"tcp:{host}:{port}"), Protocol())

    async def test_connections_are_summed_and_no_count_goes_back_when_a_worker_dies(self):
        await self.start()
        clients = [await self.connect() for _ in range(10)]
        totals = self.supervisor.totals
        await totals.reaches("evserve_connections", 10)
        for pid in self.supervisor.pids():
            os.kill(pid, signal.SIGKILL)
        await totals.reaches("evserve_connections", 0)  # what the new ones report
        self.assertEqual(totals.value("evserve_connections_accepted_total"), 10)
        for client in clients:
            client.transport.abortConnection()
