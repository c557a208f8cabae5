"""evserve's engines: the seam itself."""

import time
from collections.abc import Callable, Coroutine
from typing import Any

import psycopg
from twisted.application.reactors import installReactor
from twisted.internet.defer import Deferred, DeferredQueue, gatherResults

from benchmarks.queue.job import Job, Tally, sent_at
from evserve.events import EventQueue, open_queue


TYPE = "bench"


_AT_ONCE = 1000  # events

# As `put` stores them, a million in seconds.
_BACKLOG = """
INSERT INTO evserve.event (type, body) SELECT 'bench', %b FROM generate_series(1, %s);
"""


def fill(job: Job) -> None:
    """Let the engine make what it needs, then make the backlog."""
    in_postgres = job.url.startswith("postgresql:")

    async def main(reactor: Any, queue: EventQueue) -> None:
        await queue.depth(TYPE)
        for start in range(0, 0 if in_postgres else job.backlog, _AT_ONCE):
            number = min(_AT_ONCE, job.backlog - start)
            await gatherResults([queue.put(TYPE, job.body()) for _ in range(number)])
        await queue.close()
        reactor.stop()

    run_on_reactor(job, main)
    if in_postgres:
        with psycopg.connect(job.url, autocommit=True) as connection:
            connection.execute(_BACKLOG, [job.body(), job.backlog])
            connection.execute("VACUUM ANALYZE evserve.event")


def run(job: Job, tally: Tally) -> None:
    """Load the seam: each consumer reserves and acknowledges."""
    run_on_reactor(job, Clients(job, tally).run)


def run_on_reactor(job: Job, main: Callable[[Any, EventQueue], Coroutine[Any, Any, None]]) -> None:
    """Run `main`, given the reactor and the queue, on the reactor that `twistd evserve` takes."""
    installReactor("uvloop")
    from twisted.internet import reactor as installed

    reactor: Any = installed
    queue = open_queue(job.url, reactor)

    def failed(failure: Any) -> None:
        failure.printTraceback()
        reactor.stop()

    reactor.callWhenRunning(
        lambda: Deferred.fromCoroutine(main(reactor, queue)).addErrback(failed)
    )
    reactor.run()


class Clients:
    """Producers, and consumers that reserve and acknowledge, on the seam itself."""

    def __init__(self, job: Job, tally: Tally) -> None:
        self.job, self.tally = job, tally
        self.window: DeferredQueue[None] = DeferredQueue()
        for _ in range(job.window):
            self.window.put(None)
        self.since = 0.0

    async def run(self, reactor: Any, queue: EventQueue) -> None:
        """Start all clients once all processes are ready."""
        await queue.depth(TYPE)  # it is connected now
        self.tally.wait_for_start()
        self.since = time.monotonic()
        running = [
            Deferred.fromCoroutine(client(queue))
            for client in self.clients()
            for _ in range(self.job.clients)
        ]
        self.start_handlers(reactor, queue)
        await gatherResults(running)

    def clients(self) -> list[Callable[[EventQueue], Coroutine[Any, Any, None]]]:
        """Return what each client does."""
        if self.job.what == "put":
            return [self.put]
        return [self.take] if self.job.what == "take" else [self.produce, self.take]

    def start_handlers(self, reactor: Any, queue: EventQueue) -> None:
        """Start what runs beside the clients: nothing here."""

    async def put(self, queue: EventQueue) -> None:
        while True:
            since = time.monotonic()
            if self.job.batch == 1:
                await queue.put(TYPE, self.job.body())
                self.tally.done(since)
                continue
            puts = [queue.put(TYPE, self.job.body()) for _ in range(self.job.batch)]
            await gatherResults(puts)
            for _ in puts:
                self.tally.done(since)

    async def produce(self, queue: EventQueue) -> None:
        while True:
            await self.window.get()
            await queue.put(TYPE, self.job.body())

    async def take(self, queue: EventQueue) -> None:
        since = self.since
        cycle = self.job.what == "cycle"
        types = [TYPE]
        while True:
            event = await queue.reserve(types)
            assert event is not None
            if cycle:
                self.tally.done(sent_at(event.body))
            await queue.ack(event)
            if cycle:
                self.window.put(None)
            else:
                since = self.tally.done(since)
