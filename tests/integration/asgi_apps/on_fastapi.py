"""The application of test_asgi_frameworks.py, for FastAPI."""

import asyncio
import threading
from contextlib import asynccontextmanager

from common import DONE, PIECE, Digest, say
from fastapi import BackgroundTasks, FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse


@asynccontextmanager
async def lifespan(app):
    say("lifespan: started")
    yield
    say("lifespan: stopped")


app = FastAPI(lifespan=lifespan)


@app.api_route("/json", methods=["GET", "HEAD"])
async def json(request: Request):
    return {"path": request.url.path, "query": dict(request.query_params)}


@app.post("/digest")
async def digest(request: Request):
    digest = Digest()
    async for piece in request.stream():
        digest.update(piece)
    return digest.result()


@app.get("/download")
async def download(pieces: int):
    async def body():
        for _ in range(pieces):
            yield PIECE

    return StreamingResponse(body())


@app.get("/fail")
async def fail():
    raise LookupError("the view fails")


@app.get("/background", response_class=PlainTextResponse)
async def background(tasks: BackgroundTasks):
    async def work():
        say("background: began")
        while not DONE.exists():
            await asyncio.sleep(0.01)
        say("background: ended")

    tasks.add_task(work)
    return "answered"


@app.get("/sync", response_class=PlainTextResponse)
def sync():
    return threading.current_thread().name


@app.get("/hold")
async def hold(request: Request):
    say("hold: began")
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    say("hold: the client has gone")


@app.get("/put", response_class=PlainTextResponse)
async def put(request: Request):
    await request.state.queue.put("from.application", b"body")
    return "put"


@app.websocket("/echo")
async def echo(websocket: WebSocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
    say("websocket: ended")
