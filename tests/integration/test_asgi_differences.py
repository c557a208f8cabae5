"""`twistd -n evserve asgi` answers odd requests byte for byte as uvicorn itself does.

Each conversation is followed by a request after which the server closes the connection, or, if it
leaves a request unfinished, by the client's end.
"""

import re
import selectors
from concurrent.futures import ThreadPoolExecutor

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.asgi_apps.seen import ANSWERS
from tests.integration.asgi_server import EVSERVE, TIMEOUT, UVICORN, shared_server
from tests.web.conversations import GROUPS, chunked, get, request, sized


APPLICATION = "seen:app"
LAST = get(b"/last", b"Connection: close")
OF_A_SERVER = re.compile(rb"(?<=\r\n)(?:date|server): [^\r]*\r\n")

ODD_ANSWERS = {
    f"{kind}{path.decode()}": conversation
    for path in map(str.encode, ANSWERS)
    for kind, conversation in (
        ("GET ", get(path)),
        ("HEAD ", request(b"HEAD " + path + b" HTTP/1.1")),
        ("HTTP/1.0 ", request(b"GET " + path + b" HTTP/1.0")),
        ("HTTP/1.0 and keep-alive ", request(b"GET " + path + b" HTTP/1.0", b"Connection: keep-alive")),
        ("unread body ", sized(b"hello" * 100, target=path)),
        ("unread chunks ", chunked(b"5\r\nhello\r\n0\r\n\r\n", target=path)),
        ("unread body and 100-continue ", sized(b"hello", b"Expect: 100-continue", target=path)),
    )
}


def in_bytes(conversations):
    """Return the conversations that consist of bytes alone, each in one piece."""
    lists = {
        name: [steps] if isinstance(steps, bytes) else steps for name, steps in conversations.items()
    }
    return {
        name: b"".join(steps)
        for name, steps in lists.items()
        if all(isinstance(step, bytes) for step in steps)
    }


def answer(server, conversation):
    """Return all that the server sends until it closes the connection."""
    received, to_send = [], memoryview(conversation + LAST)
    with server.connect() as client, selectors.DefaultSelector() as selector:
        client.setblocking(False)
        selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while True:
            ready = selector.select(3)
            if not ready:
                return "waits", b"".join(received)
            try:
                if ready[0][1] & selectors.EVENT_WRITE:
                    to_send = to_send[client.send(to_send) :]
                    if not to_send:
                        selector.modify(client, selectors.EVENT_READ)
                if ready[0][1] & selectors.EVENT_READ:
                    piece = client.recv(65536)
                    if not piece:
                        break
                    received.append(piece)
            except ConnectionError:
                break
    return OF_A_SERVER.sub(b"", b"".join(received))

if __name__ == "__main__":
    s = shared_server(UVICORN, APPLICATION)
    tables = {**{g: in_bytes(c) for g, c in GROUPS.items()}, "odd answers": ODD_ANSWERS}
    from collections import Counter
    n = Counter()
    with ThreadPoolExecutor(8) as pool:
        for g, t in tables.items():
            for name, a in zip(t, pool.map(lambda c: answer(s, c), t.values())):
                n[g, type(a)] += 1
                if isinstance(a, tuple): print(g, "|", name, a[1][:60], t[name][-60:])
                elif not a: print(g, "EMPTY", name)
    print(n)
