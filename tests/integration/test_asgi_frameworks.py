"""Starlette, FastAPI, Quart and Django, each served by a process of `twistd -n evserve asgi`."""

import hashlib
import json
import re
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase
from websockets.sync.client import connect

from evserve.events.sync import open_queue
from tests.integration.asgi_server import EVSERVE, TIMEOUT, AsgiServer, shared_server
from tests.integration.test_echo_memory import resident


MIB = 1024 * 1024
UPLOAD = bytes(range(256)) * (5 * MIB // 256)
PIECE = 64 * 1024  # bytes, of asgi_apps/common.py
PIECES = 1600  # 100 MiB
ALLOWED = 16 * MIB  # what the server may grow by


class Client:
    """A connection that sends bytes and reads answers."""

    def __init__(self, server):
        self.socket = server.connect()
        self.got = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.got.close()
        self.socket.close()

    def send(self, line, *headers, body=b""):
        lines = (f"{line} HTTP/1.1", "Host: a.example", *headers, "", "")
        self.socket.sendall("\r\n".join(lines).encode() + body)

    def head(self):
        """Return the status and the headers of the next answer."""
        status = self.got.readline().split()
        headers = {}
        while line := self.got.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return int(status[1]), headers

    def pieces(self, headers):
        """Yield the pieces of a body."""
        if headers.get("transfer-encoding") == "chunked":
            while size := int(self.got.readline(), 16):
                yield self.got.read(size)
                self.got.readline()
            self.got.readline()
        elif "content-length" in headers:
            yield self.got.read(int(headers["content-length"]))
        else:
            yield from iter(lambda: self.got.read(65536), b"")

    def answer(self):
        status, headers = self.head()
        return status, b"".join(self.pieces(headers))

    def get(self, path, *headers):
        self.send(f"GET {path}", *headers)
        return self.answer()


def chunked(body, size=50_000):
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class FrameworkTests:
    """What each framework does behind any server; `application` is in asgi_apps/."""

    application: str
    has_lifespan = True
    has_background_tasks = True

    def setUp(self):
        self.server = shared_server(EVSERVE, self.application)

    def client(self):
        client = Client(self.server)
        self.addCleanup(client.__exit__)
        return client

    def check_uploaded(self, answer, body=UPLOAD):
        status, got = answer
        expected = {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        self.assertEqual((status, json.loads(got)), (200, expected))

    def test_json(self):
        status, got = self.client().get("/json?a=1&b=%C3%A9")
        expected = {"path": "/json", "query": {"a": "1", "b": "é"}}
        self.assertEqual((status, json.loads(got)), (200, expected))

    def test_a_large_upload_arrives_whole(self):
        client = self.client()
        client.send("POST /digest", f"Content-Length: {len(UPLOAD)}", body=UPLOAD)
        self.check_uploaded(client.answer())

    def test_an_upload_in_chunks_arrives_whole(self):
        client = self.client()
        client.send("POST /digest", "Transfer-Encoding: chunked", body=chunked(UPLOAD))
        self.check_uploaded(client.answer())

    def test_an_upload_waits_for_100_continue(self):
        client = self.client()
        client.send("POST /digest", "Content-Length: 5", "Expect: 100-continue")
        self.assertEqual(client.head()[0], 100)
        client.socket.sendall(b"hello")
        self.check_uploaded(client.answer(), b"hello")

    @skipUnless(Path("/proc/self/status").exists(), "memory is measured in /proc")
    def test_a_download_waits_for_a_slow_reader(self):
        client, other = self.client(), self.client()
        other.get("/json")
        before = resident(self.server.process.pid)
        client.send(f"GET /download?pieces={PIECES}")
        status, headers = client.head()
        other.get("/json")  # by then, a server that does not wait has all of it in memory
        grown = resident(self.server.process.pid) - before
        self.assertLess(grown, ALLOWED)
        length = sum(map(len, client.pieces(headers)))
        self.assertEqual((status, length), (200, PIECES * PIECE))

    def test_an_exception_is_a_500_and_a_traceback_in_the_log(self):
        after = len(self.server.err)
        self.assertEqual(self.client().get("/fail")[0], 500)
        self.server.until(r"Traceback[^\0]*LookupError: the view fails", after)
        self.assertEqual(self.client().get("/json")[0], 200)

    def test_a_function_that_blocks(self):
        status, name = self.client().get("/sync")
        self.assertEqual(status, 200)
        self.assertNotEqual(name, b"MainThread")

    def test_the_application_sees_that_a_client_has_gone(self):
        after = len(self.server.err)
        with Client(self.server) as client:
            client.send("GET /hold")
            self.server.until("hold: began", after)
        self.server.until("hold: the client has gone", after)

    def test_requests_on_one_connection(self):
        client = self.client()
        for _ in range(3):
            self.assertEqual(client.get("/json")[0], 200)
        for number in range(50):
            client.send(f"GET /json?n={number}")
        client.send("GET /json", "Connection: close")
        got = [json.loads(client.answer()[1])["query"] for _ in range(51)]
        self.assertEqual(got, [*({"n": str(number)} for number in range(50)), {}])
        self.assertEqual(client.got.read(), b"")

    def test_head_has_no_body(self):
        client = self.client()
        client.send("HEAD /json")
        self.assertEqual(client.head()[0], 200)
        self.assertEqual(client.get("/json")[0], 200)  # in its place, not behind a body

    def test_start_and_end(self):
        store = f"sqlite://{Path(self.mktemp()).absolute()}"
        server = AsgiServer(EVSERVE, self.application, "--queue", store)
        self.addCleanup(server.stop)
        expected = []
        with Client(server) as client:
            self.assertEqual(client.get("/put"), (200, b"put"))
            if self.has_background_tasks:
                self.assertEqual(client.get("/background"), (200, b"answered"))
                server.until("background: began")
                expected = ["background: began", "background: ended"]
        server.terminate()
        server.until("SIGTERM: stopping")
        (server.folder / "done").touch()
        self.assertEqual(server.ended(), 0, server.err)
        if self.has_lifespan:
            expected = ["lifespan: started", *expected, "lifespan: stopped"]
        self.assertEqual(re.findall(r"(?:background|lifespan): \w+", server.err), expected)
        with open_queue(store) as queue:
            self.assertEqual(queue.reserve({"from.application"}, 0).body, b"body")


class WebsocketTests(FrameworkTests):
    def test_a_websocket(self):
        after = len(self.server.err)
        url = f"ws://127.0.0.1:{self.server.port}/echo"
        with connect(url, open_timeout=TIMEOUT, proxy=None) as websocket:
            for text in ("hello", "é" * 100_000, ""):
                websocket.send(text)
                self.assertEqual(websocket.recv(TIMEOUT), text)
        self.server.until("websocket: ended", after)


class StarletteTests(WebsocketTests, SynchronousTestCase):
    application = "on_starlette:app"


class FastAPITests(WebsocketTests, SynchronousTestCase):
    application = "on_fastapi:app"


class QuartTests(WebsocketTests, SynchronousTestCase):
    application = "on_quart:app"


class DjangoTests(FrameworkTests, SynchronousTestCase):
    application = "on_django:app"
    has_lifespan = has_background_tasks = False
