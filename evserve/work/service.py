"""`twistd -n evserve work`: ties the queue, the handlers and the worker together."""

import sys
from typing import Any

from attrs import define
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.python.usage import UsageError

from evserve.events import Capability, EventQueue, QueueError, open_queue
from evserve.interfaces import IHost
from evserve.plugin import discover
from evserve.work.demo import Demo
from evserve.work.loading import NoHandlersError, load_routes
from evserve.work.metrics import WorkMetrics
from evserve.work.options import Options
from evserve.work.policy import Policy
from evserve.work.routing import Routes
from evserve.work.threads import HandlerThreads
from evserve.work.worker import Worker


__all__ = ["Options", "makeService"]


@define(eq=False, slots=False)
class WorkService(Service):
    """Runs a worker; stopping waits for the handlers that run, then lets go of the queue."""

    queue: EventQueue
    worker: Worker
    threads: HandlerThreads
    demo: Demo | None = None

    def startService(self) -> None:
        """Begin to reserve events."""
        Service.startService(self)
        self.worker.start()
        if self.demo is not None:
            self.demo.start()

    def stopService(self) -> Deferred[None]:
        """Reserve nothing more; fires when all that ran is settled."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._drain())

    async def _drain(self) -> None:
        if self.demo is not None:
            self.demo.stop()
        await self.worker.stop()
        if self.demo is not None:
            await self.demo.sum_up()
        self.threads.stop()
        await self.queue.close()


def makeService(options: Options, host: IHost) -> IService:
    """Open the queue and load the handlers; raises UsageError for what a person can mend."""
    try:
        if options["demo"]:
            return _demo(options, host)
        routes = load_routes(discover())
        queue = open_queue(options["queue"], host.reactor)
    except (NoHandlersError, QueueError) as error:
        raise UsageError(str(error)) from error
    if routes.patterns and Capability.LIST_TYPES not in queue.capabilities:
        raise UsageError(
            f"{options['queue']} cannot list its event types, so there can be no handler of "
            f"{' or '.join(routes.patterns)}"
        )
    return work_service(options, host, queue, routes)


def _demo(options: Options, host: IHost) -> IService:
    queue = open_queue("memory:", host.reactor)
    # twistd makes a log of sys.stderr later; these lines are for the person who watches.
    demo = Demo(queue, host.reactor, options["concurrency"], host.metrics, sys.stderr)
    return work_service(options, host, queue, demo.routes(), demo)


def work_service(
    options: Options, host: IHost, queue: EventQueue, routes: Routes, demo: Demo | None = None
) -> WorkService:
    """Put together the service for `queue` and `routes`."""
    reactor: Any = host.reactor
    metrics = WorkMetrics(host.metrics)
    threads = HandlerThreads(reactor, options["concurrency"])
    worker = Worker(
        queue,
        routes,
        reactor,
        metrics,
        threads.call,
        options["concurrency"],
        Policy(options["max-attempts"]),
        options["timeout"] or None,
    )
    return WorkService(queue, worker, threads, demo)
