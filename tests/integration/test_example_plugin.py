"""The complete plugin of examples/plugins, in a folder of its own as a third party has it."""

import shutil

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.trial.unittest import TestCase

from tests.documents import ROOT
from tests.integration.processes import run_python, spawn


class ChatTests(TestCase):
    """It is used from its folder, without being installed."""

    def setUp(self):
        self.folder = self.mktemp()
        shutil.copytree(ROOT / "examples" / "plugins" / "chat", self.folder)

    async def test_its_own_tests_pass(self):
        child = run_python(self, "-m", "twisted.trial", "test_chatroom", folder=self.folder)
        status = await child.ended
        self.assertEqual((status, b"PASSED" in child.out), (0, True), child.out.decode())

    async def test_it_is_served(self):
        from twisted.internet import reactor

        child = spawn(self, "chat", "--port", "0", folder=self.folder)
        host, _, port = (await child.listening()).rpartition(":")
        greeting = Greeting()
        await connectProtocol(clientFromString(reactor, f"tcp:{host}:{port}"), greeting)
        self.assertEqual(await greeting.read, b"Welcome, guest1.\n")


class Greeting(Protocol):
    """Reads a line, then leaves."""

    def __init__(self):
        self.read = Deferred()
        self._data = b""

    def dataReceived(self, data):
        self._data += data
        if self._data.endswith(b"\n"):
            self.transport.loseConnection()

    def connectionLost(self, reason=connectionDone):
        self.read.callback(self._data)
