"""docs/architecture.md: one unit of work of each kind goes the way that the page lists."""

import itertools
import json
import os
import re
import shutil
import signal
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.documents import ROOT
from tests.integration.fetch_server import WebSite
from tests.integration.processes import TWISTD, address_of, run_python
from tests.integration.stream_client import StreamClient


ITEM = re.compile(r"^\d+\. `(\S+\.py): (\S+)`", re.MULTILINE)

# A plugin file that records the functions of evserve that are called between two SIGUSR2.
RECORDER = """
import json
import os
import signal
import sys
import threading

import evserve

HERE = os.path.dirname(evserve.__file__) + os.sep
calls = None


def profile(frame, event, argument):
    code = frame.f_code
    if event == "call" and calls is not None and code.co_filename.startswith(HERE):
        calls.setdefault((code.co_filename[len(HERE):], code.co_qualname))


def toggle():
    global calls
    if calls is None:
        print("recording", file=sys.stderr, flush=True)
        calls = {}
    else:
        found, calls = list(calls), None
        print("recorded", json.dumps(found), file=sys.stderr, flush=True)


def ask_reactor(*_):
    from twisted.internet import reactor

    reactor.callFromThread(toggle)


signal.signal(signal.SIGUSR2, ask_reactor)
threading.setprofile(profile)
sys.setprofile(profile)
"""

HANDLER_PLUGIN = """
from evserve.plugin import Handler
handler = Handler("way", "way.handle")
"""
APPLICATION = """
async def app(scope, receive, send):
    length = b"content-length", b"5"
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": b"hello"})
"""
HANDLER = "async def handle(event):\n    pass\n"


def listed(title):
    """Return the (file, function) pairs that the page lists below `title`."""
    page = ROOT.joinpath("docs", "architecture.md").read_text(encoding="utf-8")
    section = page.partition(f"\n### {title}\n")[2].partition("\n#")[0]
    return [tuple(pair) for pair in ITEM.findall(section)]


class Asking(StreamClient):
    """A client of a queue that asks one thing after another."""

    async def ask(self, command, *ends):
        """Send a command and return what comes back, up to the first of `ends`."""
        self.got = b""
        self.transport.write(command)
        while not self.got.endswith(ends or b"\r\n"):
            await self.receive(len(self.got) + 1)
        return self.got


class NameTests(SynchronousTestCase):
    def test_every_name_on_the_page_is_in_its_file(self):
        page = ROOT.joinpath("docs", "architecture.md").read_text(encoding="utf-8")
        for file, name in re.findall(r"`(\S+\.py): (\w+)", page):
            text = ROOT.joinpath("evserve", file).read_text(encoding="utf-8")
            defined = rf"^(class |def |async def )?{name}\b"
            self.assertTrue(re.search(defined, text, re.MULTILINE), f"{file}: {name}")
        for file in re.findall(r"`((?:evserve|tests|examples)/\S+?/?)`", page):
            self.assertTrue(ROOT.joinpath(file).exists(), file)


class WayTests(TestCase):
    """Each way is recorded in a server process, as a user starts it."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        plugins = self.folder / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        plugins.joinpath("recorder_plugin.py").write_text(RECORDER)
        plugins.joinpath("way_plugin.py").write_text(HANDLER_PLUGIN)
        self.folder.joinpath("way.py").write_text(HANDLER)

    def start(self, *words, reactor="epoll"):
        command = (TWISTD, f"--reactor={reactor}", "-n", "evserve", *words)
        return run_python(self, *command, folder=self.folder)

    async def connect(self, address):
        from twisted.internet import reactor
        from twisted.internet.endpoints import clientFromString, connectProtocol

        client = Asking()
        await connectProtocol(clientFromString(reactor, f"tcp:{address}"), client)
        self.addCleanup(client.hang_up)
        return client

    async def record(self, child, unit):
        """Return the functions called during `unit()`, in the order of their first calls."""
        read = len(child.err)
        os.kill(child.transport.pid, signal.SIGUSR2)
        await child.until(lambda: b"recording\n" in child.err[read:])
        await unit()
        os.kill(child.transport.pid, signal.SIGUSR2)
        found = await child.until(lambda: re.search(rb"recorded (.*)\n", child.err[read:]))
        return [tuple(pair) for pair in json.loads(found[1])]

    async def follow(self, title, child, unit):
        """Check that the page lists the files of a unit's way, and functions in their order.

        A unit's last steps may come too late to be recorded, so units are recorded until one has
        all that is listed. Other work, such as a timer's, may come between: a file that is not
        listed must be missing in one of the records.
        """
        way = listed(title)
        files = {file for file, _ in way}
        unlisted, called = None, None
        for _ in range(20):
            calls = await self.record(child, unit)
            others = {file for file, _ in calls} - files
            unlisted = others if unlisted is None else unlisted & others
            if called != way:
                called = [call for call in calls if call in way]
            if called == way and not unlisted:
                break
        self.assertEqual(called, way, f"{title}: {calls}")
        self.assertEqual(unlisted, set(), f"{title}: {calls}")
        self.assertTrue(files)

    async def test_a_byte(self):
        child = self.start("echo", "--port", "0", "--transform", "upper")
        client = await self.connect(await address_of(child, "echo"))

        async def echo():
            client.transport.write(b"x")
            await client.receive(len(client.got) + 1)

        await echo()
        await self.follow("A byte through the echo service", child, echo)

    async def test_a_connection(self):
        child = self.start("--port", "0", "--max-connections", "9", "--idle-timeout", "900")
        address = await address_of(child, "echo")

        async def come_and_go():
            client = await self.connect(address)
            client.transport.loseWriteConnection()
            await client.closed

        await come_and_go()
        await self.follow("A connection", child, come_and_go)

    async def test_a_put(self):
        child = self.start("queue", "--port", "0", "--store", "queue.db")
        client = await self.connect(await address_of(child, "queue"))

        async def put():
            await client.ask(b"put 0 0 60 1\r\nx\r\n")

        await put()
        await self.follow("A put", child, put)

    async def test_a_handlers_event(self):
        address = await address_of(self.start("queue", "--port", "0"), "queue")
        words = ("work", "--queue", f"beanstalk://{address}", "--concurrency", "1")
        child = self.start(*words, reactor="asyncio")
        await child.until(lambda: b" serves " in child.err)
        client = await self.connect(address)
        await client.ask(b"use way\r\n")

        async def put():
            inserted = await client.ask(b"put 0 0 60 1\r\nx\r\n")
            peek = b"peek %b\r\n" % inserted.split()[1]
            while await client.ask(peek, b"\r\nx\r\n", b"NOT_FOUND\r\n") != b"NOT_FOUND\r\n":
                pass
            while b"current-waiting: 1" not in await client.ask(b"stats-tube way\r\n", b"\n\r\n"):
                pass  # the next reserve has come

        await put()
        await self.follow("An event through its handler", child, put)

    async def test_an_asgi_request(self):
        self.folder.joinpath("hello.py").write_text(APPLICATION)
        child = self.start("asgi", "hello:app", "--port", "0", reactor="asyncio")
        client = await self.connect(await address_of(child, "asgi"))

        async def get():
            read = len(child.err)
            await client.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"hello")
            await child.until(lambda: b'"GET /' in child.err[read:])

        await get()
        await self.follow("An ASGI request", child, get)

    async def test_a_url(self):
        site = WebSite(self)
        site.answers["/robots.txt"] = b"User-agent: *\nDisallow: /private"
        child = self.start("fetch", "-i", "-", "-o", "-")
        numbers = itertools.count()

        async def fetch():
            path = f"/{next(numbers)}"
            site.answers[path] = b"hello"
            child.transport.write(f"{site.url(path)}\n".encode())
            await child.shows(f'{path}"'.encode())

        await fetch()
        await self.follow("A URL through fetch", child, fetch)
