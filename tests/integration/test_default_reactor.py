"""The reactor of `twistd -n evserve` without `--reactor`, as a user starts it."""

import os
import signal
import sys

from twisted.internet.threads import deferToThread

from tests.integration.commands import CommandCase
from tests.integration.processes import address_of
from tests.integration.test_server import wait_for_the_end
from tests.ports import free_port


# Without the file `twistd`, which EVSERVE_TEST_REACTOR would give a reactor.
TWISTD = (sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()")
WITHOUT = "import sys; sys.modules['uvloop'] = None; from twisted.scripts.twistd import run; run()"
BROKEN = "raise ImportError('undefined symbol')"
OWN = "from twisted.internet import pollreactor; pollreactor.install()"
ON_CURRENT_LOOP = """
import asyncio
from twisted.internet import asyncioreactor
asyncioreactor.install(asyncio.get_event_loop())
"""
EAGER = "from twisted.internet import reactor"

PROBE_PLUGIN = """
from evserve.plugin import ServicePlugin

probe = ServicePlugin("probe", "probe_module", "Tells about the reactor.", stateless=True)
"""
# Answers with the name of the reactor, and with what a timer, a thread and a child did.
PROBE = """
import asyncio
import sys
import threading
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.internet.utils import getProcessOutput
from twisted.python import usage

class Options(usage.Options):
    pass

loops = []

async def look(reactor):
    found = [type(reactor).__name__]
    found.append(await deferLater(reactor, 0.01, lambda: "timer"))
    pool = reactor.getThreadPool()
    in_thread = lambda: threading.current_thread() is not threading.main_thread()
    found.append(f"thread {await deferToThreadPool(reactor, pool, in_thread)}")
    child = await getProcessOutput(sys.executable, ["-c", "print('child')"], reactor=reactor)
    found.append(child.decode().strip())
    found.append(f"loop {loops == [getattr(reactor, 'loop', None)]}")
    return ", ".join(found)

class Probe(Protocol):
    def dataReceived(self, data):
        looked = Deferred.fromCoroutine(look(self.factory.host.reactor))
        looked.addCallback(self.answer)

    def answer(self, text):
        self.transport.write(text.encode())
        self.transport.loseConnection()

def makeService(options, host):
    if hasattr(host.reactor, "loop"):
        host.reactor.callWhenRunning(lambda: loops.append(asyncio.get_event_loop()))
    factory = Factory.forProtocol(Probe)
    factory.host = host
    return host.listen(options, factory)
"""
ON_UVLOOP = b"UvloopReactor, timer, thread True, child, loop True"
ON_EPOLL = b"EPollReactor, timer, thread True, child, loop False"


class DefaultReactorTests(CommandCase):
    async def reactor_of(self, *words, env=None):
        """Start a server, stop it, and return the reactor in its start line; check the exit."""
        server = self.run_command(*words, env=env)
        await server.listening()
        self.assertEqual(await server.stop(), 0)
        line = next(line for line in server.err.splitlines() if b" serves " in line)
        self.err = server.err
        return line.split(b", ")[1].decode()

    async def test_it_is_uvloop_whichever_command_starts_it(self):
        in_text = ("--log-file=+", "--log-format=text", "evserve", "--port", "0")
        for words in (
            (*TWISTD, "-n", "evserve", "--port", "0"),
            (*TWISTD, "-n", "evserve", "-c", self.write("c.toml", "[services.echo]\nport = 0")),
            (*TWISTD, "-n", "evserve", "web", "--listen", "tcp:0:interface=127.0.0.1"),
            (sys.executable, "-m", "twisted", *in_text),
        ):
            self.assertEqual(await self.reactor_of(*words), "UvloopReactor", words)
            self.assertNotIn(b"reactor:", self.err)

    async def test_one_that_is_asked_for_wins(self):
        for name, reactor in (
            ("epoll", "EPollReactor"),
            ("asyncio", "AsyncioSelectorReactor"),
            ("uvloop", "UvloopReactor"),
        ):
            words = (*TWISTD, f"--reactor={name}", "-n", "evserve", "--port", "0")
            self.assertEqual(await self.reactor_of(*words), reactor)

    async def test_without_uvloop_it_is_twisteds_own(self):
        words = (sys.executable, "-c", WITHOUT, "-n", "evserve", "--port", "0")
        self.assertEqual(await self.reactor_of(*words), "EPollReactor")
        self.assertNotIn(b"uvloop", self.err)

    async def test_if_uvloop_is_broken_it_is_twisteds_own_and_a_line_says_why(self):
        self.write("uvloop.py", BROKEN)
        words = (*TWISTD, "-n", "evserve", "--port", "0")
        path = {"PYTHONPATH": str(self.folder)}
        self.assertEqual(await self.reactor_of(*words, env=path), "EPollReactor")
        self.assertIn(b" reactor: uvloop cannot be used: ImportError: undefined", self.err)

    async def test_one_that_a_plugin_file_imports_first_stays_for_workers_too(self):
        eager = self.write("twisted/plugins/eager.py", EAGER)
        self.write("twisted/plugins/probe.py", PROBE_PLUGIN)
        self.write("probe_module.py", PROBE)
        server = self.run_command(
            *(*TWISTD, "-n", "evserve", "--workers", "2", "probe", "--port", "0"),
            env={"PYTHONPATH": str(self.folder)},  # where Twisted too looks for plugins
        )
        address = await address_of(server, "probe")
        line = f"reactor: EPollReactor was installed by {eager} before evserve's own"
        self.assertEqual(server.err.decode().count(line), 1)
        for _ in range(4):
            self.assertEqual(await self.look(address), ON_EPOLL)

    async def test_a_plugin_that_installs_its_own_has_it(self):
        plugin = self.write("twisted/plugins/own.py", OWN)
        words = (*TWISTD, "-n", "evserve", "--port", "0")
        self.assertEqual(await self.reactor_of(*words), "PollReactor")
        line = f" reactor: PollReactor was installed by {plugin} in place of the default\n"
        self.assertEqual(self.err.decode().count(line), 1)
        self.write("twisted/plugins/own.py", ON_CURRENT_LOOP)
        self.assertEqual(await self.reactor_of(*words), "UvloopReactor")
        self.assertNotIn(b"reactor:", self.err)

    async def test_workers_run_on_uvloop(self):
        self.write("twisted/plugins/probe.py", PROBE_PLUGIN)
        self.write("probe_module.py", PROBE)
        words = ("-n", "evserve", "--workers", "2", "probe", "--port", "0")
        server = self.run_command(*TWISTD, *words)
        address = await address_of(server, "probe")
        for _ in range(4):
            self.assertEqual(await self.look(address), ON_UVLOOP)

    async def test_a_daemon_serves_on_it_with_timers_threads_and_children(self):
        self.write("twisted/plugins/probe.py", PROBE_PLUGIN)
        self.write("probe_module.py", PROBE)
        self.addCleanup(self.kill_daemon)
        address = f"127.0.0.1:{free_port()}"
        daemon = self.run_command(
            *TWISTD, "evserve", "probe", "--listen", f"tcp:{address[10:]}:interface=127.0.0.1"
        )
        self.assertEqual((await daemon.ended, daemon.err), (0, b""))
        pid = int((self.folder / "twistd.pid").read_text())
        self.assertEqual(await self.look(address), ON_UVLOOP)
        with os.fdopen(os.pidfd_open(pid)) as process:
            os.kill(pid, signal.SIGTERM)
            await deferToThread(wait_for_the_end, process)

    async def look(self, address):
        client = await self.connect(f"tcp:{address}")
        client.transport.write(b"?")
        return await client.closed

    def kill_daemon(self):
        pidfile = self.folder / "twistd.pid"
        if pidfile.exists():
            os.kill(int(pidfile.read_text()), signal.SIGKILL)
