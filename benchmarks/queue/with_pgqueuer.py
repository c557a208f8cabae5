"""pgqueuer on asyncpg: its manager in the process, with batches as large as the concurrency.

Its handlers' outcomes are written in groups of `batch_size`, or after a tenth of a second.
"""

import asyncio
import time
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.models import Job as PgqueuerJob
from pgqueuer.queries import Queries

from benchmarks.queue.asyncio_loop import run_loop
from benchmarks.queue.job import Job, Tally, sent_at


_POOL = 20


def fill(job: Job) -> None:
    """Make the tables, all durable, and the backlog."""

    async def main() -> None:
        connection = await asyncpg.connect(job.url)
        queries = Queries.from_asyncpg_connection(connection)
        await queries.install()
        for start in range(0, job.backlog, 1000):
            number = min(1000, job.backlog - start)
            await queries.enqueue(["bench"] * number, [job.body()] * number, [0] * number)
        await connection.close()

    run_loop(main())


def run(job: Job, tally: Tally) -> None:
    """Load it."""
    window = asyncio.Semaphore(job.window)
    cycle = job.what == "cycle"
    since = [0.0]

    async def handle(event: PgqueuerJob) -> None:
        if cycle:
            assert event.payload is not None
            tally.done(sent_at(event.payload))
            window.release()
        else:
            since[0] = tally.done(since[0])

    async def put(queries: Any) -> None:
        while True:
            if cycle:
                await window.acquire()
            begun = time.monotonic()
            if job.batch == 1:
                await queries.enqueue("bench", job.body())
            else:
                bodies = [job.body() for _ in range(job.batch)]
                await queries.enqueue(["bench"] * job.batch, bodies, [0] * job.batch)
            for _ in range(job.batch if not cycle else 0):
                tally.done(begun)

    async def main() -> None:
        size = min(_POOL, job.clients + 2)
        pool = await asyncpg.create_pool(job.url, min_size=size, max_size=size)
        manager = PgQueuer.from_asyncpg_pool(pool)
        manager.entrypoint("bench")(handle)
        queries = Queries.from_asyncpg_pool(pool)
        tally.wait_for_start()
        since[0] = time.monotonic()
        running = [put(queries) for _ in range(job.clients if job.what != "take" else 0)]
        if job.what != "put":
            running.append(manager.run(batch_size=job.clients))
        await asyncio.gather(*running)

    run_loop(main())
