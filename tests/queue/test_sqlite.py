"""The store: what survives closing it, a full disk, failures, and why it cannot be opened."""

import json
import math
import os
import shutil
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from types import SimpleNamespace

from attrs import define
from twisted.trial.unittest import SynchronousTestCase

from evserve.queue import broker, sqlite
from evserve.queue.core import Core
from evserve.queue.model import Limits
from evserve.queue.sqlite import SQLiteStore
from evserve.queue.store import Batch, Binding, InlineWriter, Outcome, StoreError
from tests.queue.memory_server import MemoryServer


class StoreTests(SynchronousTestCase):
    def setUp(self):
        self.path = Path(self.mktemp()) / "var" / "queue.db"
        # However long a commit takes on this disk, the next one does not wait for more commands.
        self.patch(broker, "SLOW_COMMIT", math.inf)
        self.stores = []
        self.addCleanup(lambda: [store.close() for store in self.stores])

    def open(self, **limits):
        store = SQLiteStore.open(self.path)
        self.stores.append(store)
        server = MemoryServer(Limits(**limits), store=store, writer=InlineWriter(store))
        return server, server.connect()

    def reopen(self, server, client, **limits):
        client.lose()
        server.broker.close()
        server.turn()
        self.stores.clear()
        return self.open(**limits)


class SurvivalTests(StoreTests):
    def test_everything_survives(self):
        server, client = self.open()
        client.ask(b"use tube\r\nwatch tube\r\n")
        client.put(b"\0\xff\r\n", pri=3, ttr=7)
        client.put(delay=100, pri=2**32 - 1)
        client.put(b"")
        client.ask(b"reserve-job 1\r\nbury 1 9\r\nreserve-job 3\r\n")
        server.clock.advance(0.2)
        server, client = self.reopen(server, client)
        client.ask(b"use tube\r\n")
        self.assertEqual(client.ask(b"peek 1\r\n"), b"FOUND 1 4\r\n\0\xff\r\n\r\n")
        stats = client.ask(b"stats-job 1\r\n")
        self.assertIn(b"state: buried\npri: 9\n", stats)
        self.assertIn(b"reserves: 1\ntimeouts: 0\nreleases: 0\nburies: 1\n", stats)
        self.assertIn(b"ttr: 7\n", stats)
        self.assertIn(b"time-left: 100\n", client.ask(b"stats-job 2\r\n"))
        self.assertEqual(client.ask(b"reserve-job 3\r\n"), b"RESERVED 3 0\r\n\r\n")
        self.assertIn(b"reserves: 2\n", client.ask(b"stats-job 3\r\n"))

    def test_a_deleted_event_is_gone_and_its_id_is_not_used_again(self):
        server, client = self.open()
        for event_id in (1, 2):
            client.put()
            client.ask(b"delete %d\r\n" % event_id)
        server, client = self.reopen(server, client)
        self.assertIn(b"current-jobs-ready: 0\n", client.ask(b"stats\r\n"))
        self.assertEqual(client.put(), 3)

    def test_the_buried_keep_their_order(self):
        server, client = self.open()
        for _ in range(3):
            client.put()
        for event_id in (2, 1, 3):
            client.ask(b"reserve-job %d\r\nbury %d 0\r\n" % (event_id, event_id))
            server.clock.advance(1)
        server, client = self.reopen(server, client)
        order = []
        for _ in range(3):
            event_id = int(client.ask(b"peek-buried\r\n").split()[1])
            client.ask(b"delete %d\r\n" % event_id)
            order.append(event_id)
        self.assertEqual(order, [2, 1, 3])

    def test_bindings_and_keys_survive(self):
        server, client = self.open()
        put = b"put-key k 0 0 1 1\r\nx\r\n"
        client.ask(b"bind default b\r\nbind default c\r\nunbind default c\r\n" + put)
        server, client = self.reopen(server, client)
        self.assertEqual(client.ask(put), b"EXISTS 1\r\n")
        client.put()
        self.assertIn(b"current-jobs-ready: 4\n", client.ask(b"stats\r\n"))

    def test_bodies_beyond_what_may_stay_in_memory_are_read_from_the_store(self):
        server, client = self.open(resident=10)
        bodies = [b"%d" % number * 8 for number in range(5)]
        for body in bodies:
            client.put(body)
        self.assertEqual(server.broker.core.resident_bytes, 8)
        for number, body in enumerate(bodies, 1):
            reply = b"RESERVED %d 8\r\n%b\r\n" % (number, body)
            self.assertEqual(client.ask(b"reserve\r\n"), reply)

    def test_hundreds_of_rows_in_one_batch(self):
        server, client = self.open()
        count = 64 + 16 + 4 + 3
        client.ask(b"put 0 0 1 1\r\nx\r\n" * count)
        client.ask(b"".join(b"delete %d\r\n" % number for number in range(1, count)))
        server, client = self.reopen(server, client)
        self.assertIn(b"current-jobs-ready: 1\n", client.ask(b"stats\r\n"))

    def test_a_store_of_a_former_version_keeps_its_events(self):
        version_2 = (
            "DROP TABLE outbox; DROP TABLE sequence; DROP TABLE handled; PRAGMA user_version = 2;"
        )
        version_1 = version_2 + "ALTER TABLE event DROP COLUMN checksum; PRAGMA user_version = 1;"
        for script in (version_2, version_1):
            self.check_migration(script)
            self.path.unlink()

    def check_migration(self, script):
        server, client = self.open(resident=0)
        client.put(b"old")
        client.ask(b"put-key k 0 0 1 1\r\nx\r\n")
        client.lose()
        server.broker.close()
        server.turn()
        self.stores.clear()
        other = sqlite3.connect(self.path)
        other.executescript(script)
        other.close()
        server, client = self.open(resident=0)
        self.assertEqual(client.ask(b"put-key k 0 0 1 1\r\nx\r\n"), b"EXISTS 2\r\n")
        client.put(b"new")
        client.ask(b"reserve-job 1\r\nbury-keep 1 0 60 3\r\nbad\r\nadvance ticks 7\r\n")
        server, client = self.reopen(server, client)
        bodies = [client.ask(b"peek %d\r\n" % each).split(b"\r\n")[1] for each in (1, 2, 3)]
        self.assertEqual(bodies, [b"old", b"x", b"new"])
        self.assertEqual(client.ask(b"position ticks\r\n"), b"POSITION 7\r\n")
        [kept] = client.history()
        self.assertEqual((kept["body"], kept["error"]), (b"old", "bad"))
        client.lose()
        server.broker.close()
        server.turn()
        self.stores.clear()


class HistoryTests(StoreTests):
    def keep(self, client, seconds, count=1, result=b""):
        for _ in range(count):
            client.put(b"cat.png")
            event_id = int(client.ask(b"reserve\r\n").split()[1])
            wire = b"delete-keep %d %d %d\r\n%b\r\n" % (event_id, seconds, len(result), result)
            self.assertEqual(client.ask(wire), b"DELETED\r\n")

    def rows(self):
        return self.stores[0]._writer.execute("SELECT count(*) FROM handled").fetchone()[0]

    def test_what_was_kept_and_a_position_survive(self):
        server, client = self.open(resident=0)
        client.ask(b"advance-put ticks 3 mail 0 9 4\r\nbody\r\nwatch mail\r\n")
        client.ask(b"reserve\r\ndelete-keep 1 60 2\r\n\0\xff\r\n")
        server, client = self.reopen(server, client, resident=0)
        [kept] = client.history()
        self.assertEqual((kept["tube"], kept["body"]), ("mail", b"body"))
        self.assertEqual(
            (kept["result"], kept["outcome"], kept["reserves"]), (b"\0\xff", "done", 1)
        )
        self.assertEqual(client.ask(b"advance ticks 3\r\n"), b"NOT_ADVANCED\r\n")
        self.assertEqual(client.ask(b"advance ticks 4\r\n"), b"ADVANCED\r\n")

    def test_what_has_expired_is_deleted_in_parts(self):
        self.patch(sqlite, "_EXPIRE_ROWS", 3)
        server, client = self.open()
        store = self.stores[0]
        store.now = server.clock.seconds
        self.keep(client, 10, 5)
        self.keep(client, 1000, 2)
        store.maintain()
        self.assertEqual(self.rows(), 7)
        server.clock.advance(10)
        store.maintain()
        self.assertEqual(self.rows(), 4)
        store.maintain()
        self.assertEqual(self.rows(), 2)
        server.clock.advance(1000)
        self.assertEqual(client.history(), [])
        store.maintain()
        self.assertEqual(self.rows(), 0)

    def test_a_full_disk_stops_the_history_and_no_consumer(self):
        _, client = self.open()
        store = self.stores[0]
        self.keep(client, 1000)
        for _ in range(3):
            client.put(bytes(30000))
        pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
        store._writer.execute(f"PRAGMA max_page_count = {pages}")
        for event_id in (2, 3):
            client.ask(b"reserve\r\n")
            keep = b"delete-keep %d 9 60000\r\n%b\r\n" % (event_id, bytes(60000))
            self.assertEqual(client.ask(keep), b"DELETED\r\n")
        self.assertEqual([each["id"] for each in client.history()], [1])
        store._writer.execute("PRAGMA max_page_count = 1000000")
        self.keep(client, 1000)
        self.assertEqual([each["id"] for each in client.history()], [4, 1])

    def test_an_advance_that_cannot_put_its_event_does_not_move(self):
        _, client = self.open()
        store = self.stores[0]
        pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
        store._writer.execute(f"PRAGMA max_page_count = {pages}")
        tick = b"advance-put ticks 1 mail 0 1 60000\r\n%b\r\n" % bytes(60000)
        self.assertEqual(client.ask(tick), b"OUT_OF_MEMORY\r\n")
        self.assertEqual(client.ask(b"position ticks\r\n"), b"NOT_FOUND\r\n")
        store._writer.execute("PRAGMA max_page_count = 1000000")
        self.assertEqual(client.ask(tick), b"ADVANCED\r\n")


class DamageTests(StoreTests):
    """A body that is not what was put is not delivered: its event is buried, with the reason."""

    def setUp(self):
        super().setUp()
        self.server, self.client = self.open(resident=0)
        for body in (b"first", b"second", b"third"):
            self.client.put(body)

    def execute(self, statement):
        other = sqlite3.connect(self.path)
        with other:
            other.execute(statement)
        other.close()

    def check(self, reason):
        self.assertEqual(self.client.ask(b"peek 1\r\n"), b"INTERNAL_ERROR\r\n")
        reserved = self.client.ask(b"reserve\r\n")
        self.assertEqual(reserved, b"RESERVED 2 6\r\nsecond\r\n")
        self.assertIn(b"state: buried\n", self.client.ask(b"stats-job 1\r\n"))
        self.client.ask(b"use evserve.errors\r\n")
        record = json.loads(self.client.ask(b"peek-ready\r\n").split(b"\r\n")[1])
        self.assertEqual((record["id"], record["type"]), ("1", "default"))
        self.assertIn(reason, record["reason"])
        self.assertEqual(self.server.broker.damaged, 1)

    def test_another_body(self):
        self.execute("UPDATE event SET body = 'fIrst' WHERE id = 1")
        self.check("is not what was put")

    def test_the_body_of_another_event(self):
        for column in ("body", "checksum"):
            self.execute(
                f"UPDATE event SET {column} = (SELECT {column} FROM event WHERE id = 2) "
                "WHERE id = 1"
            )
        self.check("is not what was put")

    def test_no_body(self):
        self.execute("DELETE FROM event WHERE id = 1")
        self.check("is missing")

    def test_a_page_that_cannot_be_read(self):
        real, store = self.stores[0]._reader, self.stores[0]
        store._reader = Failing(sqlite3.SQLITE_IOERR_READ)
        self.client.ask(b"reserve-job 1\r\n")
        store._reader = real
        self.assertIn(b"state: buried\n", self.client.ask(b"stats-job 1\r\n"))

    def test_a_client_that_waits_waits_on(self):
        self.client.ask(b"reserve-batch 3 0\r\n")
        self.client.send(b"reserve-with-timeout 9\r\n")
        numbers = count()  # so that the stored one is never right
        self.patch(sqlite, "checksum", lambda *_: next(numbers))
        other = self.server.connect()
        other.ask(b"put 0 0 60 4\r\nlost\r\n")
        self.assertEqual(self.client.transport.take(), b"")
        self.server.clock.advance(9)
        self.assertEqual(self.client.transport.take(), b"TIMED_OUT\r\n")
        self.assertIn(b"state: buried\n", other.ask(b"stats-job 4\r\n"))

    def test_the_others_of_a_batch_are_delivered(self):
        self.execute("DELETE FROM event WHERE id = 2")
        reply = self.client.ask(b"reserve-batch 3 0\r\n")
        self.assertTrue(reply.startswith(b"RESERVED_BATCH 2\r\nRESERVED 1 "), reply)

    def test_one_by_its_id_is_an_internal_error(self):
        self.execute("DELETE FROM event WHERE id = 2")
        self.assertEqual(self.client.ask(b"reserve-job 2\r\n"), b"INTERNAL_ERROR\r\n")
        self.assertIn(b"state: buried\n", self.client.ask(b"stats-job 2\r\n"))

    def test_an_event_that_cannot_be_read_now_is_ready_again(self):
        store = self.stores[0]
        real, store._reader = store._reader, Failing(sqlite3.SQLITE_BUSY)
        self.assertEqual(self.client.ask(b"reserve\r\n"), b"INTERNAL_ERROR\r\n")
        store._reader = real
        self.assertEqual(self.client.ask(b"reserve\r\n"), b"RESERVED 1 5\r\nfirst\r\n")

    def test_nothing_is_buried_in_a_store_that_has_failed(self):
        self.server.broker.broken = True
        self.execute("DELETE FROM event WHERE id = 1")
        self.assertEqual(self.client.ask(b"reserve\r\n"), b"INTERNAL_ERROR\r\n")
        self.assertIn(b"state: ready\n", self.client.ask(b"stats-job 1\r\n"))

    def test_so_many_that_the_others_would_wait(self):
        for _ in range(200):
            self.client.put()
        self.execute("DELETE FROM event")
        self.assertEqual(self.client.ask(b"reserve\r\n"), b"INTERNAL_ERROR\r\n")
        self.assertEqual(self.server.broker.damaged, 100)


class DamagedPageTests(StoreTests):
    def test_a_damaged_page_stops_only_what_needs_it(self):
        server, client = self.open(resident=0)
        for number in range(10):
            client.put(b"%d" % number * 10_000)
        client.lose()
        server.broker.close()
        server.turn()
        self.stores.clear()
        data = bytearray(self.path.read_bytes())
        for page in range(0, len(data), 4096):
            if data[page + 4 : page + 9] == b"33333":
                data[page : page + 4] = b"\xff" * 4  # the number of the next page of that body
        self.path.write_bytes(data)
        server, client = self.open(resident=0)
        bodies = []
        while (reply := client.ask(b"reserve-with-timeout 0\r\n")) != b"TIMED_OUT\r\n":
            bodies.append(reply.split(b"\r\n")[1][:1])
            server.clock.advance(1)  # the counters are written
        self.assertEqual(b"".join(bodies), b"012456789")
        self.assertIn(b"state: buried\n", client.ask(b"stats-job 4\r\n"))
        deletes = b"".join(b"delete %d\r\n" % (number + 1) for number in range(10))
        replies = client.ask(deletes).split()
        del replies[3]  # SQLite may find that body's other pages, or not
        self.assertEqual(replies, [b"DELETED"] * 9)
        client.put(b"still there")
        self.assertIsNone(server.broker.problem)


class SpaceTests(StoreTests):
    def test_deleted_space_is_used_again(self):
        _, client = self.open()
        sizes = []
        for _ in range(4):
            for _ in range(20):
                client.ask(b"put 0 0 1 5000\r\n%b\r\n" % bytes(5000) * 20)
            for _ in range(400):
                event_id = int(client.ask(b"reserve\r\n").split()[1])
                client.ask(b"delete %d\r\n" % event_id)
            sizes.append(self.path.stat().st_size)
        self.assertLess(sizes[-1], sizes[1] * 1.5)

    def test_a_file_that_is_mostly_unused_shrinks(self):
        store = SQLiteStore.open(self.path)
        self.stores.append(store)
        store._writer.execute(
            "INSERT INTO event VALUES (1,'t',0,0,0,1,0,0,0,0,0,0,0,NULL,?,NULL)",
            (bytes(8_000_000),),
        )
        store.write(Batch(deletes=[1]))
        store._commits = 256
        before = store._writer.execute("PRAGMA page_count").fetchone()[0]
        store.maintain()
        after = store._writer.execute("PRAGMA page_count").fetchone()[0]
        self.assertGreaterEqual(before - after, 512)

    def test_a_store_without_room_refuses_puts_and_serves_the_rest(self):
        server, client = self.open()
        store = self.stores[0]
        client.put(bytes(30000))
        client.put(bytes(30000))
        pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
        store._writer.execute(f"PRAGMA max_page_count = {pages + 1}")
        big = b"put 0 0 1 60000\r\n%b\r\n" % bytes(60000)
        self.assertEqual(client.ask(big), b"OUT_OF_MEMORY\r\n")
        other = server.connect()
        other.send(big)
        self.assertEqual(client.ask(b"delete 1\r\n"), b"DELETED\r\n")
        self.assertEqual(other.transport.take(), b"OUT_OF_MEMORY\r\n")
        self.assertEqual(client.put(bytes(30000)), 5)

    def test_a_store_opened_on_a_full_disk_makes_its_reserve_when_there_is_space(self):
        full, real = SimpleNamespace(f_bavail=0, f_frsize=4096), os.statvfs
        self.patch(os, "statvfs", lambda _: full)
        patched = self.patch(os, "posix_fallocate", _no_quota)
        store = SQLiteStore.open(self.path)
        self.stores.append(store)
        ballast = Path(f"{self.path}-ballast")
        store.maintain()
        self.assertFalse(ballast.exists())
        patched.restore()
        self.patch(os, "statvfs", lambda _: SimpleNamespace(f_bavail=10**6, f_frsize=4096))
        store.maintain()
        some = ballast.stat().st_size
        self.assertGreater(some, 0)
        patched = self.patch(os, "posix_fallocate", _no_quota)
        store.maintain()
        patched.restore()
        self.assertEqual(ballast.stat().st_size, some)
        for _ in range(10):
            store.maintain()
        self.assertEqual(ballast.stat().st_size, sqlite.MAX_RESERVE)
        self.patch(os, "statvfs", real)

    def test_the_reserve_of_a_killed_server_makes_room_for_the_next_start(self):
        store = SQLiteStore.open(self.path)
        store.close()
        ballast = Path(f"{self.path}-ballast")
        ballast.write_bytes(bytes(3 * 4096))
        real = sqlite._prepare

        def prepare(*args, **options):
            self.assertFalse(ballast.exists())
            real(*args, **options)

        self.patch(sqlite, "_prepare", prepare)
        self.patch(os, "statvfs", lambda _: SimpleNamespace(f_bavail=0, f_frsize=4096))
        self.stores.append(SQLiteStore.open(self.path))
        self.assertEqual(ballast.stat().st_size, 3 * 4096)

    def test_large_events_are_not_put_where_only_one_copy_fits(self):
        """They are written to the WAL first; then the database would have no room to grow."""
        _, client = self.open(max_job_size=4_000_000)
        free = SimpleNamespace(f_bavail=1500, f_frsize=4096)
        self.patch(os, "statvfs", lambda _: free)
        large = b"put 0 0 1 4000000\r\n%b\r\n" % bytes(4_000_000)
        self.assertEqual(client.ask(large), b"OUT_OF_MEMORY\r\n")
        free.f_bavail = 10**6
        self.assertEqual(client.ask(large), b"INSERTED 2\r\n")

    def test_a_disk_whose_space_cannot_be_asked_for_does_no_harm(self):
        self.patch(os, "statvfs", lambda _: SimpleNamespace(f_bavail=0, f_frsize=4096))
        store = SQLiteStore.open(self.path)
        self.stores.append(store)
        self.patch(os, "statvfs", _no_quota)
        store.maintain()
        self.assertIs(store.write(Batch(deletes=[1])).rest, Outcome.COMMITTED)


@define(eq=False)
class Failing:
    """A connection whose statements fail with the given code."""

    code: int
    in_transaction = False

    def execute(self, statement, *args):
        error = sqlite3.OperationalError("no")
        error.sqlite_errorcode = self.code
        raise error


class FailureTests(StoreTests):
    def outcome(self, code):
        store = SQLiteStore.open(self.path)
        real, store._writer = store._writer, Failing(code)
        try:
            return store.write(Batch(bindings=[], deletes=[1])).rest
        finally:
            store._writer = real
            store.close()
            self.flushLoggedErrors()

    def test_a_failed_sync_breaks_the_store(self):
        self.assertIs(self.outcome(sqlite3.SQLITE_IOERR_FSYNC), Outcome.BROKEN)

    def test_what_passes_is_told_from_what_does_not(self):
        for code in (
            *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_SNAPSHOT, sqlite3.SQLITE_BUSY_RECOVERY),
            *(sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_NOMEM),
            sqlite3.SQLITE_IOERR_NOMEM,
        ):
            self.assertIs(self.outcome(code), Outcome.BUSY, code)
        for code in (
            *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_READONLY_DBMOVED, sqlite3.SQLITE_MISUSE),
            *(sqlite3.SQLITE_IOERR_DIR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE),
        ):
            self.assertIs(self.outcome(code), Outcome.BROKEN, code)

    def test_another_programs_lock_passes(self):
        self.patch(sqlite, "_BUSY_TIMEOUT", 0)
        server, client = self.open()
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        self.assertEqual(client.ask(b"put 0 0 1 1\r\nx\r\n"), b"")
        self.assertIn("database is locked", server.broker.problem)
        other.execute("ROLLBACK")
        server.clock.advance(1)
        self.assertEqual(client.transport.take(), b"INSERTED 1\r\n")
        self.assertIsNone(server.broker.problem)

    def test_a_lock_is_found_without_anything_to_write(self):
        self.patch(sqlite, "_BUSY_TIMEOUT", 0)
        store = SQLiteStore.open(self.path)
        self.addCleanup(store.close)
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        self.assertIs(store.write(Batch()).rest, Outcome.BUSY)
        other.execute("ROLLBACK")
        self.assertIs(store.write(Batch()).rest, Outcome.COMMITTED)

    def test_a_damaged_page_is_told_from_a_disk_that_fails(self):
        for code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR_READ):
            self.assertIs(self.outcome(code), Outcome.DAMAGED, code)

    def test_memory_that_is_short_passes(self):
        """Python has an error of its own for it."""
        self.patch(Failing, "execute", _no_memory)
        self.assertIs(self.outcome(0), Outcome.BUSY)

    def test_a_transaction_that_cannot_be_rolled_back_breaks_the_store(self):
        self.patch(Failing, "in_transaction", True)
        self.assertIs(self.outcome(sqlite3.SQLITE_BUSY), Outcome.BROKEN)

    def test_a_full_disk_is_full(self):
        self.assertIs(self.outcome(sqlite3.SQLITE_FULL), Outcome.FULL)

    def test_a_failed_write_means_full_when_another_file_cannot_grow_either(self):
        self.assertIs(self.outcome(sqlite3.SQLITE_IOERR_WRITE), Outcome.BROKEN)
        self.patch(os, "fsync", _no_quota)
        self.assertIs(self.outcome(sqlite3.SQLITE_IOERR_WRITE), Outcome.FULL)

    def test_maintenance_that_fails_does_no_harm(self):
        store = SQLiteStore.open(self.path)
        self.stores.append(store)
        real, store._writer = store._writer, sqlite3.connect(":memory:")
        store._writer.close()
        store.maintain()
        store._writer = real


def _no_memory(*_):
    raise MemoryError


def _no_quota(descriptor, *area):
    raise OSError(122, "Disk quota exceeded")


class OpeningTests(StoreTests):
    def refusal(self):
        error = self.assertRaises(StoreError, self.open_and_load)
        self.assertNotIn("\n", str(error))
        return str(error)

    def open_and_load(self):
        store = SQLiteStore.open(self.path)
        try:
            store.load(Core())
        finally:
            store.close()

    def test_a_directory(self):
        self.path.mkdir(parents=True)
        self.assertIn("it is a directory", self.refusal())

    def test_another_server_holds_it(self):
        self.open()
        self.assertIn("in use by another process", self.refusal())

    def test_a_file_that_is_not_a_database(self):
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"no database, but text\n" * 100)
        self.assertIn("file is not a database", self.refusal())

    def test_a_damaged_database(self):
        server, client = self.open()
        for _ in range(300):
            client.put(b"x" * 256)
        client.lose()
        server.broker.close()
        server.turn()
        self.stores.clear()
        with self.path.open("r+b") as file:
            for page in range(1, 20):
                file.seek(4096 * page)
                file.write(bytes(range(256)) * 12)
        self.assertIn("malformed", self.refusal())

    def test_a_newer_schema(self):
        self.open_and_load()
        self.execute("PRAGMA user_version = 1000")
        self.assertIn("schema version 1000 is newer than", self.refusal())

    def test_another_programs_database(self):
        self.path.parent.mkdir(parents=True)
        self.execute("CREATE TABLE cookies (name)")
        self.assertIn("another program", self.refusal())

    def execute(self, statement):
        connection = sqlite3.connect(self.path)
        connection.execute(statement)
        connection.commit()
        connection.close()

    def test_a_file_that_is_not_regular(self):
        """And no lock file is left beside it, such as /dev/null.lock."""
        self.path.parent.mkdir(parents=True)
        os.mkfifo(self.path)
        self.assertIn("not a regular file", self.refusal())
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_a_name_that_is_too_long(self):
        self.path = self.path.with_name("x" * 300)
        self.assertIn("File name too long", self.refusal())

    def test_a_reserve_that_cannot_be_made(self):
        Path(f"{self.path}-ballast").mkdir(parents=True)
        self.assertIn("Is a directory", self.refusal())

    def test_a_path_below_a_file(self):
        self.path.parent.parent.mkdir(parents=True)
        self.path.parent.write_text("a file")
        self.assertIn("File exists", self.refusal())

    def test_an_unknown_state(self):
        self.open_and_load()
        self.execute("INSERT INTO event VALUES (1,'t',9,0,0,1,0,0,0,0,0,0,0,NULL,x'',NULL)")
        self.assertIn("cannot read store", self.refusal())

    def test_a_priority_that_is_no_number_or_infinite(self):
        self.open_and_load()
        self.execute("INSERT INTO event VALUES (1,'t',2,0,0,1,0,0,0,0,0,0,0,NULL,x'',NULL)")
        for pri in ("'high'", "9e999"):
            self.execute(f"UPDATE event SET pri = {pri}")
            self.assertIn("cannot read store", self.refusal())

    def test_bindings_are_idempotent(self):
        store = SQLiteStore.open(self.path)
        self.stores.append(store)
        batch = Batch(bindings=[Binding("a", "b", bound=True)] * 2)
        self.assertIs(store.write(batch).rest, Outcome.COMMITTED)


def _forbidden(path):
    raise PermissionError(13, "Permission denied", str(path))


class WALTests(StoreTests):
    def wal_size(self):
        return Path(f"{self.path}-wal").stat().st_size

    def test_commits_do_not_make_the_file_longer(self):
        _, client = self.open()
        size = self.wal_size()
        self.assertGreater(size, sqlite.MAX_RESERVE // 2)
        for _ in range(1100):  # past a checkpoint
            client.put(b"x")
        self.assertEqual(self.wal_size(), size)

    def test_a_crash_leaves_what_was_committed(self):
        copy = self.path.with_name("copy.db")
        _, client = self.open()
        for puts in range(3):
            shutil.copy(self.path, copy)
            shutil.copy(f"{self.path}-wal", f"{copy}-wal")
            with closing(sqlite3.connect(copy)) as other:
                self.assertEqual(other.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
                self.assertEqual(other.execute("SELECT count(*) FROM event").fetchone(), (puts,))
                tables = other.execute("SELECT name FROM sqlite_schema").fetchall()
                self.assertNotIn(("filling",), tables)
            client.put(b"x")

    def test_a_disk_without_room_for_it_is_enough_to_start(self):
        connect = sqlite._connect

        def connect_to_full_disk(path):
            connection = connect(path)
            connection.execute("PRAGMA max_page_count = 200")
            return connection

        self.patch(sqlite, "_connect", connect_to_full_disk)
        _, client = self.open()
        self.assertEqual(self.wal_size(), 0)
        self.assertEqual(client.put(b"x"), 1)


class FileIdentityTests(StoreTests):
    """Nothing is acknowledged when the file of a running server was deleted or replaced."""

    def setUp(self):
        super().setUp()
        self.server, self.client = self.open()
        self.client.put()
        identity = self.stores[0]._identity
        self.now = identity._looked = identity.now()
        identity.now = lambda: self.now

    def check_refused(self):
        self.client.put()
        self.now += 1
        reply = self.client.ask(b"put 0 0 1 0\r\n\r\n")
        self.assertEqual(reply, b"INTERNAL_ERROR\r\n")
        self.assertIn(b"FOUND 1 ", self.client.ask(b"peek 1\r\n"))
        self.flushLoggedErrors()

    def test_a_store_that_was_deleted_takes_nothing(self):
        shutil.rmtree(self.path.parent)
        self.check_refused()

    def test_a_store_that_was_replaced_takes_nothing(self):
        other = self.path.with_name("other")
        other.write_bytes(self.path.read_bytes())
        other.rename(self.path)
        self.check_refused()

    def test_a_store_whose_file_cannot_be_looked_at_is_written_to(self):
        self.patch(Path, "stat", _forbidden)
        self.now += 1
        self.client.put()

    def test_a_relative_path_still_holds_when_the_process_changes_its_folder(self):
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.path.parent)
        store = SQLiteStore.open(Path("relative.db"))
        self.stores.append(store)
        os.chdir("/")
        identity = store._identity
        later = identity.now() + 1
        identity.now = lambda: later
        self.assertFalse(identity.has_changed())
        store.maintain()

    def test_a_store_that_stays_is_written_to(self):
        for _ in range(3):
            self.now += 1
            self.client.put()
