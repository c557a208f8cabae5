"""The application: plain ASGI, and one route of Starlette."""

from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.asgi.pages import CHUNK, CHUNKS, HELLO


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer, by the path."""
    path = scope["path"]
    if path == "/hello":
        await _start(send, (b"content-length", b"12"))
        await send({"type": "http.response.body", "body": HELLO})
    elif path == "/length":
        body = b"%d" % await _read(receive)
        await _start(send, (b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.body", "body": body})
    elif path == "/stream":
        await _start(send)
        for _ in range(CHUNKS):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        await send({"type": "http.response.body"})
    elif path == "/echo":
        await _echo(receive, send)
    else:
        await _starlette(scope, receive, send)


async def _start(send: Any, *headers: tuple[bytes, bytes]) -> None:
    headers = (b"content-type", b"text/plain"), *headers
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _read(receive: Any) -> int:
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    return size


async def _echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def _json(request: Request) -> JSONResponse:
    return JSONResponse({"user": request.path_params["user"], "query": dict(request.query_params)})


_starlette: Final = Starlette(routes=[Route("/users/{user}", _json)])
