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
    QueueError,
    QueueUnavailable,
    Unsupported,
    open_queue,
)
from evserve.queue import sqlite, transactions
from evserve.queue.store import InlineWriter
from tests.queue.memory_server import HeldWriter
from tests.queue.test_sqlite import StoreTests


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
        queue.open()
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
        first, second = await self.reserved(), await self.reserved()
        async with first.transaction():
            self.patch(transactions, "TURN_TIMEOUT", 0.01)
            self.patch(sqlite, "TURN_TIMEOUT", 0.01)
            put = self.queue.put("other", b"")
            while self.queue.broker.problem is None:
                await self.queue.reserve(["nothing"], 0.02)
            self.assertIn("a handler's transaction takes more", self.queue.broker.problem)
            waiting = deferToThread(begin, second)
            await self.assertFailure(waiting, QueueUnavailable)
        await put
        self.assertIsNone(self.queue.broker.problem)

    async def test_a_transaction_within_another_fails_at_once(self):
        first, second = await self.reserved(), await self.reserved()

        async def handle():
            async with first.transaction(), second.transaction():
                raise AssertionError("it began")

        def handle_in_thread():
            with first.transaction():
                begin(second)

        for handled in (Deferred.fromCoroutine(handle()), deferToThread(handle_in_thread)):
            error = await self.assertFailure(handled, QueueError)
            self.assertIn("within another one of the same file", str(error))
        async with first.transaction():
            pass
        async with second.transaction():
            pass
        self.assertEqual(await self.queue.depth("mail"), Depth())

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


class ServerTests(StoreTests):
    """The outbox of a queue server's store, on a clock."""

    def open(self, **limits):
        server, client = super().open(**limits)
        self.database = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(self.database.close)
        return server, client

    def insert(self, body=b"", **columns):
        names = ", ".join(["type", "body", *columns])
        values = ["default", body, *columns.values()]
        places = ", ".join("?" * len(values))
        self.database.execute(f"INSERT INTO outbox ({names}) VALUES ({places})", values)

    def left(self):
        return self.database.execute("SELECT count(*) FROM outbox").fetchone()[0]

    def test_a_waiting_client_gets_what_was_inserted(self):
        server, client = self.open()
        client.send(b"reserve\r\n")
        server.clock.pump([0.01] * 100)
        self.insert(b"cat.png")
        server.clock.advance(0.25)
        server.turn()
        self.assertEqual(client.transport.take(), b"RESERVED 1 7\r\ncat.png\r\n")
        self.assertEqual(self.left(), 0)

    def test_what_has_no_room_stays(self):
        server, client = self.open(max_events=2)
        for _ in range(3):
            self.insert()
        server.clock.pump([0.25] * 3)
        self.assertEqual(self.left(), 1)
        client.ask(b"delete 1\r\n")
        server.clock.pump([0.25] * 2)
        self.assertEqual(self.left(), 0)

    def test_what_a_full_disk_cannot_take_stays(self):
        server, client = self.open()
        client.put(bytes(30000))
        self.insert(bytes(60000))
        writer = self.stores[0]._writer
        writer.execute("PRAGMA max_page_count = 1")  # no more than there are
        server.clock.pump([0.25] * 3)
        self.assertEqual((self.left(), len(server.broker.core.events)), (1, 1))
        self.assertEqual(client.ask(b"delete 1\r\n"), b"DELETED\r\n")
        writer.execute("PRAGMA max_page_count = 1000000")
        server.clock.pump([0.25] * 3)
        self.assertEqual((self.left(), len(server.broker.core.events)), (0, 1))

    def test_a_key_whose_event_may_still_go_is_waited_for(self):
        server, client = self.open()
        client.ask(b"put-key k 0 0 1 1\r\nx\r\n")
        self.insert(key="k")
        server.clock.advance(0.25)
        self.assertEqual((self.left(), len(server.broker.core.events)), (0, 1))
        self.insert(b"next", key="k")
        server.broker.writer = held = HeldWriter()
        client.send(b"delete 1\r\n")
        server.turn()
        server.clock.advance(0.25)
        self.assertEqual(len(held.batches), 1)
        server.broker.writer = InlineWriter(self.stores[0])
        held.finish(self.stores[0].write(held.batches[0][0]))
        server.clock.pump([0.25] * 2)
        self.assertEqual((self.left(), len(server.broker.core.events)), (0, 1))
        self.assertEqual(client.ask(b"reserve\r\n"), b"DELETED\r\nRESERVED 2 4\r\nnext\r\n")
