"""What each signal does to real processes: one or several, a daemon, with each kind of log.

Drain (TERM, INT), reload (HUP), reopen the log file (USR1), nothing (all others that tools send).
"""

import json
import os
import re
import signal
import socket
import ssl
import sys
from pathlib import Path

import trustme
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.integration.commands import EVSERVE, CommandCase
from tests.integration.processes import TWISTD, Child, on_chosen_reactor


# What logrotate, terminals, tmux, docker, lxc, profilers and scripts for other servers send.
NOTHING = ("USR2", "WINCH", "PIPE", "TTIN", "TTOU", "CONT", "URG", "ALRM", "VTALRM", "PROF", "IO")

SIZE = 16 * 1024 * 1024  # bytes, more than the buffers of two sockets hold
GIVER = f"""
from twisted.internet.protocol import Factory, Protocol
from twisted.python.usage import Options

class Giver(Protocol):
    def dataReceived(self, data):
        self.transport.write(bytes({SIZE}) if data == b"give" else data)

def makeService(options, host):
    return host.listen(options, Factory.forProtocol(Giver))
"""
# Sends itself signals at each step of its start.
EAGER = """
import os, signal
from twisted.application.service import MultiService
from twisted.internet.protocol import Factory
from twisted.python.usage import Options

NAMES = os.environ["SIGNALS"].split()
AT = os.environ["AT"]

def send(step):
    for name in NAMES if AT in ("each", step) else ():
        os.kill(os.getpid(), getattr(signal, "SIG" + name))

send("import")

class Eager(MultiService):
    def privilegedStartService(self):
        MultiService.privilegedStartService(self)
        send("privileged")

    def startService(self):
        send("start")
        MultiService.startService(self)
        host.reactor.callWhenRunning(send, "running")

def makeService(options, it):
    global host
    host = it
    send("make")
    service = Eager()
    host.listen(options, Factory()).setServiceParent(service)
    return service
"""


def read_all(client):
    total = 0
    while data := client.recv(1 << 20):
        total += len(data)
    return total


class Case(CommandCase):
    async def until(self, condition):
        """Wait for what no event tells: the content of a file, the end of a daemon."""
        from twisted.internet import reactor

        while not (found := condition()):
            await deferLater(reactor, 0.01)
        return found

    def add_plugin(self, name, module, kind="stateless=True"):
        text = f"it = ServicePlugin({name!r}, '{name}_module', 'For the tests.', {kind})\n"
        self.write(
            f"twisted/plugins/{name}.py", f"from evserve.plugin import ServicePlugin\n{text}"
        )
        self.write(f"{name}_module.py", module)


class Server:
    """A server in any kind of process, with its log; `path` is its log file if it has one."""

    def __init__(self, test, kind):
        self.test = test
        self.path = test.folder / "server.log" if kind in ("file", "daemon") else None
        self.pidfile = test.folder / "server.pid" if kind == "daemon" else None
        words = [] if self.pidfile else ["-n"]
        words += ["--logfile", self.path] if self.path else []
        words += ["--pidfile", self.pidfile] if self.pidfile else []
        own = {"json": ["--log-format", "json"], "workers": ["--workers", "2"]}.get(kind, [])
        words = (*words, "evserve", "--drain", "120", *own, "giver", "--port", "0")
        self.child = test.run_command(sys.executable, TWISTD, *words)
        if self.pidfile:
            test.addCleanup(self.kill_daemon)

    def kill_daemon(self):
        if self.pidfile.exists():
            os.kill(int(self.pidfile.read_text()), signal.SIGKILL)

    def log(self):
        if self.path is None:
            return self.child.err.decode()
        return self.path.read_text() if self.path.exists() else ""

    def says(self, pattern):
        return self.test.until(lambda: re.search(pattern, self.log()))

    def send(self, name):
        pid = int(self.pidfile.read_text()) if self.pidfile else self.child.transport.pid
        os.kill(pid, getattr(signal, f"SIG{name}"))

    async def connect(self):
        await self.says(r" serves .*\n")
        host, port = re.search(r"listening on tcp ([\d.]+):(\d+)", self.log()).groups()
        client = socket.create_connection((host, int(port)))
        self.test.addCleanup(client.close)
        client.settimeout(120)
        return client

    async def ended(self):
        """Return its exit status; of a daemon 0, once it has removed its pidfile."""
        if self.pidfile is None:
            return await self.child.ended
        await self.test.until(lambda: not self.pidfile.exists())
        return 0


class MatrixTests(Case):
    async def check(self, kind, *stops):
        self.add_plugin("giver", GIVER)
        for stop in stops:
            server = Server(self, kind)
            client = await server.connect()
            if stop == stops[0]:
                for name in NOTHING:
                    server.send(name)
                await self.check_echo_of(client)
                for name in ("HUP", "USR1"):
                    await self.check_log(server, name)
                await self.check_echo_of(client)
            await self.check_drain(server, stop, client)
            if server.path is not None:
                server.path.unlink()

    async def check_echo_of(self, client):
        client.sendall(b"hello")
        self.assertEqual(await deferToThread(client.recv, 5), b"hello")

    async def check_log(self, server, name):
        """A log file that was moved is opened again; the line about that is in the new one."""
        if server.path is None:
            server.send(name)
            await server.says(f"SIG{name}: no log file to reopen")
        else:
            moved = server.path.rename(self.folder / name)
            server.send(name)
            await server.says(f"SIG{name}: log file reopened")
            self.assertNotIn(f"SIG{name}", moved.read_text())

    async def check_drain(self, server, name, client):
        """What is in flight finishes, and the status is 0."""
        client.sendall(b"give")
        await deferToThread(client.recv, 1)
        server.send(name)
        await server.says(f"SIG{name}: stopping")
        self.assertEqual(await deferToThread(read_all, client), SIZE - 1)
        self.assertEqual(await server.ended(), 0, server.log())

    async def test_in_the_foreground(self):
        await self.check("single", "TERM", "INT")

    async def test_with_a_log_in_json(self):
        await self.check("json", "TERM")

    async def test_with_a_log_file(self):
        await self.check("file", "INT")

    async def test_with_workers(self):
        await self.check("workers", "TERM", "INT")

    async def test_as_a_daemon(self):
        await self.check("daemon", "TERM", "INT")


class StartTests(Case):
    """Signals that come before the server is complete."""

    def start(self, names, at):
        self.add_plugin("eager", EAGER)
        environ = {"SIGNALS": names, "AT": at}
        return self.run_command(*EVSERVE, "eager", "--port", "0", env=environ)

    async def test_none_of_a_tool_ends_it_at_any_step(self):
        server = self.start("HUP USR1 USR2 ALRM VTALRM PROF IO PWR", "each")
        await server.until(lambda: b" serves " in server.err)
        await server.until(lambda: server.err.count(b"SIGUSR1: ") == 5)
        self.assertEqual(await server.stop(), 0, server.err)

    async def test_a_stop_as_soon_as_ports_may_be_open_is_a_clean_one(self):
        for at in ("privileged", "start", "running"):
            for name in ("TERM", "INT"):
                server = self.start(name, at)
                self.assertEqual(await server.ended, 0, (name, at, server.err))


class LogTests(Case):
    async def test_each_line_of_a_json_log_has_its_message(self):
        server = self.evserve("--log-format", "json", "--port", "0")
        await server.until(lambda: b" serves " in server.err)
        await server.stop()
        messages = [json.loads(line)["message"] for line in server.err.splitlines()]
        self.assertRegex(messages[0], r"^echo: listening on tcp 127.0.0.1:\d+$")
        self.assertEqual(messages[-1], "SIGTERM: stopping")


class TerminalTests(Case):
    """A terminal that is closed, as when its window is."""

    def on_terminal(self, *words):
        """Start a command as the leader of a session on a new terminal."""
        from twisted.internet import reactor

        child = Child()
        self.addCleanup(lambda: None if child.exited.called else child.stop("KILL"))
        words = on_chosen_reactor(words)
        folder = str(self.folder)
        reactor.spawnProcess(child, words[0], words, os.environ, folder, usePTY=True)
        return child

    async def test_it_reloads_while_the_terminal_is_there_and_drains_when_it_has_gone(self):
        for own in ([], ["--workers", "2"]):
            server = self.on_terminal(*EVSERVE, *own, "echo", "--port", "0", "--delay", "0.5")
            await server.shows(b" serves ")
            server.transport.signalProcess("HUP")
            await server.shows(b"SIGHUP: no log file to reopen; certificates read again")
            port = int(re.search(rb"listening on tcp \S+:(\d+)", server.out)[1])
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"hello")
                await self.until(lambda: self.is_read(client))
                server.transport.loseConnection()
                self.assertEqual(await deferToThread(client.makefile("rb").read), b"hello")
            self.assertEqual(await server.exited, 0)

    def is_read(self, client):
        """Whether the server has read what `client` sent."""
        pair = [f"{each[1]:04X}" for each in (client.getpeername(), client.getsockname())]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, queues, *_ = line.split()
            if [local.partition(":")[2], remote.partition(":")[2]] == pair:
                return queues.endswith(":00000000")
        return False

    async def test_a_log_file_says_why(self):
        command = (*EVSERVE[:3], "--logfile", "x.log", *EVSERVE[3:])
        server = self.on_terminal(*command, "--port", "0")
        log = self.folder / "x.log"
        await self.until(lambda: log.exists() and " serves " in log.read_text())
        server.transport.loseConnection()
        self.assertEqual(await server.exited, 0)
        self.assertIn("SIGHUP, because the terminal has gone: stopping\n", log.read_text())

    async def test_a_shell_that_ends_takes_its_server_with_it(self):
        script = '"$@" & echo process $!; read line'  # the terminal itself stays open
        command = (*EVSERVE[:3], "--logfile", "x.log", *EVSERVE[3:], "--port", "0")
        shell = self.on_terminal("/bin/sh", "-c", script, "sh", *command)
        log = self.folder / "x.log"
        await self.until(lambda: log.exists() and " serves " in log.read_text())
        pid = int(re.search(rb"process (\d+)", shell.out)[1])
        self.addCleanup(lambda: Path(f"/proc/{pid}").exists() and os.kill(pid, signal.SIGKILL))
        shell.transport.write(b"\n")
        await self.until(lambda: "Server Shut Down" in log.read_text())
        self.assertIn("SIGHUP, because the terminal has gone: stopping\n", log.read_text())

    async def test_nohup_outlives_the_terminal(self):
        server = self.on_terminal("/usr/bin/nohup", *EVSERVE, "--port", "0")
        log = self.folder / "nohup.out"
        await self.until(lambda: log.exists() and " serves " in log.read_text())
        address = re.search(r"listening on tcp (\S+)", log.read_text())[1]
        server.transport.loseConnection()
        os.kill(server.transport.pid, signal.SIGHUP)
        await self.until(lambda: "SIGHUP: " in log.read_text())
        await self.check_echo(f"tcp:{address}")
        os.kill(server.transport.pid, signal.SIGTERM)
        self.assertEqual(await server.exited, 0)


class CertificateTests(Case):
    def issue(self):
        """Write a new certificate; return it."""
        issued = trustme.CA().issue_cert("localhost")
        (self.folder / "server.pem").write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        return issued.cert_chain_pems[0].bytes()

    async def served(self, address):
        """Return the certificate that a new connection gets."""
        host, _, port = address.rpartition(":")
        text = await deferToThread(ssl.get_server_certificate, (host, int(port)), timeout=120)
        return text.encode()

    async def check(self, kind, *own):
        old = self.issue()
        listen = {
            "ssl": "ssl:0:privateKey=server.pem:certKey=server.pem:interface=127.0.0.1",
            "tls": r"tls:.:0:interface=\:\:ffff\:127.0.0.1",
        }[kind]
        server = self.evserve(*own, "echo", "--listen", listen)
        address = (await server.listening(kind)).replace("[::ffff:127.0.0.1]", "127.0.0.1")
        self.assertEqual(await self.served(address), old)
        new = self.issue()
        server.transport.signalProcess("HUP")
        await self.until_served(address, new)
        (self.folder / "server.pem").write_bytes(b"broken")
        server.transport.signalProcess("HUP")
        await server.until(lambda: b"the old certificate stays" in server.err)
        for _ in range(4):
            self.assertEqual(await self.served(address), new)
        self.assertEqual(server.err.count(b"the old certificate stays"), 1)
        self.assertEqual(await server.stop(), 0)
        self.assertEqual(server.err.count(b"SIGHUP: "), 2, server.err)

    async def until_served(self, address, certificate):
        """Wait until many connections in a row get a certificate: each worker has read it."""
        in_a_row = 0
        while in_a_row < 8:
            in_a_row = in_a_row + 1 if await self.served(address) == certificate else 0

    async def test_one_process(self):
        await self.check("ssl")
        await self.check("tls")

    async def test_workers(self):
        await self.check("ssl", "--workers", "2")


class JobTests(Case):
    """Commands that end by themselves."""

    async def signalled(self, job):
        """Send a running job signals that must not end it."""
        for name in ("USR1", "HUP", "USR2", "ALRM"):
            os.kill(job.transport.pid, getattr(signal, f"SIG{name}"))
        await job.until(lambda: b"SIGHUP: " in job.err and b"SIGUSR1: " in job.err)

    async def test_fetch_reads_on(self):
        server = self.evserve("--port", "0")
        await server.listening()
        job = self.evserve("fetch", "-i", "-", "-o", "-")
        job.transport.write(b"http://127.0.0.1:1/\n")
        await job.shows(b"127.0.0.1:1")
        await self.signalled(job)
        job.transport.write(b"http://127.0.0.1:1/again\n")
        job.transport.closeStdin()
        self.assertEqual(await job.ended, 1)  # nothing listens there
        self.assertEqual(len(job.out.splitlines()), 2)

    async def test_load_and_work_go_on(self):
        server = self.evserve("--port", "0")
        address = await server.listening()
        load = self.evserve("load", "--connect", f"tcp:{address}", "--seconds", "1000")
        work = self.evserve("work", "--demo")
        await work.until(lambda: b" serves " in work.err)
        await load.until(lambda: b" serves " in load.err)
        for job in (load, work):
            await self.signalled(job)
            self.assertEqual(await job.stop(), 0)
