"""Whether the tables of the Postgres engine grow under a steady load.

    python -m benchmarks.queue.bloat --url postgresql://me@host/db --events 1000000

Producers and consumers in one process pass events through a schema of their own, `bloat`, which is
dropped before. Every so many seconds a row tells what autovacuum has left: dead rows, pages of the
table and of its indexes, and the rate since the row before. `--transaction SECONDS` has somebody's
transaction stay open for so long in the middle, which keeps every row that is deleted meanwhile.
`--set NAME=VALUE` changes a storage parameter of the table, to compare.
"""

import argparse
from typing import Any, Final

import psycopg
from attrs import frozen
from psycopg import sql
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, react

from evserve.events import EventQueue, open_queue


SCHEMA: Final = "bloat"
BODY: Final = bytes(100)

_SIZES: Final = """
SELECT pg_stat_get_dead_tuples(c.oid), pg_relation_size(c.oid), pg_indexes_size(c.oid),
    coalesce((SELECT autovacuum_count FROM pg_stat_all_tables WHERE relid = c.oid), 0)
FROM pg_class AS c WHERE c.oid = 'bloat.event'::regclass
"""


@frozen
class Options:
    """What the command line says; see `main`."""

    url: str
    events: int
    clients: int
    backlog: int
    every: float
    transaction: float
    storage: list[str]


class Load:
    """Producers and consumers that keep `backlog` events in the queue."""

    def __init__(self, queue: EventQueue, events: int, backlog: int) -> None:
        self._queue = queue
        self._events = events
        self._backlog = backlog
        self._put = 0
        self.done = 0

    async def produce(self) -> None:
        """Put events while there are fewer than the backlog."""
        while self._put < self._events:
            if self._put - self.done >= self._backlog:
                await self._pass_one()
                continue
            self._put += 1
            await self._queue.put("bloat", BODY)

    async def consume(self) -> None:
        """Acknowledge events until all are done."""
        while self.done < self._events:
            await self._pass_one()

    async def _pass_one(self) -> None:
        event = await self._queue.reserve(["bloat"], 0.1)
        if event is not None:
            await self._queue.ack(event)
            self.done += 1


class Report:
    """Prints a row every so often, and opens and ends the long transaction."""

    def __init__(self, options: Options, load: Load) -> None:
        self._url = options.url
        self._every = options.every
        self._load = load
        self._events = options.events
        self._hold = options.transaction
        self._done = 0
        self._started = reactor.seconds()
        self._transaction: psycopg.Connection[Any] | None = None
        self._ends = 0.0
        print("seconds    events   per s  dead rows  table MB  indexes MB  vacuums  transaction")

    def row(self) -> None:
        """Print how things are now."""
        now = reactor.seconds() - self._started
        self._hold_open(now)
        with psycopg.connect(self._url) as connection:
            found = connection.execute(_SIZES).fetchone()
        assert found is not None
        dead, table, indexes, vacuums = found
        done, self._done = self._done, self._load.done
        rate = (self._done - done) / self._every
        state = "open" if self._transaction is not None else ""
        print(
            f"{now:7.0f} {self._done:9} {rate:7.0f} {dead:10} {table / 2**20:9.1f} "
            f"{indexes / 2**20:11.1f} {vacuums:8}  {state}",
            flush=True,
        )

    def _hold_open(self, now: float) -> None:
        if self._transaction is not None:
            if now >= self._ends:
                self._transaction.close()
                self._transaction = None
        elif self._hold and self._load.done >= self._events / 2:
            self._transaction = psycopg.connect(self._url)
            self._transaction.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self._transaction.execute("SELECT count(*) FROM pg_class")
            self._ends, self._hold = now + self._hold, 0


async def measure(options: Options) -> None:
    """Pass all events, printing rows."""
    url = options.url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS bloat CASCADE")
    queue = open_queue(f"{url}{'&' if '?' in url else '?'}schema={SCHEMA}", reactor)
    await queue.types()
    with psycopg.connect(url, autocommit=True) as connection:
        for name, _, value in (each.partition("=") for each in options.storage):
            changed = sql.SQL("ALTER TABLE bloat.event SET ({} = {})")
            connection.execute(changed.format(sql.Identifier(name), sql.Literal(value)))
    load = Load(queue, options.events, options.backlog)
    report = Report(options, load)
    rows = LoopingCall(report.row)
    rows.start(options.every, now=False).addErrback(print)
    clients = [call() for _ in range(options.clients) for call in (load.produce, load.consume)]
    await gatherResults([Deferred.fromCoroutine(each) for each in clients])
    rows.stop()
    report.row()
    await queue.close()


def main() -> None:
    """Run with the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue.bloat")
    add = parser.add_argument
    add("--url", required=True, help="a database in which the schema `bloat` may be dropped")
    add("--events", type=int, default=1_000_000, help="events that pass through the queue")
    add("--clients", type=int, default=50, help="producers, and consumers")
    add("--backlog", type=int, default=10_000, help="events that wait in the queue")
    add("--every", type=float, default=10, help="seconds between two rows")
    add("--transaction", type=float, default=0, help="seconds of somebody's transaction")
    add("--set", dest="storage", action="append", default=[], metavar="NAME=VALUE")
    options = Options(**vars(parser.parse_args()))
    react(lambda _: Deferred.fromCoroutine(measure(options)))


if __name__ == "__main__":
    main()
