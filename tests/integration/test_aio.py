"""Handlers and services that await asyncio, as processes, on each reactor."""

import json
import os
import re
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.trial.unittest import TestCase

from evserve.events import ERRORS, Depth, open_queue
from tests.integration.processes import TWISTD, on_default_reactor, run_python, spawn
from tests.integration.stream_client import StreamClient
from tests.ports import free_port


PLUGINS = """
from evserve.plugin import Handler, ServicePlugin

deferreds = Handler("deferreds", "handlers.deferreds")
both = Handler("both", "handlers.both")
library = Handler("library", "handlers.library")
wait = Handler("wait.*", "handlers.wait")
capitals = ServicePlugin("capitals", "capitals", "Lines in capitals.", listens=False)
"""

HANDLERS = """
import asyncio
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

async def deferreds(event):
    await deferLater(reactor, 0.01)
    print("awaited Deferreds")

async def both(event):
    await deferLater(reactor, 0.01)
    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0.01))
        group.create_task(deferreds(event))
    print("awaited both")

async def wait(event):
    print("begin", event.type)
    try:
        await (Deferred() if event.type == "wait.deferred" else asyncio.sleep(1000))
    finally:
        print("end", event.type)

URL = "http://127.0.0.1:1/"

async def library(event):
    await globals()[event.body.decode()]()

async def anyio():
    import anyio
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0)

async def httpx():
    import httpx
    async with httpx.AsyncClient() as client:
        await client.get(URL)

async def aiohttp():
    import aiohttp
    async with aiohttp.ClientSession() as session:
        await session.get(URL)

async def asyncpg():
    import asyncpg
    await asyncpg.connect("postgresql://127.0.0.1:1/any")

async def redis():
    from redis.asyncio import Redis
    await Redis(port=1).get("any")

async def websockets():
    import websockets
    await websockets.connect("ws://127.0.0.1:1/")

async def aiosmtplib():
    import aiosmtplib
    await aiosmtplib.SMTP(hostname="127.0.0.1", port=1).connect()
"""

LIBRARIES = ("anyio", "httpx", "aiohttp", "asyncpg", "redis", "websockets", "aiosmtplib")

CAPITALS = """
import asyncio
from functools import partial
from twisted.python import usage
from evserve.aio import TaskService
from evserve.options import port_number

class Options(usage.Options):
    optParameters = [["port", None, 0, "Port", port_number]]

async def answer(reader, writer):
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()

async def serve(port):
    async with await asyncio.start_server(answer, "127.0.0.1", port) as server:
        print("open at", server.sockets[0].getsockname()[1])
        try:
            await server.serve_forever()
        finally:
            await asyncio.sleep(0.01)
            print("closed")

def makeService(options, host):
    return TaskService(host, partial(serve, options["port"]))
"""


class AsyncioTestCase(TestCase):
    def setUp(self):
        on_default_reactor(self)
        self.folder = Path(self.mktemp()).absolute()
        plugins = self.folder / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "test_asyncio.py").write_text(PLUGINS)
        (self.folder / "handlers.py").write_text(HANDLERS)
        (self.folder / "capitals.py").write_text(CAPITALS)

    async def start(self, *words, reactor=None, wanted=" serves "):
        """Start a service on a reactor, by default that of evserve."""
        options = () if reactor is None else (f"--reactor={reactor}",)
        words = (TWISTD, *options, "-n", "evserve", *words)
        child = run_python(self, *words, folder=self.folder)
        await child.until(lambda: wanted.encode() in child.err)
        return child


class HandlerTests(AsyncioTestCase):
    async def setUp(self):
        from twisted.internet import reactor

        super().setUp()
        server = spawn(self, "queue", "--port", free_port(), folder=self.folder)
        self.url = f"beanstalk://{await server.listening()}"
        self.queue = open_queue(self.url, reactor)
        self.addCleanup(self.queue.close)

    def work(self, *words, **rest):
        """Start the worker; the words are options of the host."""
        return self.start(*words, "work", "--queue", self.url, **rest)

    async def test_they_await_both_on_a_reactor_with_a_loop(self):
        for name in (None, "asyncio"):
            for debug in ("", "1"):
                with patch.dict(os.environ, {"PYTHONASYNCIODEBUG": debug}):
                    child = await self.work(reactor=name)
                await self.queue.put("both", b"")
                await child.until(lambda child=child: b"awaited both" in child.err)
                self.assertEqual(await child.stop(), 0)
                self.assertNotIn(b"Traceback", child.err)

    async def test_on_another_reactor_those_that_await_asyncio_are_buried_at_once(self):
        for name in ("epoll", "select", "poll"):
            child = await self.work(reactor=name)
            await self.queue.put("deferreds", b"")
            await child.until(lambda child=child: b"awaited Deferreds" in child.err)
            await self.queue.put("both", b"")
            self.assertRegex(
                await self.reason(),
                "^NoAsyncioLoop: .*: this handler needs asyncio, and .*Reactor has no loop of it "
                r"\(start twistd without --reactor, or with --reactor=asyncio\)$",
            )
            self.assertEqual(await child.stop(), 0)

    async def test_whatever_library_it_is(self):
        await self.work(reactor="select")
        for library in LIBRARIES:
            if find_spec(library) is not None:
                await self.queue.put("library", library.encode())
                self.assertIn("NoAsyncioLoop", await self.reason())

    async def reason(self):
        """Return why an event was buried, when one is."""
        record = await self.queue.reserve([ERRORS])
        await self.queue.ack(record)
        return json.loads(record.body)["reason"]

    async def test_those_that_outlast_the_drain_are_cancelled_and_their_events_come_back(self):
        child = await self.work("--drain", "0.1")
        kinds = ("wait.deferred", "wait.asyncio")
        for kind in kinds:
            await self.queue.put(kind, b"")
            await child.until(lambda kind=kind: f"begin {kind}".encode() in child.err)
        self.assertEqual(await child.stop(), 1)
        after = child.err.decode().partition("SIGTERM: stopping\n")[2]
        said = [line.split(" ", 2)[2] for line in after.splitlines()]
        self.assertEqual(
            sorted(said),
            [
                "end wait.asyncio",
                "end wait.deferred",
                "still draining after 0.1 seconds: aborted 2 handlers",
            ],
        )
        for kind in kinds:
            self.assertEqual(await self.queue.depth(kind), Depth(ready=1))


class TaskServiceTests(AsyncioTestCase):
    async def port(self, child):
        return (await child.until(lambda: re.search(rb"open at (\d+)\n", child.err)))[1].decode()

    async def test_a_server_of_asyncio_runs_beside_others(self):
        from twisted.internet import reactor

        config = self.folder / "evserve.toml"
        config.write_text("[services.capitals]\n[services.echo]\nport = 0\n")
        child = await self.start("--config", config)
        for address, answer in (
            (f"127.0.0.1:{await self.port(child)}", b"HELLO\n"),
            (await child.listening(), b"hello\n"),
        ):
            endpoint = clientFromString(reactor, f"tcp:{address}")
            client = await connectProtocol(endpoint, StreamClient())
            self.addCleanup(client.hang_up)
            client.transport.write(b"hello\n")
            self.assertEqual(await client.receive(6), answer)
        self.assertEqual(await child.stop(), 0)
        self.assertIn(b"closed", child.err)

    async def test_a_port_in_use_is_one_line(self):
        child = await self.start("capitals")
        port = await self.port(child)
        second = await self.start("capitals", "--port", port, wanted="evserve: capitals: ")
        self.assertEqual(await second.ended, 1)
        self.assertRegex(second.err, rb"evserve: capitals: OSError: .* address already in use")
        self.assertNotIn(b"Traceback", second.err)

    async def test_a_reactor_without_a_loop_is_one_line(self):
        child = await self.start("capitals", reactor="select", wanted="--reactor=asyncio)")
        self.assertEqual(await child.ended, 1)
        self.assertEqual(
            child.err.decode(),
            "evserve: capitals: a coroutine needs asyncio, and SelectReactor has no loop of it "
            "(start twistd without --reactor, or with --reactor=asyncio)\n",
        )
