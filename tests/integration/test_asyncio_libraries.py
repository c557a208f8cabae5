"""Handlers that await libraries of asyncio, in a worker process, on servers on loopback."""

import json
import shutil
from pathlib import Path

from twisted.internet.defer import gatherResults
from twisted.trial.unittest import SkipTest, TestCase

from evserve.events import ERRORS, Depth, open_queue
from tests.integration import asyncio_handlers
from tests.integration.asyncio_servers import (
    HTTPServer,
    LoopThread,
    MailServer,
    PostgresDatabase,
    RedisServer,
    TCPServer,
    WebSocketServer,
)
from tests.integration.processes import TWISTD, run_python
from tests.integration.queue_server import QueueServer


SERVERS = {
    "asyncio_timeout": TCPServer,
    "asyncio_task_group": TCPServer,
    "asyncio_gather": TCPServer,
    "asyncio_to_thread": TCPServer,
    "asyncio_subprocess": TCPServer,
    "anyio_task_group": TCPServer,
    "httpx_client": HTTPServer,
    "shared_httpx_client": HTTPServer,
    "aiohttp_session": HTTPServer,
    "shared_aiohttp_session": HTTPServer,
    "aiosmtplib_client": MailServer,
    "websockets_client": WebSocketServer,
    "asyncpg_connection": PostgresDatabase,
    "shared_asyncpg_pool": PostgresDatabase,
    "psycopg_connection": PostgresDatabase,
    "redis_client": RedisServer,
    "shared_redis_pool": RedisServer,
}

TIMEOUTS = (1, 4, 16, 64)
"""Seconds; a busy machine may need a longer one before all questions have been received."""


class LibrariesTestCase(TestCase):
    """Each test runs one worker, which runs all handlers at once."""

    def setUp(self):
        from twisted.internet import reactor

        self.folder = Path(self.mktemp()).absolute()
        plugins = self.folder / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "asyncio_plugin.py").write_text("".join(plugin_lines()))
        shutil.copy(asyncio_handlers.__file__, self.folder / "handlers.py")
        self.servers, self.missing = {}, {}
        thread = LoopThread(self)
        for name, kind in SERVERS.items():
            try:
                self.servers[name] = kind(self, thread)
            except SkipTest as reason:
                self.missing.setdefault(str(reason), []).append(name)
        self.url = f"beanstalk://127.0.0.1:{QueueServer(self).port}"
        self.queue = open_queue(self.url, reactor)
        self.addCleanup(self.queue.close)

    def skip_missing(self):
        """Skip what could not be tested, once the others have passed."""
        if self.missing:
            reasons = (f"{', '.join(names)}: {why}" for why, names in self.missing.items())
            raise SkipTest("; ".join(reasons))

    async def work(self, reactor, drain="200"):
        words = (f"--reactor={reactor}", "-n", "evserve", "--drain", drain, "work")
        options = ("--queue", self.url, "--keep", "1h", "--concurrency", "64")
        child = run_python(self, TWISTD, *words, *options, folder=self.folder)
        await child.until(lambda: b" serves work" in child.err)
        return child

    def hold(self):
        for server in self.servers.values():
            server.hold()

    def answer(self):
        for server in self.servers.values():
            server.answer()

    async def put(self, names, suffix=""):
        """Put an event for each of these handlers."""
        puts = (
            self.queue.put(f"{name}{suffix}", self.servers[name].address.encode())
            for name in names
        )
        await gatherResults([*puts])

    async def asked(self):
        """Wait until all servers have received a question, and no handler has failed."""
        while not all(server.waiting for server in self.servers.values()):
            self.assertEqual(await self.queue.depth(ERRORS), Depth())

    async def handled(self, suffix="", count=1):
        """Wait until `count` events of each handler were handled; return them by the handler."""
        found = {}
        for name in self.servers:
            while len(found.get(name, ())) < count:
                found[name] = await self.queue.history(f"{name}{suffix}")
        return found

    async def results(self, count):
        """Return what each handler has returned, if that was the same `count` times."""
        handled = await self.handled(count=count)
        return {name: {each.result or each.error for each in handled[name]} for name in handled}

    async def depths(self):
        return {name: await self.queue.depth(name) for name in self.servers}

    def of_all(self, value):
        return dict.fromkeys(self.servers, value)


class Libraries:
    """What holds on each reactor that has a loop of asyncio's."""

    async def test_handlers_return_what_the_library_returned_and_end_within_the_drain(self):
        worker = await self.work(self.reactor)
        self.answer()
        await self.put(self.servers)
        self.assertEqual(await self.results(1), self.of_all({b"answer"}))
        self.hold()
        await self.put(self.servers)
        await self.asked()
        ended = worker.stop()
        await worker.until(lambda: b"SIGTERM: stopping" in worker.err)
        self.answer()
        self.assertEqual(await ended, 0)
        self.assertEqual(await self.results(2), self.of_all({b"answer"}))
        self.assertEqual(await self.depths(), self.of_all(Depth()))
        self.skip_missing()

    async def test_the_time_out_cancels_what_a_library_waits_for_and_the_next_event_works(self):
        worker = await self.work(self.reactor)
        self.hold()
        left = set(self.servers)
        for seconds in TIMEOUTS:
            await self.put(left, f".{seconds}")
            asked = set()
            while asked != left and not (await self.queue.depth(ERRORS)).ready:
                asked |= {name for name in left if self.servers[name].waiting}
            for _ in left:
                record = await self.queue.reserve([ERRORS])
                await self.queue.ack(record)
                reason = json.loads(record.body)["reason"]
                self.assertEqual(reason, f"HandlerTimeout: not done after {seconds} seconds")
            left -= asked
            if not left:
                break
        self.assertEqual(left, set())
        for name, server in self.servers.items():
            await worker.until(lambda name=name: said_that_it_was_cancelled(worker, name))
            while server.waiting or (server.clients and not name.startswith("shared_")):
                await self.queue.depth(name)
        self.answer()
        await self.put(self.servers)
        self.assertEqual(await self.results(1), self.of_all({b"answer"}))
        self.assertEqual(await worker.stop(), 0)
        self.skip_missing()

    async def test_the_end_of_the_drain_cancels_them_and_their_events_are_ready_again(self):
        worker = await self.work(self.reactor, drain="0.2")
        self.hold()
        await self.put(self.servers)
        await self.asked()
        self.assertEqual(await worker.stop(), 1)
        for name in self.servers:
            self.assertTrue(said_that_it_was_cancelled(worker, name), name)
        self.assertEqual(await self.depths(), self.of_all(Depth(ready=1)))
        self.assertNotIn(b"Traceback", worker.err)
        self.skip_missing()


class UvloopTests(Libraries, LibrariesTestCase):
    reactor = "uvloop"


class AsyncioTests(Libraries, LibrariesTestCase):
    reactor = "asyncio"


class EpollTests(LibrariesTestCase):
    async def test_on_a_reactor_without_a_loop_they_are_buried_with_a_reason_that_helps(self):
        worker = await self.work("epoll")
        self.answer()
        await self.put(self.servers, ".attempts")
        for name, (found,) in (await self.handled(".attempts")).items():
            self.assertEqual((found.outcome, found.event.attempts), ("buried", 1), name)
            self.assertRegex(found.error, "^NoAsyncioLoop: .* needs asyncio, .* --reactor=asyncio")
        self.assertEqual(await worker.stop(), 0)
        self.skip_missing()


def plugin_lines():
    yield "from evserve.plugin import Handler\n"
    kinds = {"": "max_attempts=1", ".attempts": "max_attempts=5"}
    kinds |= {f".{seconds}": f"max_attempts=1, timeout={seconds}" for seconds in TIMEOUTS}
    for name in SERVERS:
        for suffix, options in kinds.items():
            variable = (name + suffix).replace(".", "_")
            yield f'{variable} = Handler("{name}{suffix}", "handlers.{name}", {options})\n'


def said_that_it_was_cancelled(worker, name):
    return f"{name} was cancelled in Task".encode() in worker.err
