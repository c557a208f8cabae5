"""`twistd -n evserve asgi` answers odd requests byte for byte as uvicorn itself does.

Each conversation is followed by a request after which the server closes the connection.
"""

import contextlib
import re
import selectors
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.asgi_apps.seen import ANSWERS
from tests.integration.asgi_server import EVSERVE, TIMEOUT, UVICORN, shared_server
from tests.web.conversations import GROUPS, chunked, get, request, sized


APPLICATION = "seen:app"
LAST = get(b"/last", b"Connection: close")
OF_A_SERVER = re.compile(rb"(?<=\r\n)(?:date|server): [^\r]*\r\n")

STAY_OPEN = {  # uvicorn reads no request after an upgrade, or waits for the rest of a body
    "connection: upgrade",
    "line: CONNECT of a path",
    "length: 2 to the 63",
}

ODD_ANSWERS = {
    f"{kind}{path.decode()}": conversation
    for path in map(str.encode, ANSWERS)
    for kind, conversation in (
        ("GET ", get(path)),
        ("HEAD ", request(b"HEAD " + path + b" HTTP/1.1")),
        ("HTTP/1.0 ", request(b"GET " + path + b" HTTP/1.0")),
        (
            "HTTP/1.0 and keep-alive ",
            request(b"GET " + path + b" HTTP/1.0", b"Connection: keep-alive"),
        ),
        ("unread body ", sized(b"hello" * 100, target=path)),
        ("unread chunks ", chunked(b"5\r\nhello\r\n0\r\n\r\n", target=path)),
        ("unread body and 100-continue ", sized(b"hello", b"Expect: 100-continue", target=path)),
    )
}


def in_bytes(group):
    """Return the conversations of a group that consist of bytes alone, and have an end."""
    lists = {
        name: [steps] if isinstance(steps, bytes) else steps
        for name, steps in GROUPS[group].items()
        if name not in STAY_OPEN
    }
    return {
        name: b"".join(steps)
        for name, steps in lists.items()
        if all(isinstance(step, bytes) for step in steps)
    }


def conversation_with(server, data):
    """Send it all; return what the server sends until it closes the connection."""
    received, to_send = [], memoryview(data + LAST)
    with server.connect() as client, selectors.DefaultSelector() as selector:
        client.setblocking(False)
        selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
        with contextlib.suppress(
            ConnectionError
        ):  # a server may close without having read everything
            while True:
                [(_, event)] = selector.select(TIMEOUT) or [(None, 0)]
                if not event:
                    return b"the connection stays open"
                if event & selectors.EVENT_WRITE:
                    to_send = to_send[client.send(to_send) :]
                    if not to_send:
                        selector.modify(client, selectors.EVENT_READ)
                if event & selectors.EVENT_READ:
                    piece = client.recv(65536)
                    if not piece:
                        break
                    received.append(piece)
    return OF_A_SERVER.sub(b"", b"".join(received))


class DifferenceTests(SynchronousTestCase):
    def compare(self, conversations):
        answers = []
        for command in (UVICORN, EVSERVE):
            server = shared_server(command, APPLICATION)
            talk = partial(conversation_with, server)
            with ThreadPoolExecutor(8) as threads:
                answers.append(list(threads.map(talk, conversations.values())))
        found = [
            f"{name}\n  uvicorn: {theirs[-500:]}\n  evserve: {ours[-500:]}"
            for name, theirs, ours in zip(conversations, *answers, strict=True)
            if theirs != ours
        ]
        self.assertEqual(found, [], "\n".join(found))
        self.assertIn(b'"path": "/last"', b"".join(answers[0]))

    def test_well_formed_requests(self):
        self.compare(in_bytes("well-formed"))

    def test_request_lines(self):
        self.compare(in_bytes("request lines"))

    def test_headers(self):
        self.compare(in_bytes("headers"))

    def test_connections(self):
        self.compare(in_bytes("connections"))

    def test_expectations(self):
        self.compare(in_bytes("expect"))

    def test_smuggling(self):
        self.compare(in_bytes("smuggling"))

    def test_odd_answers(self):
        self.compare(ODD_ANSWERS)
