"""A process that is killed at any step of a transaction leaves each effect exactly once."""

import signal
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from evserve.events import Depth, open_queue
from evserve.events.postgres import engine
from tests.integration import effects
from tests.integration.postgres import fresh_database


class EffectsOnce:
    """Mix into a TestCase that has `url`, `database` and `put_steps` after its `open_database`."""

    async def setUp(self):
        await self.open_database()
        self.connection = effects.connect(self.url, self.database)
        self.addCleanup(self.connection.close)
        for table in ("effect", "business"):
            self.connection.execute(f"CREATE TABLE {table} (event TEXT)")
        self.connection.commit()

    def rows(self, table):
        rows = self.connection.execute(f"SELECT event FROM {table}").fetchall()
        self.connection.commit()
        return sorted(row[0] for row in rows)

    async def die(self, command, step, number):
        """Run a process that kills itself at `step`."""
        words = ["-m", "tests.integration.effects", command, self.url, self.database, step, number]
        root = str(Path(effects.__file__).parents[2])
        running = getProcessOutputAndValue(sys.executable, words, None, root, reactor)
        out, err, number = await running.addErrback(lambda failure: failure.value)
        self.assertEqual((out, err, number), (b"", b"", signal.SIGKILL), step)

    async def test_a_handler(self):
        queue = open_queue(self.url, reactor)
        names = [f"{step}.{each}" for step in effects.HANDLE_STEPS for each in range(2)]
        for name in names:
            await queue.put("task", name.encode())
        await queue.close()
        for step in effects.HANDLE_STEPS:
            await self.die("handle", step, "0")
        await self.drain()
        self.assertEqual(self.rows("effect"), sorted(names))

    async def test_a_producer(self):
        for number, step in enumerate(self.put_steps):
            await self.die("put", step, str(number))
        bodies = await self.drain()
        self.assertEqual(sorted(bodies), self.rows("business"))
        self.assertIn("1.1", bodies)
        self.assertNotIn("0.1", bodies)

    def waiting(self):
        """Return how many events are in an outbox."""
        return 0

    async def drain(self):
        """Handle what is left, and return the bodies of all."""
        queue = open_queue(self.url, reactor)
        self.addCleanup(queue.close)
        bodies = []
        while self.waiting():
            await queue.reserve(["none"], 0.05)
        while await queue.depth("task") != Depth():
            event = await queue.reserve(["task"])
            name = event.body.decode()
            async with event.transaction() as connection:
                await connection.execute(f"INSERT INTO effect VALUES ('{name}')")
            bodies.append(name)
        return bodies


class SQLiteTests(EffectsOnce, TestCase):
    put_steps = effects.PUT_STEPS + effects.OUTBOX_STEPS

    async def open_database(self):
        self.database = str(Path(self.mktemp()).absolute())
        self.url = f"sqlite:{self.database}"
        queue = open_queue(self.url, reactor)
        queue.open()  # makes the file
        await queue.close()

    def waiting(self):
        return self.connection.execute("SELECT count(*) FROM outbox").fetchone()[0]


class PostgresTests(EffectsOnce, TestCase):
    put_steps = effects.PUT_STEPS

    async def open_database(self):
        # The dead's events are given back sooner than in ten seconds.
        self.patch(engine, "POLL", 0.1)
        self.patch(engine, "OWNERS_INTERVAL", 0.1)
        self.url = self.database = fresh_database()
        queue = open_queue(self.url, reactor)
        await queue.depth("task")  # makes the schema
        await queue.close()
