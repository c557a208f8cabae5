"""An ASGI application for the tests of the service, run by it in a child process."""

import asyncio
import json
import os
import sys
from pathlib import Path

from anyio import from_thread, to_thread


BIG = 30_000_000  # bytes: more than the kernel buffers


async def condition(name):
    """Return when the test has written the file `name`."""
    while not Path(name).exists():
        await asyncio.sleep(0.01)


def tell(text):
    print(text, file=sys.stderr, flush=True)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["type"] == "websocket":
        await websocket(receive, send)
    else:
        await PATHS[scope["path"].removeprefix(scope["root_path"])](scope, receive, send)


async def lifespan(scope, receive, send):
    await receive()
    tell("told to start")
    if "WAIT_FOR" in os.environ:
        await condition(os.environ["WAIT_FOR"])
    scope["state"]["made"] = "at the start"
    await send({"type": "lifespan.startup.complete"})
    await receive()
    tell("told to end")
    await send({"type": "lifespan.shutdown.complete"})


async def websocket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            tell(f"websocket ended: {message['code']}")
            return
        await send({"type": "websocket.send", "text": message["text"].upper()})


async def answer(send, body, *headers, status=200):
    length = b"content-length", b"%d" % len(body)
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def hello(scope, receive, send):
    await answer(send, b"hello")


async def pid(scope, receive, send):
    await answer(send, b"%d" % os.getpid())


async def show(scope, receive, send):
    kept = ("client", "server", "scheme", "root_path", "path", "http_version", "state")
    await answer(send, json.dumps({key: scope[key] for key in kept}).encode())


async def wait(scope, receive, send):
    tell("waiting")
    await condition("go")
    await answer(send, b"waited")


async def stream(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first,", "more_body": True})
    await condition("go")
    await send({"type": "http.response.body", "body": b"last"})


async def forever(scope, receive, send):
    tell("waiting")
    await condition("never")


async def leave(scope, receive, send):
    tell("waiting")
    await receive()
    tell((await receive())["type"])


async def background(scope, receive, send):
    await answer(send, b"hello")
    await condition("go")
    tell("done in the background")


async def big(scope, receive, send):
    await answer(send, bytes(BIG))


async def kinds(scope, receive, send):
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]}
    )
    for body in (bytearray(b"one"), memoryview(b"two"), b"six"):
        await send({"type": "http.response.body", "body": body, "more_body": body != b"six"})


async def upload(scope, receive, send):
    size = largest = 0
    more = True
    while more:
        message = await receive()
        more = message.get("more_body")
        if more is None:
            return
        size, largest = size + len(message["body"]), max(largest, len(message["body"]))
        await asyncio.sleep(0)
    await answer(send, b"%d %d" % (size, largest))


async def put(scope, receive, send):
    number = await scope["state"]["queue"].put("image.uploaded", b"cat.png")
    await answer(send, str(number).encode())


async def late(scope, receive, send):
    tell("waiting")
    await condition("go")
    await put(scope, receive, send)


async def threaded(scope, receive, send):
    """Put from a thread, as an endpoint of Starlette's that is no coroutine function."""
    queue = scope["state"]["queue"]

    def endpoint():
        return from_thread.run(queue.put, "image.uploaded", b"cat.png")

    await answer(send, str(await to_thread.run_sync(endpoint)).encode())


async def fail(scope, receive, send):
    raise LookupError("of the test")


PATHS = {
    f"/{each.__name__}": each
    for each in (
        *(hello, pid, show, wait, stream, forever, leave, background, big, kinds, upload, put),
        *(late, threaded, fail),
    )
}
