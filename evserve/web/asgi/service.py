"""`twistd -n evserve asgi`: options, and the service around an application."""

import asyncio
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.python import usage
from typing_extensions import override
from zope.interface import implementer

from evserve.aio import NoAsyncioLoop, as_deferred, reactor_loop
from evserve.events import EventQueue, QueueError, open_queue
from evserve.interfaces import IAbortable, IHost, IReadiness
from evserve.options import MAX_TIMER_SECONDS, choice, positive_integer, seconds_up_to
from evserve.plugin import PluginError


if TYPE_CHECKING:
    from evserve.web.asgi.server import Server


class Options(usage.Options):
    """The options of `asgi`, and the schema of its table in a config file."""

    synopsis = "[options] MODULE:APPLICATION"
    longdesc = (
        "Serves an application of ASGI 3, such as one of Starlette, FastAPI, Django or Quart, "
        "with websockets and the lifespan protocol. Needs the extra evserve[asgi]."
    )
    optFlags = [
        ["factory", None, "The name is that of a function that returns the application"],
        ["no-access-log", None, "Log no line for each request"],
    ]
    optParameters: list[list[Any]] = [
        ["app", None, None, "Application, such as main:app; may be given without --app"],
        ["root-path", None, None, "Path below which a proxy offers the application"],
        [
            *("lifespan", None, "auto"),
            "Whether to tell the application of start and end: auto, on or off",
            choice("auto", "on", "off"),
        ],
        [
            *("forwarded-allow-ips", None, None),
            "Proxies that may name the client by X-Forwarded-For [default: 127.0.0.1,::1]",
        ],
        [
            *("timeout-keep-alive", None, 5.0),
            "Seconds that a connection stays open between two requests",
            seconds_up_to(MAX_TIMER_SECONDS),
        ],
        ["ws-max-size", None, 16777216, "Bytes of a websocket message", positive_integer],
        ["queue", None, None, "Queue for the application's events, such as beanstalk://..."],
    ]

    default_port = 8000  # without --port and --listen

    def parseArgs(self, application: str | None = None) -> None:
        if application is None:
            return
        if self["app"] is not None:
            raise usage.UsageError(f"two applications: {self['app']} and {application}")
        self["app"] = application

    @override
    def postOptions(self) -> None:
        if not self["app"]:
            raise usage.UsageError("say which application: MODULE:APPLICATION, such as main:app")


@implementer(IReadiness, IAbortable)
class AsgiService(MultiService):
    """Serves an application as soon as it has started, and ends it when all is answered.

    queue: what the application puts events into; closed at the end.
    """

    def __init__(
        self, options: usage.Options, host: IHost, server: "Server", queue: EventQueue | None
    ) -> None:
        MultiService.__init__(self)
        from evserve.web.asgi.connection import ConnectionFactory

        self._host = host
        self._server = server
        self._name = options["app"]
        self._queue = queue
        self._factory = ConnectionFactory(server.make_protocol)
        self._starting: Deferred[None] = succeed(None)
        self._has_started = False
        self._is_ending = False
        self._seconds = LoopingCall(self._second_passed)
        self._seconds.clock = host.reactor
        if queue is not None:
            server.lifespan.state["queue"] = queue
        host.metrics.register(server)
        host.listen(options, self._factory).setServiceParent(self)

    @override
    def startService(self) -> None:
        MultiService.startService(self)
        self._seconds.start(1)
        if self._queue is not None:
            try:
                self._queue.open()
            except QueueError as error:
                self._host.fail(str(error))
                return
        self._starting = as_deferred(self._start(), self._host.reactor)

    def _second_passed(self) -> None:
        self._server.second_passed()
        self._factory.second_passed()

    async def _start(self) -> None:
        lifespan = self._server.lifespan
        await lifespan.startup()
        if lifespan.should_exit:
            self._host.fail(f"{self._name} failed to start{_because(lifespan.problem)}")
        else:
            self._has_started = True
            self._factory.serve()

    @override
    def stopService(self) -> Deferred[None]:
        drained = MultiService.stopService(self)
        return as_deferred(self._stop(drained), self._host.reactor)

    async def _stop(self, drained: Deferred[Any]) -> None:
        await drained
        await self._starting
        while tasks := self._server.state.tasks:
            await asyncio.wait(tasks)
        if self._has_started:
            await self._end()
        if self._seconds.running:
            self._seconds.stop()
        self._server.stop()
        if self._queue is not None:
            await self._queue.close()

    async def _end(self) -> None:
        lifespan = self._server.lifespan
        self._is_ending = True
        await lifespan.shutdown()
        if lifespan.should_exit:
            self._host.fail(f"{self._name} failed to end{_because(lifespan.problem)}")

    def unready_reason(self) -> str | None:
        return None if self._has_started else f"{self._name} is starting"

    def abort(self) -> str:
        tasks = tuple(self._server.state.tasks)
        for task in tasks:
            task.cancel()
        if not self._has_started or self._is_ending:
            self._server.lifespan.cancel()
        return f"{len(tasks)} requests" if tasks else ""


def _because(problem: str) -> str:
    return f": {problem}" if problem else " (the log says why)"


def makeService(options: usage.Options, host: IHost) -> IService:
    """Import the application and return the service; raises UsageError for a user's mistake."""
    if reactor_loop(host.reactor) is None:
        raise usage.UsageError(str(NoAsyncioLoop("it", host.reactor)))
    try:
        # Here, so that without the extra the options can be shown.
        from evserve.web.asgi.application import load_application
        from evserve.web.asgi.server import Server
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("uvicorn", "websockets"):
            raise
        raise usage.UsageError(f"needs {error.name} (pip install 'evserve[asgi]')") from error
    command: Any = options.parent
    queue = None
    try:
        application = load_application(
            options["app"],
            in_current_folder=command is None or not command["no-cwd-plugins"],
            is_factory=options["factory"],
        )
        if options["queue"]:
            queue = open_queue(options["queue"], host.reactor)
    except (PluginError, QueueError) as error:
        raise usage.UsageError(str(error)) from error
    return AsgiService(options, host, Server(options, host.reactor, application), queue)
