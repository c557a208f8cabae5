"""Transactions of the engine for postgresql://, with psycopg's connections."""

import asyncio
import contextlib

import psycopg
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from evserve.events import Depth, QueueFull, QueueUnavailable, open_queue
from tests.integration.postgres import fresh_database


class TransactionTests(TestCase):
    async def setUp(self):
        self.url = fresh_database()
        self.queue = open_queue(self.url, reactor)
        self.addCleanup(self.queue.close)
        await self.queue.put("task", b"")
        self.event = await self.queue.reserve(["task"])
        self.database = psycopg.connect(self.url, autocommit=True)
        self.addCleanup(self.database.close)
        self.database.execute("CREATE TABLE effect (event text)")

    def effects(self):
        return self.database.execute("SELECT count(*) FROM effect").fetchone()[0]

    def handle(self, statement="SELECT 1", event=None):
        async def handle():
            async with (event or self.event).transaction() as connection:
                self.pid = connection.raw.info.backend_pid
                await connection.execute("INSERT INTO effect VALUES (%s)", ["1"])
                with contextlib.suppress(psycopg.errors.UndefinedTable):
                    await connection.execute(statement)

        return Deferred.fromCoroutine(handle())

    async def test_a_put_on_an_async_connection_is_part_of_its_transaction(self):
        async def put():
            loop = asyncio.get_running_loop()
            async with await psycopg.AsyncConnection.connect(self.url) as connection:
                await self.queue.put("mail", b"lost", connection=connection).asFuture(loop)
                await connection.rollback()
                put = self.queue.put("mail", b"kept", priority=1, connection=connection)
                return await put.asFuture(loop)

        number = await deferToThread(asyncio.run, put())
        event = await self.queue.reserve(["mail"])
        self.assertEqual((event.id, event.body, event.priority), (number, b"kept", 1))
        self.assertIsNone(await self.queue.reserve(["mail"], 0))

    async def test_a_handler_that_ends_the_transaction_is_told(self):
        error = await self.assertFailure(self.handle("COMMIT"), QueueUnavailable)
        self.assertIn("ended the transaction by itself", str(error))

        def commit():
            with self.event.transaction() as connection:
                connection.commit()

        await self.assertFailure(deferToThread(commit), psycopg.ProgrammingError)
        await self.queue.ack(self.event)

    async def test_a_handler_that_swallows_an_error_of_the_database_has_no_effect(self):
        error = await self.assertFailure(self.handle("SELECT * FROM nothing"), QueueUnavailable)
        self.assertIn("current transaction is aborted", str(error))
        self.assertEqual(self.effects(), 0)
        await self.handle()
        self.assertEqual(self.effects(), 1)

    async def test_a_lost_connection_leaves_the_event(self):
        ends = "SELECT pg_terminate_backend(pg_backend_pid())"
        await self.assertFailure(self.handle(ends), psycopg.OperationalError)
        await self.queue.put("task", b"")
        await self.handle(event=await self.queue.reserve(["task"]))
        self.database.execute("SELECT pg_terminate_backend(%s, 10000)", [self.pid])  # it is idle
        await self.handle()
        self.assertEqual(self.effects(), 2)
        self.assertEqual(await self.queue.depth("task"), Depth())

    async def test_a_put_that_the_database_refuses_fails(self):
        await self.queue.drain(on=True)
        put = self.queue.put("mail", b"", connection=self.database)
        await self.assertFailure(put, QueueFull)
        self.database.close()
        put = self.queue.put("mail", b"", connection=self.database)
        await self.assertFailure(put, QueueUnavailable)
