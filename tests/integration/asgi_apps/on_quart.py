"""The application of test_asgi_frameworks.py, for Quart."""

import asyncio
import threading

from common import DONE, PIECE, Digest, say
from quart import Quart, request, websocket


app = Quart(__name__)


@app.before_serving
async def started():
    say("lifespan: started")


@app.after_serving
async def stopped():
    say("lifespan: stopped")


@app.get("/json")
async def json():
    return {"path": request.path, "query": dict(request.args)}


@app.post("/digest")
async def digest():
    digest = Digest()
    async for piece in request.body:
        digest.update(piece)
    return digest.result()


@app.get("/download")
async def download():
    count = int(request.args["pieces"])

    async def pieces():
        for _ in range(count):
            yield PIECE

    return pieces()


@app.get("/fail")
async def fail():
    raise LookupError("the view fails")


@app.get("/background")
async def background():
    async def work():
        say("background: began")
        while not DONE.exists():
            await asyncio.sleep(0.01)
        say("background: ended")

    app.add_background_task(work)
    return "answered"


@app.get("/sync")
def sync():
    return threading.current_thread().name


@app.get("/hold")
async def hold():
    say("hold: began")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        say("hold: the client has gone")
        raise


@app.get("/put")
async def put():
    await request.scope["state"]["queue"].put("from.application", b"body")
    return "put"


@app.websocket("/echo")
async def echo():
    try:
        while True:
            await websocket.send(await websocket.receive())
    finally:
        say("websocket: ended")
