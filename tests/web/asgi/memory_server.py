"""A server of an ASGI application, whose connections and event loop are the test's."""

import asyncio

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from evserve import aio
from evserve.web.asgi.connection import ConnectionFactory
from evserve.web.asgi.server import Server
from evserve.web.asgi.service import Options
from tests.web.memory_connection import connect


TURNS = 20  # of the loop: more than a request takes, whose tasks wait for no time


class ServerCase(SynchronousTestCase):
    """`serve` an application, `connect` and `send`; all in one event loop."""

    def setUp(self):
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self._close_loop)
        self.reactor = MemoryReactorClock()
        self.reactor._asyncioEventloop = self.loop
        # In a process, the reactor that is installed has the loop in which Deferreds are awaited.
        self.patch(aio, "reactor_loop", lambda *_: self.loop)

    def _close_loop(self):
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.in_loop(list)
        self.loop.close()

    def in_loop(self, function, *arguments):
        """Call a function in the loop; run what comes of it."""

        async def call():
            result = function(*arguments)
            for _ in range(TURNS):
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(call())

    def serve(self, application, *words, started=True):
        options = Options()
        options.parseOptions([*words, "the:application"])
        self.server = Server(options, self.reactor, application)
        self.addCleanup(self.server.stop)
        self.factory = ConnectionFactory(self.server.make_protocol)
        if started:
            self.factory.serve()

    def connect(self):
        return connect(self.factory)

    def send(self, connection, data):
        """Have a client send data; return what it has received so far."""
        self.in_loop(connection.receive, data)
        return self.received(connection)

    def received(self, connection):
        """Return what a client has received so far."""
        self.in_loop(connection.settle)
        return bytes(connection.sent)

    def second_passed(self):
        self.in_loop(self.server.second_passed)
        self.in_loop(self.factory.second_passed)


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [LENGTH_5]})
    await send({"type": "http.response.body", "body": b"hello"})


LENGTH_5 = b"content-length", b"5"


class Slow:
    """An application that answers `hello` when the test says so."""

    def __init__(self):
        self.scopes, self.received, self.go = [], [], asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        await self.go.wait()
        self.received.append(await receive())
        await hello(scope, receive, send)


class Echo:
    """A websocket that echoes."""

    def __init__(self):
        self.messages = []

    async def __call__(self, scope, receive, send):
        while True:
            message = await receive()
            self.messages.append(message)
            if message["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})
            elif message["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
            else:
                return


UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
MASKED_HI = b"\x81\x82\x00\x00\x00\x00hi"
