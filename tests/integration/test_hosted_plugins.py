"""twistd plugins as services: Twisted's own, and plugins as people write them."""

import contextlib
import importlib.util
import json
import re
import sys

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from treq.client import HTTPClient
from twisted.internet.endpoints import clientFromString, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectError
from twisted.web.client import Agent

from tests.certificates import make_certificates
from tests.integration.commands import CommandCase
from tests.integration.processes import TWISTD, address_of
from tests.integration.stream_client import StreamClient


LOOPBACK = "tcp:0:interface=127.0.0.1"
BIG = 8_000_000  # bytes: more than the kernel buffers

# Words after the name, the same as a table, and the kinds of the ports that are opened.
TWISTED = {
    "conch": (["-p", LOOPBACK, "-d", "."], {"port": LOOPBACK, "data": "."}, ["tcp"]),
    "dns": (
        ["--port", "0", "--interface", "127.0.0.1"],
        {"port": 0, "interface": "127.0.0.1"},
        ["tcp", "udp"],
    ),
    "ftp": (
        ["--port", "0", "--root", ".", "--auth", "anonymous"],
        {"port": 0, "root": ".", "auth": "anonymous"},
        ["tcp"],
    ),
    "inetd": (["--file", "inetd.conf"], {"file": "inetd.conf"}, []),
    "mail": (
        ["--no-pop3", "--smtp", LOOPBACK, "-d", "localhost=mail"],
        {"no-pop3": True, "smtp": LOOPBACK, "maildirdbmdomain": "localhost=mail"},
        ["tcp"],
    ),
    "manhole": (["--telnetPort", LOOPBACK], {"telnetPort": LOOPBACK}, ["tcp"]),
    "portforward": (
        ["--port", LOOPBACK, "--host", "127.0.0.1"],
        {"port": LOOPBACK, "host": "127.0.0.1"},
        ["tcp"],
    ),
    "procmon": (
        [sys.executable, "-c", "input()"],
        {"arguments": [sys.executable, "-c", "input()"]},
        [],
    ),
    "socks": (
        ["--port", "0", "--interface", "127.0.0.1"],
        {"port": 0, "interface": "127.0.0.1"},
        ["tcp"],
    ),
    "web": (["--listen", LOOPBACK, "--path", "."], {"listen": LOOPBACK, "path": "."}, ["tcp"]),
    "words": (["--irc-port", LOOPBACK], {"irc-port": LOOPBACK}, ["tcp"]),
    "xmpp-router": (["--port", LOOPBACK], {"port": LOOPBACK}, ["tcp"]),
}
_NEEDS_BCRYPT = {"conch", "manhole"}


def installed():
    """Return those of TWISTED that can be imported: two need what `twisted[conch]` installs."""
    missing = set() if importlib.util.find_spec("bcrypt") else _NEEDS_BCRYPT
    return {name: row for name, row in TWISTED.items() if name not in missing}


MAKER = """
from twisted.application.service import ServiceMaker
it = ServiceMaker("A test.", "module_{name}", "A test.", "{name}")
"""

# As carbon: its options need those of twistd, and set some of them.
READS_PARENT = """
import os
from twisted.application.service import MultiService
from twisted.python import usage

class Options(usage.Options):
    optFlags = [["debug", None, "Say more"]]

    def opt_instance(self, value):
        self["instance"] = self.parent.subCommand + value

    def parseArgs(self, *action):
        self["action"] = action or self.parent["rundir"]

    def postOptions(self):
        parent = self.parent
        assert isinstance(parent, usage.Options)
        assert parent["pidfile"].endswith("twistd.pid")
        assert parent["logfile"] is None and parent.get("syslog") == 0
        assert parent.subOptions is self
        assert "umask" in parent and parent["umask"] is None
        parent["umask"] = 0o027
        parent["pidfile"] = "own.pid"

def makeService(options):
    print(options.parent.subCommand, options["instance"], options["action"])
    return MultiService()
"""

# As cowrie: it has an Application of its own, and sets a log observer for it.
OWN_APPLICATION = """
from twisted.application import internet, service
from twisted.internet.protocol import Factory
from twisted.internet import protocol
from twisted.logger import ILogObserver
from twisted.python import usage
from zope.interface import provider

class Options(usage.Options):
    pass

@provider(ILogObserver)
def observe(event):
    with open("seen", "a") as file:
        file.write(str(event.get("log_format")) + chr(10))

class Top(service.MultiService):
    def setServiceParent(self, parent):
        super().setServiceParent(parent)
        service.IProcess(parent).processName = None
        parent.setComponent(ILogObserver, observe)

def makeService(options):
    application = service.Application("own")
    top = Top()
    top.setServiceParent(application)
    factory = Factory.forProtocol(protocol.Protocol)
    internet.TCPServer(0, factory, interface="127.0.0.1").setServiceParent(top)
    return top
"""

# It listens in makeService, on the global reactor. A line is answered when the drain has begun.
LISTENS_AT_ONCE = """
from twisted.application.service import Service
from twisted.internet import reactor, task
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from twisted.python import usage

class Options(usage.Options):
    pass

class Answer(LineReceiver):
    def lineReceived(self, line):
        print("got", line.decode())
        self.loop = task.LoopingCall(self.answer, line)
        self.loop.start(0.01)

    def answer(self, line):
        if line == b"now" or not port.connected:
            self.loop.stop()
            self.sendLine(line.upper())

factory = Factory.forProtocol(Answer)
port = None

def makeService(options):
    global port
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    return Service()
"""

RAISES_WHEN_IT_HAS_LISTENED = """
from twisted.application import internet, service
from twisted.internet.protocol import Factory
from twisted.python import usage

class Options(usage.Options):
    pass

class Top(service.MultiService):
    def startService(self):
        super().startService()
        raise OSError(28, "No space left", "x.db")

def makeService(options):
    top = Top()
    internet.UNIXServer("its.sock", Factory()).setServiceParent(top)
    return top
"""


class Case(CommandCase):
    def setUp(self):
        super().setUp()
        self.write("inetd.conf", "")
        self.folder.joinpath("mail").mkdir()
        key = rsa.generate_private_key(65537, 2048)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self.write("ssh_host_rsa_key", private.decode())
        self.write("ssh_host_rsa_key.pub", public.decode())

    def plugin(self, name, module):
        self.write(f"module_{name}.py", module)
        self.write(f"twisted/plugins/{name}_plugin.py", MAKER.format(name=name))

    async def serving(self, *words):
        server = self.evserve(*words)
        await server.until(lambda: b" serves " in server.err)
        return server

    async def stopping(self, server):
        """Send SIGTERM, and wait until the server has noticed."""
        ended = server.stop()
        await server.until(lambda: b"SIGTERM: stopping" in server.err)
        return ended

    def config(self, **tables):
        """Write a config file."""
        lines = []
        for name, settings in tables.items():
            lines.append(f"[services.{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        self.write("c.toml", "\n".join(lines))

    async def get(self, address, path):
        from twisted.internet import reactor

        response = await HTTPClient(Agent(reactor)).get(f"http://{address}{path}")
        return await response.text()


class TwistedPluginTests(Case):
    """Each of Twisted's plugins."""

    async def check_command(self, name, words, kinds):
        server = await self.serving(name, *words)
        pattern = rf"(?m)^\S+ \S+ {name}: listening on (\w+) \S+:\d+$"
        self.assertEqual(re.findall(pattern, server.err.decode()), kinds, name)
        self.assertEqual(await server.stop(), 0, server.err)
        self.assertNotIn(b"Traceback", server.err)

    async def test_each_is_a_command(self):
        rows = [(name, words, kinds) for name, (words, _, kinds) in installed().items()]
        await self.check_rows(rows, self.check_command)

    async def test_all_are_tables_with_limits_on_the_status_page(self):
        rows = installed()
        limits = {"max-connections": 1, "max-per-peer": 1, "idle-timeout": 60}
        self.config(**{name: {**row[1], **limits} for name, row in rows.items()})
        for _ in range(2):  # the second time just after the first
            server = await self.serving("--admin", "tcp:0", "--config", "c.toml")
            admin = await address_of(server, "admin")
            status = json.loads(await self.get(admin, "/api/status"))
            metrics = await self.get(admin, "/metrics")
            for service in status["services"]:
                name, kinds = service["name"], rows[service["name"]][2]
                shown = [address.partition(" ")[0] for address in service["listening"]]
                self.assertEqual(shown, kinds, name)
                self.assertEqual(
                    f'evserve_connections{{service="{name}"}} 0.0' in metrics, kinds != []
                )
            if "xmpp-router" in rows:
                await self.check_limit(server, "xmpp-router")
            self.assertEqual(await server.stop(), 0, server.err)

    async def check_limit(self, server, name):
        address = f"tcp:{await address_of(server, name)}"
        first = await self.connect(address)
        with contextlib.suppress(ConnectError):  # if the reset arrives first
            await (await self.connect(address)).closed
        self.assertFalse(first.closed.called)
        refused = f"{name}: refused 1 connections in the last second (max-connections)"
        await server.until(lambda: refused.encode() in server.err)

    async def test_the_limits_are_options_too(self):
        server = self.evserve("web", "--help")
        await server.ended
        self.assertIn(b"--max-connections=", server.out)
        self.assertTrue(server.out.startswith(b"Usage: twistd [options] evserve [options] web "))


class DrainTests(Case):
    async def web(self, *words):
        self.folder.joinpath("big").write_bytes(bytes(BIG))
        server = await self.serving(*words, "web", "--listen", LOOPBACK, "--path", ".")
        return server, f"tcp:{await address_of(server, 'web')}"

    async def request(self, address, path):
        """Return a client that has the beginning of the response, and reads no more of it."""
        client = await self.connect(address)
        client.transport.write(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        await client.receive(1)
        client.transport.pauseProducing()
        return client

    async def test_a_slow_client_gets_the_whole_file_and_an_idle_one_is_closed(self):
        server, address = await self.web("--drain", "100")
        slow, idle = await self.request(address, b"/big"), await self.request(address, b"/nope")
        idle.transport.resumeProducing()
        ended = await self.stopping(server)
        await idle.closed
        slow.transport.resumeProducing()
        body = (await slow.closed).partition(b"\r\n\r\n")[2]
        self.assertEqual((len(body), await ended), (BIG, 0))

    async def test_over_tls_it_is_the_same(self):
        certificates = make_certificates()
        self.folder.joinpath("server.pem").write_bytes(certificates.server_pem)
        self.folder.joinpath("big").write_bytes(bytes(BIG))
        listen = "ssl:0:interface=127.0.0.1"
        server = await self.serving("--drain", "100", "web", "--listen", listen, "--path", ".")
        slow, idle = [
            await self.tls(await server.listening("ssl"), certificates) for _ in range(2)
        ]
        for client in (slow, idle):
            path = b"/big" if client is slow else b"/nope"
            client.transport.write(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
            await client.receive(1)
        slow.transport.pauseProducing()
        ended = await self.stopping(server)
        await idle.closed
        slow.transport.resumeProducing()
        body = (await slow.closed).partition(b"\r\n\r\n")[2]
        self.assertEqual((len(body), await ended), (BIG, 0))

    async def tls(self, address, certificates):
        from twisted.internet import reactor

        client = StreamClient()
        endpoint = clientFromString(reactor, f"tcp:{address}")
        await connectProtocol(wrapClientTLS(certificates.client_options(), endpoint), client)
        self.addCleanup(client.hang_up)
        return client

    async def test_a_client_that_reads_nothing_is_cut_when_the_drain_ends(self):
        server, address = await self.web("--drain", "0.3")
        await self.request(address, b"/big")
        self.assertEqual(await server.stop(), 1)
        self.assertIn(b"still draining after 0.3 seconds: aborted 1 connections", server.err)

    async def test_a_request_is_answered_by_a_protocol_of_which_nothing_is_known(self):
        self.plugin("answers", LISTENS_AT_ONCE)
        server = await self.serving("--drain", "100", "answers")
        address = f"tcp:{await address_of(server, 'answers')}"
        waiting, idle = await self.connect(address), await self.connect(address)
        idle.transport.write(b"now\r\n")
        await idle.receive(5)
        waiting.transport.write(b"later\r\n")
        await server.until(lambda: b"got later" in server.err)
        ended = await self.stopping(server)
        self.assertEqual(await idle.closed, b"NOW\r\n")
        self.assertEqual(await waiting.closed, b"LATER\r\n")
        self.assertEqual(await ended, 0)

    async def test_a_file_transfer_of_ftp_is_completed(self):
        self.folder.joinpath("big").write_bytes(bytes(BIG))
        words, _, _ = TWISTED["ftp"]
        server = await self.serving("--drain", "100", "ftp", *words)
        port = (await address_of(server, "ftp")).rpartition(":")[2]
        control = await self.connect(f"tcp:127.0.0.1:{port}")
        for command, code in (
            (b"USER anonymous", b"331"),
            (b"PASS x", b"230"),
            (b"TYPE I", b"200"),
            (b"PASV", b"227"),
        ):
            control.transport.write(command + b"\r\n")
            while code not in control.got:
                await control.receive(len(control.got) + 1)
        numbers = re.search(rb"227 .*\((.*)\)", control.got)[1].split(b",")
        data = await self.connect(f"tcp:127.0.0.1:{int(numbers[4]) * 256 + int(numbers[5])}")
        data.transport.pauseProducing()
        control.transport.write(b"RETR big\r\n")
        while b"150 " not in control.got and b"125 " not in control.got:
            await control.receive(len(control.got) + 1)
        ended = await self.stopping(server)
        data.transport.resumeProducing()
        self.assertEqual(len(await data.closed), BIG)
        self.assertIn(b"226 ", await control.closed)
        self.assertEqual(await ended, 0)


class MannerTests(Case):
    async def test_options_that_read_and_set_those_of_twistd(self):
        self.plugin("reads", READS_PARENT)
        self.config(one={"plugin": "reads", "instance": "-a", "arguments": ["start"]})
        for words in (["reads", "--instance=-a", "start"], ["--config", "c.toml"]):
            server = await self.serving(*words)
            self.assertEqual(server.out, b"reads reads-a ('start',)\n")
            self.assertTrue(self.folder.joinpath("own.pid").exists())
            self.assertEqual(await server.stop(), 0)

    async def test_options_that_raise_are_one_line(self):
        self.plugin("raises", "from twisted.python import usage\n"
            "class Options(usage.Options):\n"
            "    def postOptions(self): self.parent['nothing']\n"
            "makeService = print\n")  # fmt: skip
        await self.check_error(["raises"], "raises: KeyError: 'nothing'")

    async def test_a_service_with_an_application_of_its_own(self):
        self.plugin("own", OWN_APPLICATION)
        server = await self.serving("own")
        await self.connect(f"tcp:{await address_of(server, 'own')}")
        self.assertEqual(await server.stop(), 0)
        self.assertIn("{name}: listening on {address}\n", self.folder.joinpath("seen").read_text())

    async def test_an_unsuccessful_start_closes_its_ports(self):
        self.plugin("raises", RAISES_WHEN_IT_HAS_LISTENED)
        child = self.evserve("raises")
        self.assertEqual(await child.ended, 1)
        self.assertTrue(child.err.endswith(b"evserve: raises: No space left: x.db\n"), child.err)
        self.assertEqual(list(self.folder.glob("its.sock*")), [])

    async def test_several_at_once_under_twist(self):
        self.plugin("own", OWN_APPLICATION)
        self.plugin("answers", LISTENS_AT_ONCE)
        self.config(own={}, answers={})
        child = self.run_command(
            sys.executable, TWISTD.with_name("twist"), "evserve", "--config", "c.toml"
        )
        await child.until(lambda: b'"names"' in child.out)
        self.assertEqual(child.out.count(b'"address"'), 2)
        self.assertEqual(await child.stop(), 0)
