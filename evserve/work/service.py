"""`twistd -n evserve work`: ties the queue, the handlers and the handler runner together."""

import sys
from typing import Any

from attrs import define
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.python import usage
from zope.interface import implementer

from evserve.events import Capability, EventQueue, QueueError, open_queue
from evserve.interfaces import IAbortable, IHost
from evserve.options import positive_integer, seconds
from evserve.plugin import discover
from evserve.work.demo import Demo
from evserve.work.policy import RetryPolicy
from evserve.work.routing import NoHandlersError, Routes, load_routes
from evserve.work.runner import HandlerRunner, HandlerThreads, WorkMetrics


class Options(usage.Options):
    """The options of `work`, and the schema of its table in a config file."""

    longdesc = "Reserve events from a queue and run the handlers that plugin files name."
    optFlags = (["demo", None, "Show 10 events/s being produced and 8/s being handled"],)
    optParameters: tuple[list[Any], ...] = (
        ["queue", None, None, "URL of the queue, such as beanstalk://127.0.0.1:11300"],
        ["concurrency", None, 8, "Handlers that may run at once", positive_integer],
        ["timeout", None, 300.0, "Seconds a handler may take; 0 is no limit", seconds],
        ["max-attempts", None, 5, "Attempts before an event is buried", positive_integer],
    )

    def postOptions(self) -> None:
        """Refuse to start without a queue."""
        if self["demo"] and self["queue"]:
            raise usage.UsageError("--demo brings its own queue: leave out --queue")
        if not self["demo"] and not self["queue"]:
            raise usage.UsageError("say where events come from: --queue URL (or --demo)")


@implementer(IAbortable)
@define(eq=False, slots=False)
class WorkService(Service):
    """Runs the handlers; stopping waits for the handlers that run, then closes the queue."""

    queue: EventQueue
    runner: HandlerRunner
    threads: HandlerThreads
    demo: Demo | None = None

    def startService(self) -> None:
        """Start to reserve events."""
        Service.startService(self)
        self.runner.start()
        if self.demo is not None:
            self.demo.start()

    def stopService(self) -> Deferred[None]:
        """Reserve nothing more; fires when all events that were handled are settled."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._drain())

    def abort(self) -> str:
        cut = self.runner.give_back()
        return f"{cut} handlers" if cut else ""

    async def _drain(self) -> None:
        if self.demo is not None:
            self.demo.stop()
        await self.runner.stop()
        if self.demo is not None:
            await self.demo.sum_up()
        self.threads.stop()
        await self.queue.close()


def makeService(options: Options, host: IHost) -> IService:
    """Open the queue and load the handlers; raises UsageError for a mistake of the user."""
    try:
        if options["demo"]:
            queue = open_queue("memory:", host.reactor)
            # Taken now, because twistd replaces sys.stderr by its log later.
            demo = Demo(queue, host.reactor, options["concurrency"], host.metrics, sys.stderr)
            return work_service(options, host, queue, demo.routes(), demo)
        routes = load_routes(discover())
        queue = open_queue(options["queue"], host.reactor)
    except (NoHandlersError, QueueError) as error:
        raise usage.UsageError(str(error)) from error
    if routes.patterns and Capability.LIST_TYPES not in queue.capabilities:
        raise usage.UsageError(
            f"{options['queue']} cannot list its event types, so there can be no handler of "
            f"{' or '.join(routes.patterns)}"
        )
    return work_service(options, host, queue, routes)


def work_service(
    options: Options, host: IHost, queue: EventQueue, routes: Routes, demo: Demo | None = None
) -> WorkService:
    """Return the service for `queue` and `routes`."""
    reactor: Any = host.reactor
    threads = HandlerThreads(reactor, options["concurrency"])
    runner = HandlerRunner(
        queue,
        routes,
        reactor,
        WorkMetrics(host.metrics),
        threads.call,
        options["concurrency"],
        RetryPolicy(options["max-attempts"]),
        options["timeout"] or None,
    )
    return WorkService(queue, runner, threads, demo)
