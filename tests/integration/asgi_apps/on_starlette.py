"""The application of test_asgi_frameworks.py, for Starlette."""

import asyncio
import threading
from contextlib import asynccontextmanager

from common import DONE, PIECE, Digest, say
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute


async def json(request):
    return JSONResponse({"path": request.url.path, "query": dict(request.query_params)})


async def digest(request):
    digest = Digest()
    async for piece in request.stream():
        digest.update(piece)
    return JSONResponse(digest.result())


async def download(request):
    async def pieces():
        for _ in range(int(request.query_params["pieces"])):
            yield PIECE

    return StreamingResponse(pieces())


async def fail(request):
    raise LookupError("the view fails")


async def background(request):
    async def work():
        say("background: began")
        while not DONE.exists():
            await asyncio.sleep(0.01)
        say("background: ended")

    return PlainTextResponse("answered", background=BackgroundTask(work))


def sync(request):
    return PlainTextResponse(threading.current_thread().name)


async def hold(request):
    say("hold: began")
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    say("hold: the client has gone")
    return PlainTextResponse("")


async def put(request):
    await request.state.queue.put("from.application", b"body")
    return PlainTextResponse("put")


async def echo(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
    say("websocket: ended")


@asynccontextmanager
async def lifespan(app):
    say("lifespan: started")
    yield
    say("lifespan: stopped")


app = Starlette(
    routes=[
        Route("/json", json),
        Route("/digest", digest, methods=["POST"]),
        Route("/download", download),
        Route("/fail", fail),
        Route("/background", background),
        Route("/sync", sync),
        Route("/hold", hold),
        Route("/put", put),
        WebSocketRoute("/echo", echo),
    ],
    lifespan=lifespan,
)
