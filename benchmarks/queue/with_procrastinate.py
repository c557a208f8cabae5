"""procrastinate: its worker in the process, its connector's pool, `batch_defer` for batches."""

import asyncio
import time
from typing import Any

import procrastinate

from benchmarks.queue.asyncio_loop import run_loop
from benchmarks.queue.job import Job, Tally, sent_at


_POOL = 20  # connections for 50 clients: with 10 or 50 it is not faster


def _make_connector(job: Job) -> Any:
    pool = min(_POOL, job.clients + 1)
    return procrastinate.PsycopgConnector(conninfo=job.url, min_size=pool, max_size=pool)


def fill(job: Job) -> None:
    """Make the tables and the backlog."""
    app = procrastinate.App(connector=_make_connector(job))

    async def handle(body: str) -> None:
        """Do nothing: it only names the task."""

    bench = app.task(name="bench")(handle)

    async def main() -> None:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            body = job.body().decode()
            for start in range(0, job.backlog, 1000):
                number = min(1000, job.backlog - start)
                await bench.batch_defer_async(*[{"body": body}] * number)

    run_loop(main())


def run(job: Job, tally: Tally) -> None:
    """Load it."""
    app = procrastinate.App(connector=_make_connector(job))
    window = asyncio.Semaphore(job.window)
    cycle = job.what == "cycle"
    since = [0.0]

    async def handle(body: str) -> None:
        if cycle:
            tally.done(sent_at(body.encode()))
            window.release()
        else:
            since[0] = tally.done(since[0])

    bench = app.task(name="bench")(handle)

    async def put() -> None:
        while True:
            if cycle:
                await window.acquire()
            begun = time.monotonic()
            if job.batch == 1:
                await bench.defer_async(body=job.body().decode())
            else:
                bodies = [{"body": job.body().decode()} for _ in range(job.batch)]
                await bench.batch_defer_async(*bodies)
            for _ in range(job.batch if not cycle else 0):
                tally.done(begun)

    async def main() -> None:
        async with app.open_async():
            tally.wait_for_start()
            since[0] = time.monotonic()
            running = [put() for _ in range(job.clients if job.what != "take" else 0)]
            if job.what != "put":
                running.append(
                    app.run_worker_async(
                        concurrency=job.clients,
                        delete_jobs="always",
                        install_signal_handlers=False,
                    )
                )
            await asyncio.gather(*running)

    run_loop(main())
