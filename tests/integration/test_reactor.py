"""`twistd --reactor=uvloop`: programs of evserve's and of Twisted's, as a user starts them."""

import re
import tempfile
from pathlib import Path
from shutil import rmtree, which

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, TestCase

from tests.certificates import make_certificates
from tests.integration.processes import TWISTD, run_python


ROOT = Path(__file__).parents[2]
FTP = [  # the server has connections of its own for data; the client is given its protocol late
    "FTPServerPasvDataConnectionTests",
    "FTPServerPortDataConnectionTests",
    "FTPClientFailedRETRAndErrbacksUponDisconnectTests",
]
WITHOUT_UVLOOP = """
import sys
sys.modules["uvloop"] = None
sys.argv = ["twistd", "--reactor=uvloop", "-n", "evserve"]
from twisted.scripts.twistd import run
run()
"""


class ReactorTests(TestCase):
    def test_evserve_echoes_on_it(self):
        return Deferred.fromCoroutine(self._echo())

    async def _echo(self):
        server = run_python(
            self, TWISTD, "--reactor=uvloop", "-n", "evserve", "--port", 0, stdin=False
        )
        host, _, port = (await server.listening()).rpartition(":")
        self.assertIn(b"UvloopReactor", server.err)
        client = run_python(self, "-c", ONE_LINE, host, port)
        self.assertEqual(await client.ended, 0)
        self.assertEqual(client.out, b"hello\n")
        self.assertEqual(await server.stop(), 0)

    def test_twisted_web_serves_files_to_curl_with_keep_alive_and_over_TLS(self):
        if which("curl") is None:
            raise SkipTest("curl is not installed")
        return Deferred.fromCoroutine(self._web())

    async def _web(self):
        folder = self._folder()
        (folder / "file").write_bytes(bytes(range(256)) * 4096)
        (folder / "key").write_bytes(make_certificates().server_pem)
        listen = f"ssl:0:interface=127.0.0.1:privateKey={folder}/key"
        words = ["--listen", "tcp:0:interface=127.0.0.1", "--listen", listen, "--path", folder]
        server = run_python(
            self, TWISTD, "--reactor=uvloop", "-n", "--pidfile=", "web", *words, stdin=False
        )
        ports = await server.until(lambda: _two_ports(server.out))
        for url in (f"http://127.0.0.1:{ports[0]}/file", f"https://127.0.0.1:{ports[1]}/file"):
            for_each = ["--next", "-skS", "-w", "%{num_connects}", "-o", folder / "got", url]
            curl = run_python(self, "-c", RUN, which("curl"), *for_each[1:], *for_each)
            self.assertEqual(await curl.ended, 0, curl.err)
            self.assertEqual(curl.out, b"10")  # the second went over the first's connection
            self.assertEqual((folder / "got").read_bytes(), (folder / "file").read_bytes())

    def test_treq_fetches_on_it(self):
        return Deferred.fromCoroutine(self._treq())

    async def _treq(self):
        folder = self._folder()
        (folder / "file").write_bytes(b"x" * 100_000)
        words = ["web", "--listen", "tcp:0:interface=127.0.0.1", "--path", folder]
        server = run_python(self, TWISTD, "--reactor=uvloop", "-n", "--pidfile=", *words)
        port = await server.until(lambda: _port(server.out))
        client = run_python(self, "-c", TREQ, f"http://127.0.0.1:{port}/file")
        self.assertEqual(await client.ended, 0, client.err)
        self.assertEqual(client.out, b"UvloopReactor 2000000\n")

    def test_twisteds_own_tests_of_its_protocols_pass_on_it(self):
        return Deferred.fromCoroutine(self._protocols())

    async def _protocols(self):
        modules = ["twisted.test.test_ssl", *(f"twisted.test.test_ftp.{each}" for each in FTP)]
        trial = TWISTD.with_name("trial")
        child = run_python(self, trial, "--reactor=uvloop", *modules, stdin=False)
        self.assertEqual(await child.ended, 0, child.out.decode())
        self.assertRegex(child.out, rb"PASSED \((skips=\d+, )?successes=\d\d\)")

    def _folder(self):
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, folder)
        return folder

    def test_without_uvloop_one_line_says_what_to_install(self):
        return Deferred.fromCoroutine(self._without())

    async def _without(self):
        child = run_python(self, "-c", WITHOUT_UVLOOP, stdin=False)
        self.assertEqual(await child.ended, 1)
        self.assertEqual(child.out, b"")
        self.assertEqual(child.err.count(b"\n"), 1, child.err)
        self.assertIn(b"pip install uvloop", child.err)

    def test_it_starts_and_ends_without_standard_streams(self):
        return Deferred.fromCoroutine(self._without_streams())

    async def _without_streams(self):
        self.assertEqual(await run_python(self, "-c", WITHOUT_STREAMS, stdin=False).ended, 0)

    def test_the_benchmark_runs(self):
        if which("cc") is None or which("taskset") is None:
            raise SkipTest("there is no C compiler, or no taskset")
        return Deferred.fromCoroutine(self._benchmark())

    async def _benchmark(self):
        words = ["--rounds", 1, "--seconds", 0.1, "--only", "10 x 1024 B"]
        child = run_python(self, "-m", "benchmarks.reactor", *words, folder=ROOT, stdin=False)
        self.assertEqual(await child.ended, 0, child.err)
        for name in (b"evserve, uvloop", b"uvloop Protocol", b"C epoll"):
            self.assertRegex(child.out, re.escape(name) + rb" +[\d.]+ us")


WITHOUT_STREAMS = """
import os
os.closerange(0, 3)
from evserve.reactor import new_reactor
reactor = new_reactor()
reactor.callWhenRunning(reactor.stop)
reactor.run()
reactor.loop.close()
"""
ONE_LINE = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as client:
    client.sendall(b"hello\\n")
    client.shutdown(socket.SHUT_WR)
    while data := client.recv(100):
        sys.stdout.buffer.write(data)
"""
TREQ = """
import sys
from evserve.reactor import install
install()
import treq
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

async def length(url):
    return len(await (await treq.get(url)).content())

async def main(reactor, url):
    found = await gatherResults([Deferred.fromCoroutine(length(url)) for _ in range(20)])
    print(type(reactor).__name__, sum(found))

react(lambda *words: Deferred.fromCoroutine(main(*words)), sys.argv[1:])
"""
RUN = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"


def _two_ports(out):
    found = re.findall(rb"(?:Site|TLSMemoryBIOFactory|\(TLS\)).* starting on (\d+)", out)
    return [int(each) for each in found] if len(found) == 2 else None


def _port(out):
    found = re.search(rb"Site starting on (\d+)\n", out)
    return int(found[1]) if found else None
