"""A queue in Postgres as one writes it by hand: a table, SKIP LOCKED, a connection per client.

It has fewer duties than evserve's engine: no delays, TTR, keys or history, and a consumer that
waits is woken only by a producer of its own process, or finds an event at its next look.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import psycopg

from benchmarks.queue.asyncio_loop import run_loop
from benchmarks.queue.job import Job, Tally, sent_at


_LOOK = 0.1  # seconds between two looks of a consumer that waits

_SCHEMA = """
CREATE TABLE event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type text NOT NULL,
    state smallint NOT NULL DEFAULT 0,
    priority bigint NOT NULL DEFAULT 1024,
    due timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    body bytea NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX ready ON event (type, priority, id) WHERE state = 0;
"""
_PUT = "INSERT INTO event (type, body) VALUES ('bench', %b) RETURNING id"
_RESERVE = """
UPDATE event SET state = 1, attempts = attempts + 1, due = now() + interval '60 s'
WHERE id = (
    SELECT id FROM event WHERE type = 'bench' AND state = 0
    ORDER BY priority, id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, body
"""
_ACK = "DELETE FROM event WHERE id = %s"


def fill(job: Job) -> None:
    """Make the table and the backlog."""
    with psycopg.connect(job.url, autocommit=True) as connection:
        connection.execute(_SCHEMA)
        connection.execute(
            "INSERT INTO event (type, body) SELECT 'bench', %b FROM generate_series(1, %s)",
            [job.body(), job.backlog],
        )
        connection.execute("VACUUM ANALYZE event")


def run(job: Job, tally: Tally) -> None:
    """Load the table."""
    run_loop(_Clients(job, tally).run())


class _Clients:
    def __init__(self, job: Job, tally: Tally) -> None:
        self.job, self.tally = job, tally
        self.window = asyncio.Semaphore(job.window)
        self.put_here = asyncio.Condition()
        self.waiting = 0

    async def run(self) -> None:
        loads: dict[str, list[Any]] = {
            "put": [self.put],
            "take": [self.take],
            "cycle": [self.produce, self.take],
        }
        clients: list[Coroutine[Any, Any, None]] = []
        for load in loads[self.job.what]:
            for _ in range(self.job.clients):
                connection = await psycopg.AsyncConnection.connect(self.job.url, autocommit=True)
                clients.append(load(connection))
        self.tally.wait_for_start()
        await asyncio.gather(*clients)

    async def put(self, connection: Any) -> None:
        while True:
            since = time.monotonic()
            if self.job.batch == 1:
                await connection.execute(_PUT, [self.job.body()])
                self.tally.done(since)
                continue
            rows = [[self.job.body()] for _ in range(self.job.batch)]
            async with connection.transaction(), connection.cursor() as cursor:
                await cursor.executemany(_PUT, rows)
            for _ in rows:
                self.tally.done(since)

    async def produce(self, connection: Any) -> None:
        while True:
            await self.window.acquire()
            await connection.execute(_PUT, [self.job.body()])
            if self.waiting:
                async with self.put_here:
                    self.put_here.notify()

    async def take(self, connection: Any) -> None:
        since = time.monotonic()
        cycle = self.job.what == "cycle"
        while True:
            row = await (await connection.execute(_RESERVE)).fetchone()
            if row is None:
                await self.wait()
                continue
            event_id, body = row
            since = self.tally.done(sent_at(body)) if cycle else since
            await connection.execute(_ACK, [event_id])
            if cycle:
                self.window.release()
            else:
                since = self.tally.done(since)

    async def wait(self) -> None:
        self.waiting += 1
        try:
            async with self.put_here:
                await asyncio.wait_for(self.put_here.wait(), _LOOK)
        except TimeoutError:
            pass
        finally:
            self.waiting -= 1
