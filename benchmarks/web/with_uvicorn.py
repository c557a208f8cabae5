"""uvicorn with httptools on uvloop: a plain ASGI application, and Starlette."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import uvicorn

from benchmarks.web.pages import MEMORY
from benchmarks.web.serve import listen


def serve(kind: str, *, folder: Path, log: str | None) -> None:
    """Serve one of the two applications."""
    serve_application(_plain if kind == "plain" else _starlette(folder), log, lifespan="off")


def serve_application(application: Any, log: str | None, **options: Any) -> None:
    """Serve with uvicorn's own access log, in a file, and with options of `uvicorn.Config`."""
    logging = deepcopy(uvicorn.config.LOGGING_CONFIG)
    if log is not None:
        logging["handlers"]["access"] = {
            "class": "logging.FileHandler",
            "filename": log,
            "formatter": "access",
        }
    config = uvicorn.Config(
        application,
        http="httptools",
        loop="uvloop",
        log_config=logging,
        access_log=log is not None,
        **options,
    )
    uvicorn.Server(config).run(sockets=[listen()])


async def _plain(scope: Any, receive: Any, send: Any) -> None:
    content = MEMORY.get(scope["path"])
    if content is None:
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
        content = b"%d" % size
    headers = [(b"content-type", b"text/html"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _starlette(folder: Path) -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    def page(content: bytes) -> Any:
        async def answer(request: Request) -> Response:
            return Response(content, media_type="text/html")

        return answer

    async def length(request: Request) -> Response:
        return Response(b"%d" % len(await request.body()), media_type="text/html")

    return Starlette(
        routes=[
            *(Route(path, page(content)) for path, content in MEMORY.items()),
            Route("/length", length, methods=["POST"]),
            Mount("/files", StaticFiles(directory=folder)),
        ]
    )
