"""evserve's `work` on the engine `postgresql://`: its handler runner, with all its duties."""

from collections.abc import Callable, Coroutine
from typing import Any

from prometheus_client import CollectorRegistry
from typing_extensions import override

from benchmarks.queue.job import Job, Tally, sent_at
from benchmarks.queue.with_evserve import TYPE, Clients, fill, run_on_reactor
from evserve.events import Event, EventQueue
from evserve.work.routing import Route, Routes
from evserve.work.runner import HandlerRunner, HandlerThreads, WorkMetrics


__all__ = ["fill", "run"]


def run(job: Job, tally: Tally) -> None:
    """Load it, with a handler that does nothing."""
    run_on_reactor(job, _Workers(job, tally).run)


class _Workers(Clients):
    @override
    def clients(self) -> list[Callable[[EventQueue], Coroutine[Any, Any, None]]]:
        return [self.produce] if self.job.what == "cycle" else []

    @override
    def start_handlers(self, reactor: Any, queue: EventQueue) -> None:
        HandlerRunner(
            queue,
            Routes([Route(TYPE, self.handle)]),
            reactor,
            WorkMetrics(CollectorRegistry()),
            HandlerThreads(reactor, 1).call,
            self.job.clients,
            timeout=300,  # as `work` has it by default
        ).start()

    async def handle(self, event: Event) -> None:
        """Count the event."""
        if self.job.what == "cycle":
            self.tally.done(sent_at(event.body))
            self.window.put(None)
        else:
            self.since = self.tally.done(self.since)
