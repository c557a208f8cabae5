"""An ASGI application on a port of its own, in this process: by evserve, and by uvicorn itself.

Both servers run in a thread, so that a test can talk to them with blocking clients. No module of
the package `tests` is imported here: the tests of other projects have a package of that name.
"""

import asyncio
import itertools
import threading
from contextlib import suppress
from types import SimpleNamespace

import uvicorn
from attrs import define, field

from evserve.host.application import RootService, ServiceHost
from evserve.host.options import with_listening_options
from evserve.reactor import install_new_reactor
from evserve.web.asgi.service import Options, makeService


TIMEOUT = 30.0  # seconds for whatever is waited for; a test that gets there has failed


applications = SimpleNamespace()  # those that evserve serves, which it imports by their names
_numbers = itertools.count()


class Servers:
    """Servers on one loop, which runs in a thread."""

    def start(self, application, *, lifespan):
        """Serve an application; return the server, whose `port` is None if it did not start."""
        return self._call(self._start(application, lifespan))

    def stop(self, server):
        """Drain a server that has started, and end its lifespan."""
        self._call(self._stop(server))

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(TIMEOUT)


@define(eq=False)
class UvicornServers(Servers):
    """uvicorn's own servers on a loop that uvicorn chooses."""

    loop: asyncio.AbstractEventLoop = field(init=False)
    _thread: threading.Thread = field(init=False)

    def __attrs_post_init__(self):
        self.loop = uvicorn.Config(None, log_config=None).get_loop_factory()()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

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

    async def _stop(self, server):
        await server.shutdown()


@define(eq=False)
class EvserveServers(Servers):
    """The service `asgi` in a host, on evserve's reactor."""

    loop: asyncio.AbstractEventLoop = field(init=False)
    _thread: threading.Thread = field(init=False)

    def __attrs_post_init__(self):
        install_new_reactor()
        from twisted.internet import reactor

        self.loop = reactor.loop
        self._thread = threading.Thread(target=reactor.run, args=(False,))
        self._thread.start()

    def close(self):
        """Stop the reactor; no server runs any more."""
        from twisted.internet import reactor

        reactor.callFromThread(reactor.stop)
        self._thread.join()

    def start_configured(self, config):
        """Serve with a configuration of uvicorn's; return the server."""
        words = ("--port", str(config.port), "--lifespan", config.lifespan)
        return self._call(self._serve(config.loaded_app, words, config))

    async def _start(self, application, lifespan):
        words = ("--port", "0", "--lifespan", "on" if lifespan else "off")
        return await self._serve(application, words)

    async def _serve(self, application, words, config=None):
        from twisted.internet import reactor

        name = f"application{next(_numbers)}"
        setattr(applications, name, application)
        options = with_listening_options(Options)()
        options.parseOptions([*words, f"{__name__}:applications.{name}"])
        root = Root(reactor, {})
        service = makeService(options, ServiceHost("asgi", root))
        if config is not None:
            service._server.config = config
        service.startService()
        while root.problem is None and service.unready_reason() is not None:
            await asyncio.sleep(0.001)
        port = root.listeners[0].ports[0].getHost().port if root.problem is None else None
        return SimpleNamespace(service=service, port=port, server_state=service._server.state)

    async def _stop(self, server):
        await server.service.stopService()


class Root(RootService):
    """A host that tells of a service's failure, and does not stop the reactor."""

    problem = None

    def fail(self, reason):
        self.problem = reason
