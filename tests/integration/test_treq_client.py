"""`evserve.http.treq_client` is treq's API over the client, on a real connection."""

import json
import sys

from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from evserve.http import Client, Settings, treq_client
from tests.integration.commands import CommandCase


class Echo(Resource):
    """Answers with the method, the path, the User-Agent and the body of the request."""

    isLeaf = True

    def render(self, request):
        request.setHeader(b"content-type", b"application/json")
        words = {
            "method": request.method.decode(),
            "path": request.path.decode(),
            "agent": request.getHeader("user-agent"),
            "body": request.content.read().decode(),
        }
        return json.dumps(words).encode()


class TreqClientTests(TestCase):
    def setUp(self):
        site = Site(Echo())
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.url = f"http://127.0.0.1:{port.getHost().port}/some/page"

    async def test_requests_and_bodies_pass(self):
        client = Client(reactor, Settings(user_agent=b"mine"))
        self.addCleanup(client.close)
        http = treq_client(reactor, client)
        self.assertIsInstance(http, HTTPClient)
        response = await http.get(self.url)
        self.assertEqual(response.code, 200)
        expected = {"method": "GET", "path": "/some/page", "agent": "mine", "body": ""}
        self.assertEqual(await response.json(), expected)
        response = await http.post(self.url, data=b"hello")
        self.assertEqual(await response.json(), {**expected, "method": "POST", "body": "hello"})
        self.assertEqual(client.pool.open, 1)

    def test_a_reactor_is_enough(self):
        self.assertIsInstance(treq_client(MemoryReactorClock()), HTTPClient)


class ImportTests(CommandCase):
    async def test_neither_treq_nor_a_reactor_is_imported_with_it(self):
        child = self.run_command(
            sys.executable,
            "-c",
            "import sys; from evserve.http import treq_client;"
            "print(sorted({'treq', 'twisted.internet.reactor'} & set(sys.modules)))",
        )
        self.assertEqual(await child.ended, 0, child.err.decode())
        self.assertEqual(child.out, b"[]\n")
