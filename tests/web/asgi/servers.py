"""An ASGI application on a port of its own, in this process: by evserve, and by uvicorn itself.

Both servers run in a thread, so that a test can talk to them with blocking clients. No module of
the package `tests` is imported here: the tests of other projects have a package of that name.
"""

import asyncio
import threading
from contextlib import suppress
from types import SimpleNamespace

import uvicorn
from attrs import define, field


TIMEOUT = 30.0  # seconds for whatever is waited for; a test that gets there has failed


@define(eq=False)
class UvicornServers:
    """Starts uvicorn's servers on one loop, the one that uvicorn would choose."""

    loop: asyncio.AbstractEventLoop = field(init=False)
    _thread: threading.Thread = field(init=False)

    def __attrs_post_init__(self):
        self.loop = uvicorn.Config(None, log_config=None).get_loop_factory()()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def call(self, coroutine):
        """Run a coroutine in the loop; return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(TIMEOUT)

    def start(self, application, *, lifespan):
        """Serve an application; return the server, whose `port` is None if it did not start."""
        return self.call(self._start(application, lifespan))

    def stop(self, server):
        """Drain the server and end its lifespan."""
        if server.port is not None:
            self.call(server.shutdown())

    def close(self):
        """End the loop; no server runs any more."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _start(self, application, lifespan):
        config = uvicorn.Config(
            application,
            port=0,
            lifespan="on" if lifespan else "off",
            log_config=None,
            timeout_keep_alive=TIMEOUT,
        )
        server = uvicorn.Server(config)
        server.port = None
        config.load()
        server.lifespan = config.lifespan_class(config)
        with suppress(SystemExit):  # a lifespan that fails
            await server.startup()
            await server.on_tick(0)  # the Date header
            server.port = server.servers[0].sockets[0].getsockname()[1]
        return server
