"""A process that handles or puts events in transactions, and kills itself at a given step.

python -m tests.integration.effects handle|put URL DATABASE STEP NUMBER

`handle` writes a row into `effect` for each event of the type `task`, until one whose body is
`STEP.1`. `put` writes a row into `business` for each event that it puts, of the type `task`; their
bodies begin with NUMBER. Nothing in the product knows of the steps: its methods are wrapped here.
"""

import os
import signal
import sqlite3
import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from evserve.events import open_queue


HANDLE_STEPS = ("begun", "written", "left", "deleted", "committed", "returned")
PUT_STEPS = ("inserted", "committed")
OUTBOX_STEPS = ("read", "moving", "moved")


class Death:
    """armed: whether the step kills this process when it is reached."""

    armed = False

    @classmethod
    def come(cls):
        if cls.armed:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()


def wrap(owner, name, *, before=None, after=None):
    """Have a method of a class call `before` with its arguments, or `after` with its result."""
    method = getattr(owner, name)

    def wrapped(*args, **kwargs):
        if before is not None:
            before(*args)
        result = method(*args, **kwargs)
        if after is not None:
            after(result)
        return result

    setattr(owner, name, wrapped)


class DyingConnection(sqlite3.Connection):
    """Dies before or after the COMMIT of a transaction that has deleted an event."""

    step = ""
    has_deleted = False

    def execute(self, sql, *args):
        self.has_deleted = self.has_deleted or sql.startswith("DELETE FROM main.event")
        is_end = sql == "COMMIT" and self.has_deleted
        if is_end and self.step == "deleted":
            Death.come()
        result = super().execute(sql, *args)
        if is_end and self.step == "committed":
            Death.come()
        return result


def prepare_sqlite(step):
    """Wrap what runs at `step` of SQLite's transactions, or of moving a row of the outbox."""
    from evserve.queue.broker import Broker
    from evserve.queue.sqlite import SQLiteStore
    from evserve.queue.transactions import _Steps

    DyingConnection.step, connect = step, sqlite3.connect
    sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=DyingConnection, **kwargs)
    if step == "begun":
        wrap(_Steps, "begin", after=lambda _: Death.come())
    elif step == "left":
        wrap(_Steps, "commit", before=lambda *_: Death.come())
    elif step == "returned":
        wrap(_Steps, "settle", before=lambda *_: Death.come())
    elif step == "read":
        wrap(SQLiteStore, "outbox", after=lambda rows: rows and Death.come())
    elif step == "moving":
        wrap(SQLiteStore, "_write", before=lambda _, batch: batch.taken and Death.come())
    elif step == "moved":
        wrap(Broker, "_apply", before=lambda _, batch, __: batch.taken and Death.come())


def prepare_postgres(step):
    """Wrap what runs at `step` of a transaction on Postgres."""
    import psycopg

    from evserve.events.postgres.transactions import _Steps

    if step == "begun":
        wrap(_Steps, "begin", after=lambda _: Death.come())
    elif step == "left":
        wrap(_Steps, "commit", before=lambda *_: Death.come())
    elif step == "deleted":
        wrap(psycopg.Transaction, "__exit__", before=lambda *_: Death.come())
    elif step == "committed":
        wrap(psycopg.Transaction, "__exit__", after=lambda _: Death.come())
    elif step == "returned":
        wrap(_Steps, "settle", before=lambda *_: Death.come())


async def handle(reactor, url, _database, step, _number):
    queue = open_queue(url, reactor)
    while (event := await queue.reserve(["task"], 0)) is not None:
        name = event.body.decode()
        if name == f"{step}.1":
            Death.armed = True
        async with event.transaction() as connection:
            await connection.execute(f"INSERT INTO effect VALUES ('{name}')")
            if step == "written":
                Death.come()
        await queue.ack(event)
    await queue.close()


async def put(reactor, url, database, step, number):
    queue, connection = open_queue(url, reactor), connect(url, database)
    queue.open()  # before its file is locked by a transaction
    for each in range(2):
        if each == 1:
            Death.armed = True
        name = f"{number}.{each}"
        connection.execute(f"INSERT INTO business VALUES ('{name}')")
        await queue.put("task", name.encode(), connection=connection)
        if step == "inserted":
            Death.come()
        connection.commit()
        if step == "committed":
            Death.come()
    await queue.reserve(["none"], 10)  # it dies when rows of SQLite's outbox are moved


def connect(url, database):
    """Return the driver's own connection to the database that the queue is in."""
    if url.startswith("sqlite:"):
        return sqlite3.connect(database)
    import psycopg

    return psycopg.connect(database)


def main():
    command, *words = sys.argv[1:]
    prepare = prepare_sqlite if words[0].startswith("sqlite:") else prepare_postgres
    prepare(words[2])
    run = {"handle": handle, "put": put}[command]
    react(lambda reactor: Deferred.fromCoroutine(run(reactor, *words)))


if __name__ == "__main__":
    main()
