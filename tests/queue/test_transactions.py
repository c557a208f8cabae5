"""On SQLite, what a handler or a producer writes, and the event, are in one commit."""

import sqlite3
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from evserve.events import (
    BadEvent,
    Depth,
    NotReserved,
    QueueUnavailable,
    Unsupported,
    open_queue,
)
from evserve.queue import sqlite, transactions


class SQLiteCase(TestCase):
    def setUp(self):
        self.path = Path(self.mktemp()).absolute()
        self.queue = self.open()
        self.database = sqlite3.connect(self.path)
        self.addCleanup(self.database.close)
        self.database.execute("CREATE TABLE effect (event TEXT)")

    def open(self):
        queue = open_queue(f"sqlite:{self.path}", reactor)
        self.addCleanup(queue.close)
        return queue

    def effects(self):
        return [row[0] for row in self.database.execute("SELECT event FROM effect ORDER BY event")]

    async def reserved(self, **options):
        await self.queue.put("mail", b"body", **options)
        return await self.queue.reserve(["mail"], 0)


class TransactionTests(SQLiteCase):
    async def test_a_long_transaction_only_delays_the_queue(self):
        event = await self.reserved()
        async with event.transaction():
            put = self.queue.put("other", b"")
            await self.queue.reserve(["nothing"], 0.1)
            self.assertFalse(put.called)
        await put
        self.assertIsNone(self.queue.broker.problem)

    async def test_a_transaction_without_end_is_a_problem_of_the_store(self):
        self.patch(transactions, "TURN_TIMEOUT", 0.01)
        self.patch(sqlite, "TURN_TIMEOUT", 0.01)
        first, second = await self.reserved(), await self.reserved()
        async with first.transaction():
            put = self.queue.put("other", b"")
            while self.queue.broker.problem is None:
                await self.queue.reserve(["nothing"], 0.02)
            self.assertIn("a handler's transaction takes more", self.queue.broker.problem)
            waiting = deferToThread(begin, second)
            await self.assertFailure(waiting, QueueUnavailable)
        await put
        self.assertIsNone(self.queue.broker.problem)

    async def test_a_handler_that_commits_by_itself_is_told(self):
        event = await self.reserved()

        async def handle():
            async with event.transaction() as connection:
                await connection.execute("COMMIT")

        error = await self.assertFailure(Deferred.fromCoroutine(handle()), QueueUnavailable)
        self.assertIn("ended the transaction by itself", str(error))
        await self.queue.ack(event)

    async def test_a_queue_that_closes_meanwhile_leaves_the_event(self):
        event, closing = await self.reserved(), []

        async def handle():
            async with event.transaction() as connection:
                await connection.execute("INSERT INTO effect VALUES ('1')")
                closing.append(self.queue.close())

        await self.assertFailure(Deferred.fromCoroutine(handle()), NotReserved)
        await closing[0]
        self.queue = self.open()
        self.assertEqual((await self.queue.reserve(["mail"], 0)).id, event.id)
        self.assertEqual(self.effects(), [])

    async def test_memory_has_no_transactions(self):
        queue = open_queue("memory:", reactor)
        await queue.put("mail", b"")
        event = await queue.reserve(["mail"], 0)
        self.assertRaises(Unsupported, event.transaction)
        await self.assertFailure(queue.put("mail", b"", connection=self.database), Unsupported)
        await queue.close()


class OutboxTests(SQLiteCase):
    async def test_plain_sql_puts_an_event_with_its_transaction(self):
        self.database.execute("INSERT INTO effect VALUES ('order 1')")
        self.database.execute("INSERT INTO outbox (type, body) VALUES ('mail', 'order 1')")
        self.assertIsNone(await self.queue.reserve(["mail"], 0.05))
        self.database.commit()
        event = await self.queue.reserve(["mail"])
        self.assertEqual((event.body, event.priority, event.ttr), (b"order 1", 1024, 60))
        self.assertEqual(self.database.execute("SELECT count(*) FROM outbox").fetchone(), (0,))

    async def test_what_no_event_can_be_is_refused_by_the_database(self):
        for columns, value in (
            ("type", "no spaces"),
            ("type", "-hyphen"),
            ("type", ""),
            ("type", "x" * 201),
            ("type", "a\0b"),
            ("type", b"mail"),
            ("body", 5),
            ("body", None),
            ("priority", -1),
            ("priority", 2**32),
            ("priority", 1.5),
            ("priority", "x"),
            ("delay", -1),
            ("delay", "x"),
            ("delay", float("inf")),
            ("delay", float("nan")),
            ("ttr", 0),
            ("key", "no spaces"),
            ("event_id", "x"),
            ("put_at", "now"),
        ):
            row = {"type": "mail", "body": b""} | {columns: value}
            sql = f"INSERT INTO outbox ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
            with self.assertRaises(sqlite3.IntegrityError, msg=columns):
                self.database.execute(sql, list(row.values()))
        self.database.rollback()

    async def test_its_columns_are_those_of_put(self):
        await self.queue.bind("mail", "copy")
        self.database.execute(
            "INSERT INTO outbox (type, body, priority, delay, ttr, key, put_at) "
            "VALUES ('mail', ?, 7, 1000.5, 9, 'k', 1)",
            (b"\0\xff",),
        )
        for _ in range(2):
            self.database.execute("INSERT INTO outbox (type, body, key) VALUES ('mail', '', 'k')")
        self.database.commit()
        event = await self.queue.reserve(["mail"])  # its delay was over long ago
        self.assertEqual((event.body, event.priority, event.delay), (b"\0\xff", 7, 1000.5))
        self.assertEqual(event.ttr, 9)
        await self.queue.ack(event)
        self.assertEqual(await self.queue.depth("mail"), Depth())
        self.assertEqual((await self.queue.depth("copy")).ready, 1)

    async def test_an_id_that_was_not_promised_is_not_taken(self):
        used = await self.queue.put("mail", b"")
        for event_id in (used, 0, -1, 2**40):
            self.database.execute(
                "INSERT INTO outbox (type, body, event_id) VALUES ('mail', '', ?)", (event_id,)
            )
        self.database.commit()
        events = [await self.queue.reserve(["mail"]) for _ in range(5)]
        self.assertEqual([int(event.id) for event in events], [1, 2, 3, 4, 5])

    async def test_rows_wait_for_the_process_that_opens_the_store(self):
        await self.queue.close()
        values = [(number,) for number in range(600)]
        self.database.executemany(
            "INSERT INTO outbox (type, body) VALUES ('mail', CAST(? AS TEXT))", values
        )
        self.database.commit()
        self.queue = self.open()
        events = [await self.queue.reserve(["mail"]) for _ in values]
        self.assertEqual([int(event.body) for event in events], [each for (each,) in values])

    async def test_a_queue_that_drains_leaves_them(self):
        await self.queue.drain(on=True)
        self.database.execute("INSERT INTO outbox (type, body) VALUES ('mail', '')")
        self.database.commit()
        self.assertIsNone(await self.queue.reserve(["mail"], 0.3))
        await self.queue.drain(on=False)
        self.assertIsNotNone(await self.queue.reserve(["mail"]))

    async def test_a_promised_id_is_kept_over_a_restart(self):
        promised = await self.queue.put("mail", b"", connection=self.database)
        await self.queue.close()
        self.database.commit()
        self.queue = self.open()
        self.assertNotEqual(await self.queue.put("other", b""), promised)
        self.assertEqual((await self.queue.reserve(["mail"])).id, promised)

    async def test_the_file_may_be_attached_to_the_callers_own(self):
        other = sqlite3.connect(":memory:")
        self.addCleanup(other.close)
        other.row_factory = sqlite3.Row
        error = await self.assertFailure(self.queue.put("mail", b"", connection=other), BadEvent)
        self.assertIn(f"open or attach {self.path}", str(error))
        other.execute("CREATE TABLE outbox (id)")
        other.execute("ATTACH ? AS 'the \"queue\"'", (str(self.path),))
        await self.queue.put("mail", b"attached", connection=other)
        other.commit()
        self.assertEqual((await self.queue.reserve(["mail"])).body, b"attached")
        await self.assertFailure(self.queue.put("mail", b"", connection="x"), BadEvent)

    async def test_a_damaged_outbox_does_not_stop_the_queue(self):
        self.database.execute("DROP TABLE outbox")
        self.queue.broker.outbox.look_soon()
        await self.queue.reserve(["mail"], 0.02)
        self.assertIsNotNone(await self.reserved())
        error = await self.assertFailure(
            self.queue.put("mail", b"", connection=self.database), QueueUnavailable
        )
        self.assertIn("no such table", str(error))


def begin(event):
    with event.transaction():
        raise AssertionError("it began")
