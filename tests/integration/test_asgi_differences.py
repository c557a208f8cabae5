"""`twistd -n evserve asgi` answers odd requests byte for byte as uvicorn itself does.

Each conversation is followed by a request after which the server closes the connection.
"""

import contextlib
import re
import selectors
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.asgi_apps.seen import ANSWERS, HANDSHAKES
from tests.integration.asgi_server import EVSERVE, TIMEOUT, UVICORN, shared_server
from tests.web.conversations import GROUPS, chunked, get, request, sized


APPLICATION = "seen:app"
LAST = get(b"/last", b"Connection: close")
OF_A_SERVER = re.compile(rb"(?i)(?<=\r\n)(?:date|server): [^\r]*\r\n")

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


def handshake(path, *headers):
    """Return a request for a websocket; each header that it has by itself may be given instead."""
    own = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")  # fmt: skip
    given = {each.partition(b":")[0] for each in headers}
    kept = [each for each in own if each.partition(b":")[0] not in given]
    return get(path, *headers, *kept)


def frame(first, data=b"", mask=b"mask"):
    """Return a frame of a websocket, by its first byte; without a mask if that is empty."""
    length = len(data)
    second = bytes([length]) if length < 126 else b"\x7e" + length.to_bytes(2)
    if mask:
        second = bytes([second[0] | 0x80]) + second[1:] + mask
        data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
    return bytes([first]) + second + data


CLOSE = frame(0x88, b"\x03\xe8")
END = frame(0x81, b"end")  # after which the application closes
CLOSED = frame(0x88, b"\x03\xe8", mask=b"")
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"

HANDSHAKES_OF_CLIENTS = {
    "of a browser": handshake(b"/accepts", b"Origin: http://a.example", DEFLATE),
    "two subprotocols": handshake(b"/accepts-with-headers", b"Sec-WebSocket-Protocol: a, b"),
    "no subprotocol": handshake(b"/accepts-with-headers"),
    "an unknown extension": handshake(b"/accepts", b"Sec-WebSocket-Extensions: x; y=z"),
    "an old version": handshake(b"/accepts", b"Sec-WebSocket-Version: 8"),
    "a short key": handshake(b"/accepts", b"Sec-WebSocket-Key: AAAA"),
    "no key": handshake(b"/accepts", b"Sec-WebSocket-Key:"),
    "keep-alive, Upgrade": handshake(b"/accepts", b"Connection: keep-alive, Upgrade"),
    "POST": handshake(b"/accepts").replace(b"GET", b"POST", 1),
    "HTTP/1.0": handshake(b"/accepts").replace(b"HTTP/1.1", b"HTTP/1.0", 1),
}

FRAMES = {
    "text": frame(0x81, "é".encode()),
    "bytes": frame(0x82, bytes(range(256))),
    "20 kB": frame(0x81, b"x" * 20_000),
    "nothing": frame(0x81),
    "three messages": frame(0x81, b"1") + frame(0x82, b"2") + frame(0x81, b"3"),
    "a message in three frames": frame(0x01, b"1") + frame(0x00, b"2") + frame(0x80, b"3"),
    "a ping within a message": frame(0x01, b"1") + frame(0x89, b"ping") + frame(0x80, b"2"),
    "a pong that was not asked for": frame(0x8A, b"pong"),
    "close without a code": frame(0x88),
    "close with a reason": frame(0x88, b"\x0f\xa0reason"),
    "close with a code that is none": frame(0x88, b"\x03\xed"),
    "close with half a code": frame(0x88, b"\x03"),
    "close with a reason that is no UTF-8": frame(0x88, b"\x03\xe8\xff"),
    "data behind a close": CLOSE,
    "text that is no UTF-8": frame(0x81, b"\xff"),
    "an unmasked frame": frame(0x81, b"x", mask=b""),
    "a continuation of nothing": frame(0x80, b"x"),
    "a message within a message": frame(0x01, b"1") + frame(0x81, b"2"),
    "a reserved bit": frame(0xC1, b"x"),
    "a reserved opcode": frame(0x83, b"x"),
    "a ping of 126 bytes": frame(0x89, bytes(126)),
    "a ping in two frames": frame(0x09, b"1") + frame(0x80, b"2"),
    "a length of 2 to the 63": b"\x81\xff" + b"\xff" * 8 + b"mask",
}

WEBSOCKETS = {  # handshakes, and frames that follow the answer to them
    **{f"client: {name}": (data, CLOSE) for name, data in HANDSHAKES_OF_CLIENTS.items()},
    **{f"application: {path}": (handshake(path.encode()), CLOSE) for path in HANDSHAKES},
    **{f"frames: {name}": (handshake(b"/accepts"), data + END) for name, data in FRAMES.items()},
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


def websocket_with(server, conversation):
    """Send the handshake, and after its answer the frames; return all that the server sends."""
    opening, frames = conversation
    received = b""
    with server.connect() as client, contextlib.suppress(ConnectionError):
        client.sendall(opening)
        while piece := client.recv(65536):
            was_open = b"\r\n\r\n" in received
            received += piece
            if not was_open and b"\r\n\r\n" in received:
                client.sendall(frames)
            elif received.endswith(CLOSED):
                client.sendall(CLOSE)
    return OF_A_SERVER.sub(b"", received)


class DifferenceTests(SynchronousTestCase):
    def compare(self, conversations, talk=conversation_with):
        answers = []
        for command in (UVICORN, EVSERVE):
            server = shared_server(command, APPLICATION)
            talk_with = partial(talk, server)
            with ThreadPoolExecutor(8) as threads:
                answers.append(list(threads.map(talk_with, conversations.values())))
        found = [
            f"{name}\n  uvicorn: {theirs[-500:]}\n  evserve: {ours[-500:]}"
            for name, theirs, ours in zip(conversations, *answers, strict=True)
            if theirs != ours
        ]
        self.assertEqual(found, [], "\n".join(found))
        self.assertIn(b"HTTP/1.1 ", b"".join(answers[0]))

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

    def test_websockets(self):
        self.compare(WEBSOCKETS, websocket_with)
