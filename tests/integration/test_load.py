"""`twistd -n evserve load` on real servers, good and bad."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.trial.unittest import TestCase

from evserve.load import Plan, run_load
from tests.certificates import NAME, make_certificates
from tests.integration.processes import need_open_files, spawn


TEN_THOUSAND = 10_000


class Silent(Protocol):
    """Never answers."""

    def connectionMade(self):
        self.gone = Deferred()
        self.factory.connections.append(self)

    def connectionLost(self, reason=connectionDone):
        self.gone.callback(None)


class Wrong(Silent):
    """Answers with other bytes."""

    def dataReceived(self, data):
        self.transport.write(data[1:] + data[:1])


class Closer(Silent):
    """Closes on the first message."""

    def dataReceived(self, data):
        self.transport.loseConnection()


class LoadTestCase(TestCase):
    async def load(self, *words):
        """Return standard output, standard error and the exit status of a run."""
        child = spawn(self, "load", "--timeout", 120, *words)
        status = await child.ended
        return child.out.decode(), child.err.decode(), status

    async def measure(self, *words):
        """Return the report and the exit status."""
        out, err, status = await self.load(*words, "--json", "-")
        self.assertEqual(out.count("\n"), 1, err)
        return json.loads(out), status

    def folder(self):
        """Return a new folder; its path is short enough for a UNIX socket."""
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        return Path(folder)

    async def echo(self, *words):
        child = spawn(self, "echo", "--port", 0, *words)
        return child, f"tcp:{await child.listening()}"

    async def serve(self, protocol):
        """Serve from this process; return the endpoint string of its clients."""
        from twisted.internet import reactor

        factory = Factory.forProtocol(protocol)
        factory.connections = []
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)

        async def close():
            await port.stopListening()
            await gatherResults(each.gone for each in factory.connections)

        self.addCleanup(close)
        return f"tcp:127.0.0.1:{port.getHost().port}"


class EchoTests(LoadTestCase):
    async def test_a_closed_loop_with_the_server_measured(self):
        server, address = await self.echo()
        words = ["--connections", 20, "--idle", 5, "--size", 1024, "--depth", 3]
        words += ["--count", 1000, "--warm-up", 0.1, "--pid", server.transport.pid]
        report, status = await self.measure("--connect", address, *words)
        self.assertEqual((status, report["failure"], report["wrong"]), (0, None, 0))
        self.assertEqual(report["connections"]["opened"], 25)
        self.assertEqual(report["answered"], 1000)
        self.assertGreater(report["server"]["cpu_per_message"], 0)
        self.assertGreater(report["server"]["memory"], 10_000_000)
        self.assertGreater(report["latencies"]["p50"], 0)

    async def test_workers_are_measured_together(self):
        server = spawn(self, "echo", "--port", 0, "--workers", 2)
        await server.until(lambda: b"workers: processes" in server.err)
        address = f"tcp:{await server.listening()}"
        words = ["--connect", address, "--count", 10, "--pid", server.transport.pid]
        report, _ = await self.measure(*words)
        self.assertEqual(report["server"]["processes"], 3)

    async def test_an_open_loop_keeps_its_rate(self):
        _, address = await self.echo()
        report, status = await self.measure("--connect", address, "--rate", 200, "--count", 60)
        self.assertEqual((status, report["answered"], report["lags"]["count"]), (0, 60, 60))
        self.assertGreater(report["seconds"], 0.25)

    async def test_one_process_drives_ten_thousand_connections(self):
        need_open_files(2 * TEN_THOUSAND)
        _, address = await self.echo()
        words = ["--connections", TEN_THOUSAND, "--count", 2 * TEN_THOUSAND, "--timeout", 250]
        report, status = await self.measure("--connect", address, *words)
        self.assertEqual((status, report["wrong"], report["answered"]), (0, 0, 2 * TEN_THOUSAND))
        self.assertEqual(report["connections"]["opened"], TEN_THOUSAND)

    async def test_results_are_on_standard_output_and_the_log_is_not(self):
        _, address = await self.echo()
        out, err, status = await self.load("--connect", address, "--count", 100)
        self.assertEqual(status, 0, err)
        self.assertRegex(out, r"\Atcp:.*10 connections")
        self.assertRegex(out, r"answers +100 in ")
        self.assertIn("serves load", err)
        self.assertNotIn("answers", err)

    async def test_a_changed_echo_is_a_wrong_answer(self):
        _, address = await self.echo("--transform", "upper")
        _, err, status = await self.load("--connect", address, "--count", 10)
        self.assertEqual(status, 1)
        self.assertRegex(err, "evserve: load: wrong answers on 10 connections: byte .* instead of")

    async def test_lines_are_compared_with_the_one_expected(self):
        _, address = await self.echo("--transform", "upper")
        words = ["--connect", address, "--send", "ping", "--expect", "PING", "--count", 1000]
        report, status = await self.measure(*words)
        self.assertEqual((status, report["answered"], report["plan"]["line"]), (0, 1000, "ping"))

    async def test_large_messages_arrive_in_pieces(self):
        _, address = await self.echo()
        words = ["--connections", 2, "--depth", 2, "--size", 1_000_000, "--count", 20]
        report, status = await self.measure("--connect", address, *words)
        self.assertEqual((status, report["answered"]), (0, 20), report["first_wrong"])

    async def test_large_messages_at_a_rate(self):
        _, address = await self.echo()
        words = ["--connections", 2, "--rate", 100, "--size", 1_000_000, "--count", 20]
        report, status = await self.measure("--connect", address, *words)
        self.assertEqual((status, report["answered"]), (0, 20), report["first_wrong"])

    async def test_unix_sockets(self):
        folder = self.folder()
        server = spawn(self, "echo", "--listen", f"unix:{folder}/s", folder=folder)
        await server.listening("unix")
        report, status = await self.measure("--connect", f"unix:{folder}/s", "--count", 50)
        self.assertEqual((status, report["answered"]), (0, 50))

    async def test_tls(self):
        certificates, folder = make_certificates(), self.folder()
        (folder / "server.pem").write_bytes(certificates.server_pem)
        (folder / "authority.pem").write_bytes(certificates.authority_pem)
        server = spawn(self, "echo", "--listen", "ssl:0:privateKey=server.pem", folder=folder)
        port = (await server.listening("ssl")).rpartition(":")[2]
        endpoint = f"tls:{NAME}:{port}:trustRoots={folder}"
        for loop in (["--depth", 3], ["--rate", 1000]):
            report, status = await self.measure("--connect", endpoint, "--count", 50, *loop)
            self.assertEqual((status, report["answered"]), (0, 50), report)
        report, status = await self.measure("--connect", f"tls:{NAME}:{port}", "--count", 50)
        self.assertEqual(status, 1)
        self.assertIn("certificate verify failed", str(report["connections"]["lost"]))

    async def test_a_signal_ends_it_with_the_figures_so_far(self):
        server, address = await self.echo("--console")
        child = spawn(self, "load", "--connect", address, "--seconds", 60)
        await child.until(lambda: b"serves load" in child.err)
        while b"10 connected" not in server.out:
            seen = len(server.out)
            server.transport.write(b"status\n")
            await server.until(lambda seen=seen: len(server.out) > seen)
        self.assertEqual(await child.stop("INT"), 0)
        self.assertRegex(child.out.decode(), r"connected +10 in .*\n(.*\n)*INTERRUPTED")

    async def test_connections_beyond_a_limit_are_counted(self):
        _, address = await self.echo("--max-connections", 4)
        report, status = await self.measure("--connect", address, "--seconds", 0.3)
        connections = report["connections"]
        # Refused after being accepted: some notice at once, others a moment later.
        refused = sum([*connections["failed"].values(), *connections["lost"].values()])
        self.assertEqual((status, refused), (0, 6), connections)

    async def test_it_can_be_called_from_python(self):
        from twisted.internet import reactor

        _, address = await self.echo()
        report = await run_load(reactor, Plan(address, 5, 100, seconds=None, count=500))
        self.assertEqual((report.answered, report.failure), (500, None))


class BadServerTests(LoadTestCase):
    async def test_a_server_with_wrong_answers(self):
        address = await self.serve(Wrong)
        out, err, status = await self.load("--connect", address, "--connections", 3)
        self.assertEqual(status, 1)
        self.assertRegex(out, r"WRONG +on 3 connections, such as byte 0 is ")
        self.assertIn("evserve: load: wrong answers on 3 connections", err)

    async def test_a_server_that_never_answers(self):
        address = await self.serve(Silent)
        words = ["--connect", address, "--seconds", 0.1, "--timeout", 0.1]
        out, err, status = await self.load(*words)
        self.assertEqual(status, 1)
        self.assertRegex(out, r"unanswered +10\n")
        self.assertIn("evserve: load: nothing was answered\n", err)

    async def test_a_server_that_closes(self):
        address = await self.serve(Closer)
        report, status = await self.measure("--connect", address)
        lost = report["connections"]["lost"]
        self.assertEqual((status, lost), (1, {"closed by the server": 10}))

    async def test_no_server(self):
        words = ["--connect", f"unix:{os.devnull}x", "--connections", 3]
        report, status = await self.measure(*words)
        self.assertEqual(status, 1)
        failed = report["connections"]["failed"]
        self.assertEqual(failed, {"No such file or directory": 3})

    async def test_a_mistake_is_one_line(self):
        for words, line in (
            (["--connect", "nonsense"], "evserve: load: --connect 'nonsense': unknown kind"),
            (["--json", "/no/such/folder/x"], "evserve: load: No such file or directory: "),
            (["--connections", "0"], "evserve: load: --connections '0': not a whole number"),
        ):
            out, err, status = await self.load(*words)
            self.assertEqual((out, err.count("\n"), status), ("", 1, 1), err)
            self.assertIn(line, err)
