"""The service `web` with real sockets: answers, logs, drain."""

import json
import re
import sys

from twisted.internet.task import deferLater

from tests.integration.commands import CommandCase
from tests.integration.processes import TWISTD


LOOPBACK = "tcp:0:interface=127.0.0.1"
ADDRESS = re.compile(r"web: listening on tcp (\d[\d.:]+)")
LINE = re.compile(r'"127\.0\.0\.1" - - \[[^]]+\] "GET \S+ HTTP/1\.[01]" \d+ \S+ "-" "-"')

BIG = 30_000_000  # bytes: more than the kernel buffers

ROOT = f"""
import os
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

class Root(Resource):
    isLeaf = True

    def render_GET(self, request):
        if request.path == b"/big":
            return bytes({BIG})
        print("asked for", request.path.decode())
        answer(request)
        return NOT_DONE_YET

def answer(request):
    if os.path.exists("go"):
        request.write(b"answered")
        request.finish()
    else:
        reactor.callLater(0.01, answer, request)

def app(environ, start):
    start("200 OK", [("Content-Length", "4")])
    return [b"wsgi"]
"""


class Case(CommandCase):
    async def serving(self, *words, host=(), **how):
        """Start the service; return it and the endpoint of its port."""
        server = self.evserve(*host, "web", "--listen", LOOPBACK, *words, **how)
        await server.until(lambda: b" serves web " in server.err)
        return server, f"tcp:{ADDRESS.search(server.err.decode())[1]}"

    async def get(self, endpoint, path, *fields, method="GET"):
        """Return the head and the body of an answer; the connection is closed after it."""
        client = await self.connect(endpoint)
        lines = (f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *fields, "", "")
        client.transport.write("\r\n".join(lines).encode())
        head, _, body = (await client.closed).partition(b"\r\n\r\n")
        return head.decode(), body


class AnswerTests(Case):
    async def test_it_serves_what_twisted_serves(self):
        self.write("a.txt", "hello")
        self.write("sub/index.html", "index")
        self.write("r.rpy", "from twisted.web.static import Data\nresource = Data(b'rpy', 'a/b')")
        self.write("e.epy", "request.write(b'epy')")
        self.write("c.cgi", "#!/bin/sh\nprintf 'Content-Type: a/b\\r\\n\\r\\ncgi'\n").chmod(0o755)
        paths = ("/r.rpy", "/e.epy", "/c.cgi", "/a.txt", "/sub/", "/sub", "/", "/none")
        answers = []
        for words in ((), ("--stock-http",)):
            server, endpoint = await self.serving("--path", ".", *words)
            got = [await self.get(endpoint, path) for path in paths]
            answers.append([(re.sub(r"Date: .*\r\n", "", head), body) for head, body in got])
            self.assertEqual(await server.stop(), 0, server.err)
        self.assertEqual(*answers)
        for (_, body), text in zip(answers[0], (b"rpy", b"epy", b"cgi", b"hello"), strict=False):
            self.assertIn(text, body)

    async def test_other_roots(self):
        self.write("root.py", ROOT)
        self.write(
            "r.rpy",
            "from twisted.web.static import Data\nresource = Data(b'', 'a/b')\n"
            "resource.putChild(b'', Data(b'rpy', 'a/b'))\n",
        )
        self.write("go", "")
        for words, text in (
            (("--class", "root.Root"), b"answered"),
            (("--wsgi", "root.app"), b"wsgi"),
            (("--resource-script", "r.rpy"), b"rpy"),
        ):
            server, endpoint = await self.serving(*words, env={"PYTHONPATH": str(self.folder)})
            self.assertIn(text, (await self.get(endpoint, "/"))[1])
            self.assertEqual(await server.stop(), 0, server.err)

    async def test_a_personal_server_is_there(self):
        server, endpoint = await self.serving("--personal", "--path", ".")
        client = await self.connect(endpoint)
        await client.receive(1)  # PB speaks first
        self.assertEqual(await server.stop(), 0, server.err)

    async def test_a_table_takes_the_option_too(self):
        self.write("a.txt", "hello")
        for value in ("true", "false"):
            self.write("c.toml", f'[services.web]\nlisten = "{LOOPBACK}"\npath = "."\n'
                f"stock-http = {value}\n")  # fmt: skip
            server = self.evserve("--config", "c.toml")
            await server.until(lambda server=server: b" serves web " in server.err)
            endpoint = f"tcp:{ADDRESS.search(server.err.decode())[1]}"
            self.assertEqual((await self.get(endpoint, "/a.txt"))[1], b"hello")
            self.assertEqual(await server.stop(), 0, server.err)

    async def test_twistd_has_its_own_web(self):
        shown = self.run_command(sys.executable, str(TWISTD), "--help")
        await shown.ended
        self.assertEqual(re.findall(rb"(?m)^ +web +(\S+)", shown.out), [b"A"])
        own = self.run_command(sys.executable, str(TWISTD), "web", "--help")
        await own.ended
        self.assertNotIn(b"stock-http", own.out)
        listed = self.evserve("services")
        await listed.ended
        self.assertEqual(len(re.findall(rb"(?m)^web ", listed.out)), 1)
        self.assertNotIn(b"taken by", listed.out)


class LogTests(Case):
    """Each line is where and how it was."""

    async def logged(self, *words, host=()):
        """Return what is on standard error after some requests and the end."""
        self.write("a.txt", "hello")
        server, endpoint = await self.serving("--path", ".", *words, host=host)
        for number in range(3):
            await self.get(endpoint, f"/a.txt?{number}")
        self.assertEqual(await server.stop(), 0, server.err)
        return server.err.decode()

    def check(self, lines):
        self.assertEqual(re.findall(r"GET (\S+) HTTP", "\n".join(lines)), [
            "/a.txt?0", "/a.txt?1", "/a.txt?2",
        ])  # fmt: skip
        for line in lines:
            self.assertRegex(line, LINE)

    async def test_on_standard_error(self):
        for words in ((), ("--stock-http",)):
            err = await self.logged(*words)
            lines = [line for line in err.splitlines() if '"GET' in line]
            self.check([re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", line) for line in lines])
            self.assertTrue(all(line.startswith("2") for line in lines), err)

    async def test_as_json(self):
        for words in ((), ("--stock-http",)):
            err = await self.logged(*words, host=("--log-format", "json"))
            events = [json.loads(line) for line in err.splitlines() if '\\"GET' in line]
            self.check([event["message"] for event in events])
            self.assertEqual({event["log_namespace"] for event in events}, {"twisted.python.log"})

    async def test_in_a_file_of_its_own(self):
        for words in ((), ("--stock-http",)):
            path = self.folder / f"access{len(words)}.log"
            self.assertNotIn("GET", await self.logged("--logfile", path.name, *words))
            self.check(path.read_text().splitlines())

    async def test_in_the_log_file_of_twistd(self):
        from twisted.internet import reactor

        self.write("a.txt", "hello")
        server = self.run_command(
            *(sys.executable, str(TWISTD), "-n", "--logfile", "t.log", "evserve"),
            *("web", "--listen", LOOPBACK, "--path", "."),
        )
        log = self.folder / "t.log"
        while not (log.exists() and " serves web " in log.read_text()):
            await deferLater(reactor, 0.01)
        port = ADDRESS.search(log.read_text())
        for number in range(3):
            await self.get(f"tcp:{port[1]}", f"/a.txt?{number}")
        self.assertEqual(await server.stop(), 0, server.err)
        lines = [line for line in log.read_text().splitlines() if '"GET' in line]
        self.check([line.partition(" [twisted.python.log#info] ")[2] for line in lines])


class DrainTests(Case):
    async def ways(self):
        """Yield a draining server, twice: with the fast channel and with Twisted's."""
        self.write("root.py", ROOT)
        env = {"PYTHONPATH": str(self.folder)}
        for words in ((), ("--stock-http",)):
            yield await self.serving(
                *("--class", "root.Root", *words), host=("--drain", "100"), env=env
            )

    async def stopping(self, server):
        ended = server.stop()
        await server.until(lambda: b"SIGTERM: stopping" in server.err)
        return ended

    async def test_an_answer_that_is_owed_is_given(self):
        async for server, endpoint in self.ways():
            (self.folder / "go").unlink(missing_ok=True)
            client, idle = await self.connect(endpoint), await self.connect(endpoint)
            client.transport.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            await server.until(lambda server=server: b"asked for /slow" in server.err)
            ended = await self.stopping(server)
            await idle.closed
            self.write("go", "")
            self.assertIn(b"answered", await client.closed)
            self.assertEqual(await ended, 0, server.err)

    async def test_a_slow_reader_gets_all_of_a_large_answer(self):
        async for server, endpoint in self.ways():
            client = await self.connect(endpoint)
            client.transport.write(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.receive(1)
            client.transport.pauseProducing()
            ended = await self.stopping(server)
            client.transport.resumeProducing()
            body = (await client.closed).partition(b"\r\n\r\n")[2]
            self.assertEqual((len(body), await ended), (BIG, 0), server.err)

    async def test_a_client_that_waits_for_its_answer_is_not_idle(self):
        self.write("root.py", ROOT)
        server, endpoint = await self.serving(
            *("--class", "root.Root", "--idle-timeout", "0.2"),
            env={"PYTHONPATH": str(self.folder)},
        )
        client, idle = await self.connect(endpoint), await self.connect(endpoint)
        client.transport.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await server.until(lambda: b"asked for /slow" in server.err)
        await idle.closed
        self.assertFalse(client.closed.called)
        self.write("go", "")
        self.assertIn(b"answered", await client.closed)  # and then it is idle
        self.assertEqual(await server.stop(), 0, server.err)
