"""The service `asgi` with real sockets and processes."""

import contextlib
import json
import os
import re
import shutil
import signal

from twisted.internet.endpoints import clientFromString, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectError
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from tests.certificates import make_certificates
from tests.integration import asgi_site
from tests.integration.asgi_site import BIG
from tests.integration.commands import EVSERVE, CommandCase
from tests.integration.processes import address_of, on_default_reactor
from tests.integration.stream_client import StreamClient
from tests.integration.test_workers import WORKERS, pids


LOOPBACK = "tcp:0:interface=127.0.0.1"
ADDRESS = re.compile(r"site: listening on \w+ (\S+)")
TABLE = """
[services.site]
plugin = "asgi"
app = "asgi_site:app"
listen = "{listen}"
"""


class Websocket(StreamClient):
    """A client of a websocket, on a connection."""

    def __init__(self, path="/ws"):
        super().__init__()
        self._protocol = ClientProtocol(parse_uri(f"ws://localhost{path}"))
        self._waiting, self._events = [], []

    def connectionMade(self):
        self._protocol.send_request(self._protocol.connect())
        self._send()

    def _send(self):
        self.transport.writeSequence(self._protocol.data_to_send())

    def dataReceived(self, data):
        self._protocol.receive_data(data)
        self._events += self._protocol.events_received()
        self._send()
        super().dataReceived(data)

    async def event(self):
        """Return the next event: the response of the server, then frames."""
        while not self._events:
            await self.receive(len(self.got) + 1)
        return self._events.pop(0)

    async def ask(self, text):
        self._protocol.send_text(text.encode())
        self._send()
        return (await self.event()).data.decode()

    @property
    def close_code(self):
        return self._protocol.close_rcvd.code


class Case(CommandCase):
    def setUp(self):
        super().setUp()
        on_default_reactor(self)
        shutil.copy(asgi_site.__file__, self.folder)

    async def serving(self, *words, host=(), listen=LOOPBACK, **how):
        """Start the service as `site`; return it and the endpoint of its port."""
        server = self.starting(*words, host=host, listen=listen, **how)
        await server.until(lambda: b"Application startup complete" in server.err)
        return server, self.endpoint(server)

    def starting(self, *words, host=(), listen=LOOPBACK, **how):
        table = TABLE.format(listen=listen) + "\n".join(words)
        self.write("evserve.toml", table)
        return self.evserve("--config", "evserve.toml", *host, **how)

    @staticmethod
    def endpoint(server):
        return f"tcp:{ADDRESS.search(server.err.decode())[1]}"

    async def get(self, endpoint, path, *fields, method="GET", body=b""):
        """Return the head and the body of an answer; the connection is closed after it."""
        client = await self.connect(endpoint)
        lines = (
            f"{method} {path} HTTP/1.1",
            "Host: localhost",
            "Connection: close",
            *fields,
            "",
            "",
        )
        client.transport.write("\r\n".join(lines).encode() + body)
        head, _, body = (await client.closed).partition(b"\r\n\r\n")
        return head.decode(), body

    async def ask(self, endpoint, path):
        """Send a request on a connection that stays open; return the client."""
        client = await self.connect(endpoint)
        client.transport.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return client

    async def websocket(self, endpoint):
        from twisted.internet import reactor

        client = Websocket()
        await connectProtocol(clientFromString(reactor, endpoint), client)
        self.addCleanup(client.hang_up)
        self.assertEqual((await client.event()).status_code, 101)
        return client

    async def stopping(self, server):
        ended = server.stop()
        await server.until(lambda: b"SIGTERM: stopping" in server.err)
        return ended

    async def check_end(self, server, status=0):
        self.assertEqual(await server.stop(), status, server.err.decode())
        self.assertNotIn(b"Traceback", server.err, server.err.decode())


class AnswerTests(Case):
    async def test_requests_on_one_connection(self):
        server, endpoint = await self.serving()
        client = await self.ask(endpoint, "/hello")
        await client.receive(1)
        for count in (2, 3):
            client.transport.write(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
            while client.got.count(b"\r\n\r\nhello") < count:
                await client.receive(len(client.got) + 1)
        self.assertRegex(client.got, rb"date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n")
        self.assertNotIn(b"server:", client.got)
        await self.check_end(server)

    async def test_pipelined_requests_are_answered_in_their_order(self):
        server, endpoint = await self.serving()
        client = await self.connect(endpoint)
        client.transport.write(
            b"GET /kinds HTTP/1.1\r\nHost: x\r\n\r\n"
            b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        got = await client.closed
        self.assertLess(got.index(b"onetwosix"), got.index(b"hello"))
        await self.check_end(server)

    async def test_large_bodies_in_both_directions(self):
        server, endpoint = await self.serving()
        _, body = await self.get(endpoint, "/big")
        self.assertEqual(len(body), BIG)
        head = f"Content-Length: {BIG}"
        _, body = await self.get(endpoint, "/upload", head, method="POST", body=bytes(BIG))
        size, largest = map(int, body.split())
        self.assertEqual(size, BIG)
        self.assertLess(largest, 2_000_000)  # it is not gathered
        await self.check_end(server)

    async def test_a_client_that_leaves_is_a_disconnect(self):
        server, endpoint = await self.serving()
        for leave in ("abortConnection", "loseWriteConnection"):
            client = await self.ask(endpoint, "/leave")
            await server.until(lambda: b"waiting" in server.err)
            getattr(client.transport, leave)()
            await server.until(lambda: b"http.disconnect" in server.err)
            server.err = server.err.replace(b"waiting", b"").replace(b"http.disconnect", b"")
        await self.check_end(server)

    async def test_a_websocket(self):
        server, endpoint = await self.serving()
        client = await self.websocket(endpoint)
        self.assertEqual(await client.ask("hello"), "HELLO")
        self.assertEqual(await client.ask("x" * 100_000), "X" * 100_000)
        await self.check_end(server)

    async def test_a_failing_application_is_a_500_and_a_traceback_in_the_log(self):
        server, endpoint = await self.serving()
        head, _ = await self.get(endpoint, "/fail")
        self.assertTrue(head.startswith("HTTP/1.1 500 "), head)
        self.assertEqual(await server.stop(), 0)
        self.assertIn(b"Exception in ASGI application", server.err)
        self.assertIn(b"LookupError: of the test", server.err)

    async def test_the_access_log(self):
        server, endpoint = await self.serving()
        await self.get(endpoint, "/hello?a=b")
        await self.check_end(server)
        line = r'\d 127\.0\.0\.1:\d+ "GET /hello\?a=b HTTP/1\.1" 200\n'
        self.assertRegex(server.err.decode(), line)
        server, endpoint = await self.serving("no-access-log = true")
        await self.get(endpoint, "/hello?a=b")
        await self.check_end(server)
        self.assertNotRegex(server.err.decode(), "GET /hello")


class StartTests(Case):
    async def test_requests_wait_until_the_application_has_started(self):
        server = self.starting(env={"WAIT_FOR": "begin"}, host=("--admin", LOOPBACK))
        await server.until(lambda: b"told to start" in server.err and b" serves " in server.err)
        client = await self.ask(self.endpoint(server), "/show")
        admin = await address_of(server, "admin")
        head, body = await self.get(f"tcp:{admin}", "/readyz")
        self.assertEqual((head[9:12], body), ("503", b"site: asgi_site:app is starting\n"))
        self.assertEqual(client.got, b"")
        self.write("begin", "")
        await client.receive(1)
        self.assertIn(b'"made": "at the start"', client.got)
        self.assertEqual((await self.get(f"tcp:{admin}", "/readyz"))[0][9:12], "200")
        await self.check_end(server)
        self.assertIn(b"told to end", server.err)

    async def test_a_lifespan_that_is_off(self):
        server = self.starting('lifespan = "off"')
        await server.until(lambda: b" serves " in server.err)
        self.assertEqual((await self.get(self.endpoint(server), "/hello"))[1], b"hello")
        await self.check_end(server)
        self.assertNotIn(b"told", server.err)

    async def test_an_application_that_fails_to_start(self):
        self.write("bad.py", BAD)
        for app, line, words in (
            ("bad:reports", "LookupError: no database", ()),
            ("bad:raises", "LookupError: no database", ("--lifespan", "on")),
        ):
            server = self.evserve("asgi", app, "--listen", LOOPBACK, *words)
            self.assertEqual(await server.ended, 1)
            self.assertIn(f"evserve: asgi: {app} failed to start: {line}\n", server.err.decode())

    async def test_an_application_that_does_not_know_lifespan(self):
        self.write("bad.py", BAD)
        server = self.evserve("asgi", "bad:raises", "--listen", LOOPBACK)
        await server.until(
            lambda: b"appears unsupported" in server.err and b" serves " in server.err
        )
        await self.check_end(server)

    async def test_an_application_that_fails_to_end(self):
        self.write("bad.py", BAD)
        server = self.evserve("asgi", "bad:fails_to_end", "--listen", LOOPBACK)
        await server.until(lambda: b"startup complete" in server.err)
        self.assertEqual(await server.stop(), 1)
        self.assertIn(b"evserve: asgi: bad:fails_to_end failed to end: not flushed\n", server.err)

    async def test_mistakes_are_one_line(self):
        self.write("bad.py", "app = 1\ndef made():\n    return 1\ndef wsgi(environ, start): ...\n")
        self.write("broken.py", "x = 1\nraise LookupError('no settings')\n")
        self.write("wrong.py", "def f(:\n")
        self.write("needs.py", "import nowhere\n")
        for words, line in (
            ((), "asgi: say which application: MODULE:APPLICATION, such as main:app"),
            (("--app", "bad:app", "bad:made"), "two applications: bad:app and bad:made"),
            (("bad",), 'Import string "bad" must be in format "<module>:<attribute>".'),
            (("none:app",), 'Could not import module "none".'),
            (("bad:none",), 'Attribute "none" not found in module "bad".'),
            (("bad:app",), "bad:app is no application: it cannot be called"),
            (("bad:made", "--factory"), "bad:made is no application: it cannot be called"),
            (
                ("bad:wsgi",),
                WSGI_ERROR,
            ),
            (
                ("broken:app",),
                f"broken:app: LookupError: no settings ({self.folder}/broken.py, line 2)",
            ),
            (
                ("needs:app",),
                f"needs:app: {MISSING} ({self.folder}/needs.py, line 1)",
            ),
            (
                ("wrong:app",),
                f"wrong:app: SyntaxError: invalid syntax ({self.folder}/wrong.py, line 1)",
            ),
            (
                ("asgi_site:app", "--queue", "nonsense"),
                QUEUE_ERROR,
            ),
        ):
            await self.check_error(("asgi", *words), f"asgi: {line}" if words else line)

    async def test_another_user_may_not_put_modules_there(self):
        self.folder.chmod(0o777)
        await self.check_error(
            ("asgi", "asgi_site:app"),
            'asgi: Could not import module "asgi_site". Not looked for in the current folder: '
            f"{self.folder} is world-writable (fix: chmod o-w {self.folder})",
        )

    async def test_nothing_is_imported_from_here_if_the_user_says_so(self):
        await self.check_error(
            ("--no-cwd-plugins", "asgi", "asgi_site:app"),
            'asgi: Could not import module "asgi_site". Not looked for in the current folder: '
            "--no-cwd-plugins",
        )

    async def test_without_the_extra(self):
        self.write("without/uvicorn.py", "raise ModuleNotFoundError(name='uvicorn')")
        env = {"PYTHONPATH": str(self.folder / "without")}
        command = self.evserve("asgi", "asgi_site:app", env=env)
        self.assertEqual(await command.ended, 1)
        self.assertEqual(
            command.err, b"evserve: asgi: needs uvicorn (pip install 'evserve[asgi]')\n"
        )
        shown = self.evserve("asgi", "--help", env=env)
        self.assertEqual(await shown.ended, 0)

    async def test_a_reactor_without_asyncio(self):
        command = self.run_command(
            *EVSERVE[:2], "--reactor=epoll", *EVSERVE[2:], "asgi", "asgi_site:app"
        )
        self.assertEqual(await command.ended, 1)
        self.assertEqual(command.err.count(b"\n"), 1, command.err)
        self.assertIn(
            b"evserve: asgi: it needs asyncio, and EPollReactor has no loop", command.err
        )


class ListeningTests(Case):
    """What the host does for every service that listens."""

    async def test_a_unix_socket(self):
        server, _ = await self.serving(listen="unix:site.sock")
        _, body = await self.get(f"unix:{self.folder}/site.sock", "/show")
        shown = json.loads(body)
        self.assertEqual((shown["client"], shown["server"][1]), (None, None))
        self.assertTrue(shown["server"][0].endswith("site.sock"), shown)
        await self.check_end(server)

    async def test_tls(self):
        from twisted.internet import reactor

        certificates = make_certificates()
        self.write("server.pem", certificates.server_pem.decode())
        server, endpoint = await self.serving(
            listen=f"ssl:0:interface=127.0.0.1:privateKey={self.folder}/server.pem"
        )
        over = wrapClientTLS(certificates.client_options(), clientFromString(reactor, endpoint))
        for client, request in (
            (StreamClient(), b"GET /show HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            (StreamClient(), b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        ):
            await connectProtocol(over, client)
            client.transport.write(request)
            await client.closed
            body = client.got.partition(b"\r\n\r\n")[2]
            if len(body) != BIG:
                self.assertEqual(json.loads(body)["scheme"], "https")
        client = Websocket()
        await connectProtocol(over, client)
        self.assertEqual((await client.event()).status_code, 101)
        self.assertEqual(await client.ask("hello"), "HELLO")
        await self.check_end(server)

    async def test_the_client_that_a_proxy_names(self):
        server, endpoint = await self.serving(listen="haproxy:tcp:0:interface=127.0.0.1")
        client = await self.connect(endpoint)
        client.transport.write(
            b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n"
            b"GET /show HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        shown = json.loads((await client.closed).partition(b"\r\n\r\n")[2])
        self.assertEqual(
            (shown["client"], shown["server"]), (["192.0.2.7", 4711], ["192.0.2.1", 80])
        )
        await self.check_end(server)

    async def test_x_forwarded_for_is_believed_of_loopback_only(self):
        fields = ("X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: https")
        for words, client, scheme in (
            ((), ["192.0.2.9", 0], "https"),
            (('forwarded-allow-ips = "192.0.2.1"',), None, "http"),
        ):
            server, endpoint = await self.serving(*words, 'root-path = "/below"')
            shown = json.loads((await self.get(endpoint, "/show", *fields))[1])
            if client is None:
                self.assertEqual(shown["client"][0], "127.0.0.1")
            else:
                self.assertEqual(shown["client"], client)
            self.assertEqual((shown["scheme"], shown["root_path"]), (scheme, "/below"))
            await self.check_end(server)

    async def test_limits(self):
        server, endpoint = await self.serving("max-connections = 1")
        first = await self.ask(endpoint, "/hello")
        await first.receive(1)
        with contextlib.suppress(ConnectError):  # it may be closed so soon
            second = await self.connect(endpoint)
            self.assertEqual(await second.closed, b"")
        await self.check_end(server)

    async def test_a_request_that_is_being_answered_is_not_idle(self):
        server, endpoint = await self.serving("idle-timeout = 0.2")
        client, idle = await self.ask(endpoint, "/wait"), await self.connect(endpoint)
        await server.until(lambda: b"waiting" in server.err)
        await idle.closed
        self.assertFalse(client.closed.called)
        self.write("go", "")
        self.assertIn(b"waited", await client.closed)
        await self.check_end(server)

    async def test_workers(self):
        server, endpoint = await self.serving(host=("--workers", "2"))
        await server.until(lambda: WORKERS.search(server.err))
        seen = set()
        while len(seen) < 2:
            seen.add(int((await self.get(endpoint, "/pid"))[1]))
        self.assertEqual(seen, set(pids(server).values()))
        os.kill(pids(server)[1], signal.SIGKILL)
        await server.until(lambda: b"worker 1 serves (process" in server.err)
        while pids(server)[1] not in seen:
            seen.add(int((await self.get(endpoint, "/pid"))[1]))
        await self.check_end(server)

    async def test_metrics(self):
        server, endpoint = await self.serving(host=("--admin", LOOPBACK))
        await self.get(endpoint, "/hello")
        websocket = await self.websocket(endpoint)
        client = await self.ask(endpoint, "/wait")
        await server.until(lambda: b"waiting" in server.err)
        admin = await address_of(server, "admin")
        _, shown = await self.get(f"tcp:{admin}", "/metrics")
        for line in (
            b'evserve_asgi_requests_total{service="site"} 1.0',
            b'evserve_asgi_requests_in_progress{service="site"} 1.0',
            b'evserve_asgi_websockets{service="site"} 1.0',
        ):
            self.assertIn(line, shown)
        self.write("go", "")
        await client.receive(1)
        self.assertEqual(await websocket.ask("hello"), "HELLO")
        await self.check_end(server)


class QueueTests(Case):
    """The application puts events into a queue of the same process or of another."""

    async def test_of_another_process(self):
        queue = self.evserve("queue", "--listen", LOOPBACK)
        url = f"beanstalk://{await address_of(queue, 'queue')}"
        server, endpoint = await self.serving(f'queue = "{url}"')
        for path, number in (("/put", b"1"), ("/threaded", b"2")):
            self.assertEqual((await self.get(endpoint, path))[1], number, server.err)
        await self.check_end(server)

    async def test_beside_its_handlers(self):
        self.write("twisted/plugins/thumbs_plugin.py", PLUGIN)
        self.write("thumbs.py", HANDLER)
        url = f"beanstalk+unix:///{self.folder}/queue.sock"
        server, endpoint = await self.serving(
            f'queue = "{url}"\n[services.work]\nqueue = "{url}"\n'
            '[services.queue]\nlisten = "unix:queue.sock"',
        )
        for path in ("/put", "/threaded"):
            self.assertTrue((await self.get(endpoint, path))[1].isdigit(), server.err)
        await server.until(lambda: server.err.count(b"made a thumbnail of cat.png") == 2)
        client = await self.ask(endpoint, "/late")
        await server.until(lambda: b"waiting" in server.err)
        ended = await self.stopping(server)
        self.write("go", "")
        self.assertIn(b" 200 OK", await client.closed, server.err.decode())
        self.assertEqual(await ended, 0, server.err)


class DrainTests(Case):
    async def test_what_is_in_flight_is_finished(self):
        server, endpoint = await self.serving(host=("--drain", "100"))
        waiting = await self.ask(endpoint, "/wait")
        streaming = await self.ask(endpoint, "/stream")
        background = await self.ask(endpoint, "/background")
        half = await self.connect(endpoint)
        half.transport.write(b"GET /hello HTTP/1.1\r\nHo")
        idle = await self.connect(endpoint)
        websocket = await self.websocket(endpoint)
        await server.until(lambda: b"waiting" in server.err)
        await streaming.receive(1)
        await background.receive(1)
        ended = await self.stopping(server)
        self.assertEqual(await idle.closed, b"")
        await websocket.closed
        self.assertEqual(websocket.close_code, 1012)
        half.transport.write(b"st: x\r\n\r\n")
        self.assertIn(b"\r\n\r\nhello", await half.closed)
        self.assertNotIn(b"told to end", server.err)
        self.write("go", "")
        self.assertIn(b"waited", await waiting.closed)
        self.assertTrue((await streaming.closed).endswith(b"0\r\n\r\n"))
        self.assertEqual(await ended, 0, server.err)
        self.assertIn(b"done in the background", server.err)
        self.assertIn(b"websocket ended: 1012", server.err)

    async def test_a_request_that_does_not_end_is_cut(self):
        server, endpoint = await self.serving(host=("--drain", "0.3"))
        clients = [await self.ask(endpoint, "/forever") for _ in range(2)]
        await server.until(lambda: server.err.count(b"waiting") == 2)
        self.assertEqual(await server.stop(), 1)
        for client in clients:
            await client.closed
        self.assertIn(b"aborted 2 connections, 2 requests", server.err)
        self.assertNotIn(b"Traceback", server.err)
        self.assertIn(b"told to end", server.err)

    async def test_a_second_signal_cuts_at_once(self):
        server, endpoint = await self.serving(host=("--drain", "100"))
        client = await self.ask(endpoint, "/forever")
        await server.until(lambda: b"waiting" in server.err)
        ended = await self.stopping(server)
        server.stop()
        await client.closed
        self.assertEqual(await ended, 1)
        self.assertIn(b"SIGTERM again: aborted 1 connections, 1 requests", server.err)

    async def test_an_application_that_does_not_get_started(self):
        server = self.starting(env={"WAIT_FOR": "never"}, host=("--drain", "0.3"))
        await server.until(lambda: b"told to start" in server.err and b" serves " in server.err)
        client = await self.ask(self.endpoint(server), "/hello")
        self.assertEqual(await server.stop(), 1)
        self.assertEqual(await client.closed, b"")
        self.assertNotIn(b"Traceback", server.err)


class HostileTests(Case):
    async def refused(self, endpoint, *pieces):
        """Send pieces until the connection is closed; return the answer."""
        client = await self.connect(endpoint)
        client.transport.registerProducer(Producer(client.transport, pieces), False)
        return await client.closed

    async def test_nonsense_gets_an_answer_or_an_end(self):
        server, endpoint = await self.serving()
        for sent in (
            b"nonsense\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
            b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /hello?\xff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
            b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
            UPGRADE % (b"/ws", b""),
            UPGRADE % (b"/ws", b"Sec-WebSocket-Key: short\r\n"),
            UPGRADE % (b"/ws", b"Cookie: %s\r\n" % (b"x" * 20_000)),
            UPGRADE % (b"/ws", b"A: b\r\n" * 300),
            UPGRADE % (b"/" + b"w" * 20_000, b""),
            UPGRADE % (b"/ws\xff", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"),
        ):
            client = await self.connect(endpoint)
            client.transport.write(sent)
            got = await client.closed
            self.assertTrue(not got or got.startswith(b"HTTP/1.1 "), (sent, got))
        websocket = await self.websocket(endpoint)
        websocket.transport.write(b"\xff" * 100)
        await websocket.closed
        await self.check_end(server)

    async def test_an_endless_head_is_refused(self):
        server, endpoint = await self.serving()
        for first, piece in (
            (b"GET /", b"x" * 1000),
            (b"GET / HTTP/1.1\r\n", b"A: b\r\n" * 100),
            (b"GET / HTTP/1.1\r\nA: ", b"x" * 1000),
        ):
            got = await self.refused(endpoint, first, piece)
            # A client that goes on sending may be told of the end before it reads the answer.
            self.assertTrue(not got or got.startswith(b"HTTP/1.1 431 "), got)
        chunked = b"POST /forever HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        self.assertEqual(await self.refused(endpoint, chunked, b"A: b\r\n" * 100), b"")
        self.assertNotIn(b"Traceback", server.err)


WSGI_ERROR = (
    "bad:wsgi is no ASGI 3 application: it does not take scope, receive and send "
    "(a WSGI application: twistd web --wsgi; --factory if it returns the application)"
)
MISSING = "ModuleNotFoundError: No module named 'nowhere'"
QUEUE_ERROR = (
    "'nonsense' is not a queue URL: it should begin with one of beanstalk:, beanstalk+tls:, "
    "beanstalk+unix:, memory:, postgresql:, sqlite:"
)
UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\n%s\r\n"
)


PLUGIN = """
from evserve.plugin import Handler
handler = Handler("image.uploaded", "thumbs.make")
"""
HANDLER = """
async def make(event):
    print("made a thumbnail of", event.body.decode())
"""


class Producer:
    """Sends the first of its pieces, then the second again and again."""

    def __init__(self, transport, pieces):
        self._transport = transport
        self._next, self._piece = pieces

    def resumeProducing(self):
        data, self._next = self._next, self._piece
        self._transport.write(data)

    def stopProducing(self):
        pass


BAD = """
async def reports(scope, receive, send):
    await receive()
    message = "Traceback (most recent call last):\\n  ...\\nLookupError: no database\\n"
    await send({"type": "lifespan.startup.failed", "message": message})

async def raises(scope, receive, send):
    raise LookupError("no database")

async def fails_to_end(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "not flushed"})
"""
