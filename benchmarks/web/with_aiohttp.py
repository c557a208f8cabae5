"""aiohttp.web on uvloop."""

import logging
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from benchmarks.web.pages import MEMORY
from benchmarks.web.serve import listen


def serve(*, folder: Path, log: str | None) -> None:
    """Serve with aiohttp's own access log."""
    app = web.Application()
    for path, content in MEMORY.items():
        app.router.add_get(path, _page(content))
    app.router.add_post("/length", _length)
    app.router.add_static("/files", folder)
    logger = None
    if log is not None:
        logger = logging.getLogger("aiohttp.access")
        logger.setLevel(logging.INFO)
        logger.addHandler(logging.FileHandler(log))
    loop = uvloop.new_event_loop()
    web.run_app(app, sock=listen(), access_log=logger, print=None, loop=loop)


def _page(content: bytes) -> Any:
    async def page(request: web.Request) -> web.Response:
        return web.Response(body=content, content_type="text/html")

    return page


async def _length(request: web.Request) -> web.Response:
    return web.Response(body=b"%d" % len(await request.read()), content_type="text/html")
