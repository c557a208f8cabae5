"""The fast channel accepts nothing that both nginx and uvicorn refuse, over real sockets."""

import importlib.util
import re
import socket
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from evserve.web import fast
from tests.integration.processes import run_python
from tests.integration.web_servers import NGINX, start_nginx
from tests.web.conversations import GROUPS, NEXT


LAST = NEXT[:-2] + b"Connection: close\r\n\r\n"
# Conversations that every server ends, by their names.
TELLING = [
    *("both, length first", "both, coding first", "both, length 0", "both, coding identity"),
    *("no Host", "an empty Host", "Host with a list", "Host with a blank"),
    *("chunk: extension, empty", "chunk: extension, the quote open", "chunk: extension of 8 bits"),
    *("length twice, equal", "length twice, unequal", "length with a blank before the colon"),
    *("length: +5", "length: -5", "length: 0x5", "length: underscore", "length: empty"),
    *("length: a list, equal", "length: a list, unequal", "length: a vertical tab before"),
    *("length behind a bare LF", "length behind a bare CR", "length with NUL in the name"),
    *("coding: Chunked", "coding: xchunked", "coding: chunked, identity", "coding: gzip, chunked"),
    *("coding: a vertical tab before", "coding: a tab before", "coding: folded", "coding: empty"),
    *("coding twice", "coding twice, identity second", "coding in HTTP/1.0"),
    *("chunk: +5", "chunk: 0x5", "chunk: a blank after", "chunk: LF after the size"),
    *(
        "chunk: LF after the data",
        "chunk: extension with a bare CR",
    ),
    *("chunk: LF at the end", "chunk: nothing after the data", "chunk: extension, quoted"),
    *("chunk: a trailer", "chunk: length in a trailer", "chunk: a trailer with a bare LF"),
    *("header: obs-fold", "header: a blank before the colon", "header: no colon"),
    *(
        "header: NUL in the value",
        "header: a bare CR in the value",
        "header: a bare LF as a line end",
    ),
    *(
        "header: CTL in the value",
        "header: an empty name",
        "Host with a path",
        "header: Host twice",
    ),
    *("line: HTTP/1.2", "line: two blanks before the target", "line: a tab for a blank"),
    *("line: a bare CR at the end", "line: a blank at the end", "only bare LFs"),
    *(
        "line: absolute-form",
        "line: a path without a slash",
        "line: a control character in the target",
    ),
]
APPLICATION = """
async def application(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})
"""


class Page(Resource):
    isLeaf = True

    def render(self, request):
        return b"ok"


def statuses(port, data):
    """Send `data`, and return the statuses of the answers as soon as the server closes."""
    got = b""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(60)
        try:
            client.sendall(data)
            while piece := client.recv(65536):
                got += piece
        except ConnectionError:
            pass
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] ([2-5]\d\d) ", got)]


def answers(ports):
    """Return the statuses of each conversation's answers, by the server."""
    conversations = {name: data for group in GROUPS.values() for name, data in group.items()}
    sent = {name: conversations[name].removesuffix(NEXT) + LAST for name in TELLING}
    sent["two plain requests"] = NEXT + LAST
    return {
        name: {server: statuses(port, data) for server, port in ports.items()}
        for name, data in sent.items()
    }


class StrictnessTests(TestCase):
    def listen(self, site):
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return port.getHost().port

    async def uvicorn(self, parser):
        """Return the port of uvicorn with one of its parsers."""
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        (folder / "served.py").write_text(APPLICATION)
        words = ("--http", parser, "--lifespan", "off", "--port", 0, "served:application")
        server = run_python(self, "-m", "uvicorn", *words, folder=folder.absolute())
        running = re.compile(rb"running on http://127\.0\.0\.1:(\d+)")
        return int((await server.until(lambda: running.search(server.err)))[1])

    async def nginx(self):
        """Return the port of nginx, before a stock site."""
        server = await deferToThread(start_nginx, {}, upstream=self.listen(Site(Page())))
        self.addCleanup(server.stop)
        return server.port

    def test_what_all_others_refuse_is_refused(self):
        if NGINX is None:
            raise SkipTest("nginx is not installed")
        if importlib.util.find_spec("uvicorn") is None:
            raise SkipTest("uvicorn is not installed")
        return Deferred.fromCoroutine(self.compare())

    async def compare(self):
        ports = {
            "fast": self.listen(fast(Site(Page()))),
            "nginx": await self.nginx(),
            "uvicorn, httptools": await self.uvicorn("httptools"),
            "uvicorn, h11": await self.uvicorn("h11"),
        }
        table = await deferToThread(answers, ports)
        self.assertEqual(table.pop("two plain requests"), {server: [200, 200] for server in ports})
        wrong = {}
        for name, row in table.items():
            served = {server: codes.count(200) for server, codes in row.items()}
            if served.pop("fast") > max(served.values()):
                wrong[name] = row
        self.assertEqual(wrong, {})
