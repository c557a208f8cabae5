"""`twistd -n evserve work`: ties the queue, the handlers, their runner and schedules together."""

import sys
from collections.abc import Sequence
from typing import Any

from attrs import define, field
from twisted.application.service import IService, Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python import usage
from zope.interface import implementer

from evserve.events import (
    Capability,
    EventQueue,
    QueueClosed,
    QueueError,
    QueueURL,
    Unsupported,
    open_queue,
)
from evserve.events.consumer import QUEUE_RETRIES
from evserve.interfaces import IAbortable, IHost
from evserve.options import duration, positive_integer, seconds
from evserve.plugin import discover
from evserve.work.demo import Demo
from evserve.work.policy import RetryPolicy
from evserve.work.routing import NoHandlersError, Routes, load_plugins
from evserve.work.runner import HandlerRunner, HandlerThreads, WorkMetrics
from evserve.work.schedules import LoadedSchedule, ScheduleMetrics, Scheduler


class Options(usage.Options):
    """The options of `work`, and the schema of its table in a config file."""

    longdesc = (
        "Reserve events from a queue and run the handlers that plugin files name, and put the "
        "events of their schedules."
    )
    optFlags = (["demo", None, "Show 10 events/s being produced and 8/s being handled"],)
    optParameters: tuple[list[Any], ...] = (
        ["queue", None, None, "URL of the queue, such as beanstalk://127.0.0.1:11300"],
        ["concurrency", None, 8, "Handlers that may run at once", positive_integer],
        ["timeout", None, 300.0, "Seconds a handler may take; 0 is no limit", seconds],
        ["max-attempts", None, 5, "Attempts before an event is buried", positive_integer],
        [
            *("keep", None, 0.0),
            "Time for which the queue keeps what was handled, such as 7d or 12h",
            duration,
        ],
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
    """Runs the handlers and the schedules.

    Stopping waits for the handlers that run, then closes the queue.
    """

    host: IHost
    queue: EventQueue
    runner: HandlerRunner
    threads: HandlerThreads
    scheduler: Scheduler
    demo: Demo | None = None
    _starting: Deferred[None] = field(init=False, factory=lambda: succeed(None))
    _log: Logger = field(init=False, default=Logger())

    def startService(self) -> None:
        """Start to reserve events and to put those of the schedules."""
        Service.startService(self)
        try:
            self.queue.open()
        except QueueError as error:
            self.host.fail(str(error))
            return
        self.scheduler.start()
        if not self.runner.routes.is_empty:
            self._starting = Deferred.fromCoroutine(self._start_runner())
        if self.demo is not None:
            self.demo.start()

    def stopService(self) -> Deferred[None]:
        """Reserve nothing more; fires when all events that were handled are settled."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._drain())

    def abort(self) -> str:
        cut = self.runner.give_back()
        return f"{cut} handlers" if cut else ""

    async def _start_runner(self) -> None:
        """Start to reserve events, once it is known that the queue can keep them if it has to."""
        try:
            if self.runner.keep:
                await self._find_history()
        except (CancelledError, QueueClosed):
            return
        except Unsupported as error:
            self.host.fail(f"--keep needs a queue with a history: {error}")
            return
        self.runner.start()

    async def _find_history(self) -> None:
        """Return when the queue has answered; raises Unsupported."""
        failures = 0
        while True:
            try:
                await self.queue.history(limit=1)
            except (QueueClosed, Unsupported):
                raise
            except QueueError as error:
                failures += 1
                if failures == 1:
                    self._log.warn("cannot reserve events: {error}; trying again", error=error)
                pause = QUEUE_RETRIES.delay(failures, self.runner.roll())
                await deferLater(self.host.reactor, pause)
            else:
                return

    async def _drain(self) -> None:
        if self.demo is not None:
            self.demo.stop()
        self._starting.cancel()
        scheduled = self.scheduler.stop()  # it may have to wait for a queue that is away
        await self.runner.stop()
        await scheduled
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
            return work_service(options, host, queue, demo.routes(), demo=demo)
        routes, schedules = load_plugins(discover())
        queue = open_queue(options["queue"], host.reactor)
    except (NoHandlersError, QueueError) as error:
        raise usage.UsageError(str(error)) from error
    shown = QueueURL.parse(options["queue"]).shown
    if routes.patterns and Capability.LIST_TYPES not in queue.capabilities:
        raise usage.UsageError(
            f"{shown} cannot list its event types, so there can be no handler of "
            f"{' or '.join(routes.patterns)}"
        )
    if schedules and Capability.SEQUENCES not in queue.capabilities:
        names = ", ".join(each.plugin.name for each in schedules)
        raise usage.UsageError(
            f"{shown} does not keep positions, so there can be no schedules ({names})"
        )
    if options["keep"] and Capability.HISTORY not in queue.capabilities:
        raise usage.UsageError(f"{shown} has no history: leave out --keep")
    return work_service(options, host, queue, routes, schedules)


def work_service(
    options: Options,
    host: IHost,
    queue: EventQueue,
    routes: Routes,
    schedules: Sequence[LoadedSchedule] = (),
    *,
    demo: Demo | None = None,
) -> WorkService:
    """Return the service for `queue`, `routes` and `schedules`."""
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
        options["keep"],
    )
    metrics = ScheduleMetrics(host.metrics)
    scheduler = Scheduler(queue, schedules, reactor, metrics, host.fail)
    return WorkService(host, queue, runner, threads, scheduler, demo)
