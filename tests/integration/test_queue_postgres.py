"""The queue's store on Postgres: the same promises, one active server, take-over, fencing."""

import contextlib
import itertools
import signal
import threading
import time
from unittest import SkipTest, mock

from attrs import astuple
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from evserve.queue.broker import Broker
from evserve.queue.embedded import MEMORY, EmbeddedQueue
from evserve.queue.model import Limits, State
from evserve.queue.store import Batch, Outcome, StoreError, ThreadWriter
from tests.events.conformance import EventQueueConformance
from tests.integration.postgres import fresh_database, shared_cluster, start_cluster
from tests.integration.queue_load import ClientRecord, check, check_bodies, load
from tests.integration.queue_server import QueueServer


try:
    from evserve.queue import postgres
except ImportError:
    postgres = None

TAKE_OVER = 5  # seconds


def open_store(url, limits=None):
    """Return the core and the store of a new active server."""
    if postgres is None:
        raise SkipTest("psycopg is not installed")
    address = postgres.Address.parse(url)
    candidate = postgres.Candidate(address, limits or Limits(resident=0))
    core, store = candidate.take_over(lambda store, core: store.load(core))
    return core, store


_schemas = itertools.count(1)


class StoreConformanceTests(EventQueueConformance, TestCase):
    def make_queue(self):
        self.url = getattr(self, "url", None) or f"{database()}?schema=s{next(_schemas)}"
        core, store = open_store(self.url)
        writer = ThreadWriter(store, reactor.callFromThread)
        broker = Broker(core, store, writer, reactor)
        return EmbeddedQueue(reactor, MEMORY, lambda: (broker, None))


def database(known=[]):  # noqa: B006 - one for all of these tests
    if not known:
        known.append(fresh_database())
    return known[0]


class StoreTests(SynchronousTestCase):
    def setUp(self):
        self.url = fresh_database()
        self.open()

    def open(self):
        self.core, self.store = open_store(self.url)
        self.addCleanup(self.store.close)
        self.outcomes = []

    def put(self, body=b"body", tube="default", now=1000.0, **options):
        changes = self.core.put(self.core.tube(tube), body, now, **options)
        return self.write(changes)

    def write(self, *entries):
        """Write a batch of entries, apply what was committed, and return its result."""
        batch = Batch()
        for changes in entries:
            batch.add(self.outcomes.append, changes)
        result = self.store.write(batch)
        for changes in entries:
            outcome = result.puts if changes[0].origin is None else result.rest
            for change in changes:
                act = self.core.apply if outcome is Outcome.COMMITTED else self.core.revert
                act(change, 1000.0)
        return result

    def query(self, statement):
        cursor = self.store._reader.execute(statement)
        return cursor.fetchall() if cursor.description else []

    def ids(self):
        return [row[0] for row in self.query("SELECT id FROM evserve.event ORDER BY id")]

    def test_a_server_finds_what_another_one_stored(self):
        self.put(b"1", "a", pri=7, ttr=9)
        self.put(b"2", "a", key="k", delay=50)
        self.put(b"3", "b")
        client = self.core.connect(["b"])
        (event,) = self.core.reserve(client, 1000.0, 0)
        self.write([self.core.bury(client, event.id, 1100.0, pri=5)])
        before = {each: _values(event) for each, event in self.core.events.items()}
        self.store.close()
        self.open()
        self.assertEqual(
            {each: _values(event) for each, event in self.core.events.items()}, before
        )
        self.assertEqual([self.store.body(each) for each in (1, 3, 2)], [b"1", b"3", b"2"])
        self.assertEqual(self.core.next_id, 4)

    def test_what_the_engine_stored_is_found_without_its_reservations(self):
        self.store.close()
        cluster, name = shared_cluster(), self.url.rpartition("/")[2]
        cluster.query("SELECT evserve.put('a', 'x'), evserve.put('a', 'y')", database=name)
        cluster.query(
            "UPDATE evserve.event SET state = 1, owner = 7, attempts = 2 WHERE id = 1",
            database=name,
        )
        self.open()
        first = self.core.events[1]
        self.assertEqual((first.state, first.delivery.reserves), (State.READY, 2))
        self.assertEqual(len(self.core.events), 2)
        self.put()
        self.assertEqual(self.ids(), [1, 2, 3])

    def test_nothing_is_put_beside_a_server(self):
        name = self.url.rpartition("/")[2]
        with self.assertRaises(Exception) as caught:
            shared_cluster().query("SELECT evserve.put('a', 'x')", database=name)
        self.assertIn("put through it", str(caught.exception))

    def test_a_batch_is_one_transaction(self):
        self.put()
        self.query("INSERT INTO evserve.event (id, type, body) VALUES (2, 'foreign', '')")
        delete = [self.core.delete(self.core.connect(), 1)]
        put = self.core.put(self.core.tube("a"), b"", 1000.0)
        self.assertIs(self.write(put, delete).rest, Outcome.BROKEN)
        self.assertEqual(self.ids(), [1, 2])

    def test_a_server_that_has_lost_the_lock_writes_nothing(self):
        self.put()
        self.store._writer.execute("SELECT pg_advisory_unlock_all()")  # as behind a pooler
        old, core = self.store, self.core
        self.open()
        self.assertEqual(self.core.events.keys(), {1})
        batch = Batch()
        batch.add(self.outcomes.append, [core.delete(core.connect(), 1)])
        batch.add(self.outcomes.append, core.put(core.tube("a"), b"", 1000.0))
        result = old.write(batch)
        self.assertEqual((result.puts, result.rest), (Outcome.BROKEN, Outcome.BROKEN))
        self.assertIn("another server has taken over", result.cause)
        self.assertIs(old.write(Batch()).rest, Outcome.BROKEN)
        self.assertEqual(self.ids(), [1])

    def test_a_full_disk_refuses_puts_only(self):
        self.put()
        self.query(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE 'No space left on device' USING ERRCODE = '53100'; END$$;"
            "CREATE TRIGGER full_disk BEFORE INSERT ON evserve.event EXECUTE FUNCTION full_disk()"
        )
        delete = [self.core.delete(self.core.connect(), 1)]
        result = self.write(self.core.put(self.core.tube("a"), b"", 1000.0), delete)
        self.assertEqual((result.puts, result.rest), (Outcome.FULL, Outcome.COMMITTED))
        self.assertEqual(self.ids(), [])
        self.assertIs(self.put().puts, Outcome.FULL)

    def test_a_lock_of_another_program_is_waited_for(self):
        self.put()
        self.store._writer.execute("SET lock_timeout = 1")
        with shared_cluster().connect(self.url.rpartition("/")[2]) as other, other.transaction():
            other.execute("LOCK TABLE evserve.event")
            self.assertIs(self.put().puts, Outcome.BUSY)
        self.assertIs(self.put().puts, Outcome.COMMITTED)

    def test_a_commit_that_was_not_replicated_is_not_acknowledged(self):
        cluster, cancelled, results = shared_cluster(), threading.Event(), []

        def cancel():
            while not self.query(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event = 'SyncRep'"
            ):
                time.sleep(0.01)
            cancelled.set()

        self.addCleanup(cluster.configure, synchronous_standby_names="")
        cluster.configure(synchronous_standby_names="nobody")
        canceller = threading.Thread(target=cancel)
        canceller.start()
        while not results or (results[-1].puts is Outcome.COMMITTED and not cancelled.wait(0.01)):
            results.append(self.put())
        canceller.join()
        self.assertIs(results[-1].puts, Outcome.BROKEN)
        self.assertIn("synchronous replication", results[-1].cause)

    def test_times_are_by_the_clock_of_the_database(self):
        self.store.close()
        with mock.patch.object(postgres, "time", lambda: time.time() - 60):
            self.open()
        now = time.time() - 60  # of this server
        self.put(now=now, delay=30)
        ((left,),) = self.query(
            "SELECT date_part('epoch', due - clock_timestamp()) FROM evserve.event"
        )
        self.assertTrue(0 < left < 31, left)
        self.store.close()
        self.open()
        self.assertTrue(-1 < self.core.events[1].delivery.due - (now + 90) < 1)

    def test_a_server_that_is_silent_loses_its_session_to_another(self):
        silent = self.store
        self.assertIs(self.put().puts, Outcome.COMMITTED)  # the first one, of two statements
        self.open()
        self.assertIs(silent.write(Batch()).rest, Outcome.BROKEN)

    def test_so_does_one_that_is_silent_in_the_middle_of_a_pipeline(self):
        libpq = self.store._writer.pgconn
        libpq.enter_pipeline_mode()
        libpq.send_query_params(b"SELECT", None)
        libpq.send_flush_request()
        libpq.flush()
        self.open()

    def test_what_expires_leaves_the_history(self):
        self.query(
            "INSERT INTO evserve.handled (event, type, priority, delay, ttr, attempts, timeouts, "
            "releases, buries, kicks, body, outcome, result, error, put_at, reserved_at, "
            "settled_at, expires) SELECT 1, 'a', 0, 0, 1, 1, 0, 0, 0, 0, '', 'done', '', '', "
            "now(), now(), now(), now() + each * interval '1 hour' FROM generate_series(-1, 1) "
            "AS each WHERE each <> 0"
        )
        self.store.maintain()
        self.assertEqual(self.query("SELECT count(*) FROM evserve.handled"), [(1,)])
        self.assertEqual(len(self.store.history("a", 10, time.time())), 1)
        self.assertEqual(self.store.history("b", 10, time.time()), [])


def _values(event):
    delay, due, _, _, *counts = astuple(event.delivery, recurse=False)
    place = (event.tube.name, event.state, round(due, 3), event.key, *counts)
    return event.id, event.pri, delay, event.ttr, round(event.created, 3), event.size, *place


class Backends:
    """A server as `load` sees it, whose sessions end when it is told to kill the server."""

    def __init__(self, server, url):
        self.server, self.name = server, url.rpartition("/")[2]

    def connect(self):
        return self.server.connect()

    def kill(self):
        shared_cluster().query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", self.name
        )


class PostgresItself:
    """A server as `load` sees it, whose Postgres is killed when it is told to kill the server."""

    def __init__(self, server, cluster):
        self.server, self.cluster = server, cluster

    def connect(self):
        return self.server.connect()

    def kill(self):
        self.cluster.kill()


class ServerTests(SynchronousTestCase):
    def test_another_server_takes_over_within_five_seconds(self):
        url = fresh_database()
        active = QueueServer(self, "--store", url)
        other = QueueServer(self, "--store", url, stands_by=True)
        self.assertIn(b"standing by: another server is active", other.log)
        record = ClientRecord()
        load(active, record, "load", lambda: record.wait_for(200))
        began = time.monotonic()
        other.wait_until_active()
        self.assertLess(time.monotonic() - began, TAKE_OVER)
        check(self, other, record)
        check_bodies(self, other, record)
        self.assertEqual(other.stop(), 0)

    def test_a_stopped_server_loses_the_queue_and_acknowledges_no_more(self):
        url = fresh_database()
        old = QueueServer(self, "--store", url)
        new = QueueServer(self, "--store", url, stands_by=True)
        with old.connect() as client:
            event_id = client.put(b"body")
            client.ask(b"reserve")
            old.process.send_signal(signal.SIGSTOP)
            client.send(b"delete %d\r\n" % event_id)
            new.wait_until_active()
            old.process.send_signal(signal.SIGCONT)
            with contextlib.suppress(ConnectionError):
                self.assertEqual(client.reply()[0], [b"INTERNAL_ERROR"])
        old.wait_for(b"standing by: another server is active")
        self.assertRaises(ConnectionRefusedError, old.connect)
        with new.connect() as client:
            self.assertEqual(client.ask(b"reserve")[1], b"body")

    def test_a_server_that_stands_by_can_be_stopped(self):
        url = fresh_database()
        active = QueueServer(self, "--store", url)
        other = QueueServer(self, "--store", url, stands_by=True)
        self.assertEqual(other.stop(), 0)
        self.assertEqual(active.stop(), 0)

    def test_a_server_whose_session_ends_acknowledges_no_more_and_opens_the_store_again(self):
        url = fresh_database()
        server, record = QueueServer(self, "--store", url), ClientRecord()
        for number in range(3):
            target = record.promises + 100
            load(Backends(server, url), record, f"{number}", lambda: record.wait_for(target))  # noqa: B023
            server.wait_until_active()
            check(self, server, record)
        check_bodies(self, server, record)

    def test_a_server_survives_postgres(self):
        cluster = start_cluster(self)
        server, record = QueueServer(self, "--store", cluster.url()), ClientRecord()
        load(PostgresItself(server, cluster), record, "load", lambda: record.wait_for(200))
        server.wait_for(b"standing by: no connection")
        cluster.start()
        server.wait_until_active()
        check(self, server, record)
        check_bodies(self, server, record)

    def test_mistakes_are_one_line_without_the_password(self):
        address = shared_cluster().url().partition("@")[2]
        for url, problem in (
            (f"postgresql://evserve:secret@{address}x", "does not exist"),
            ("postgresql://evserve:secret@127.0.0.1:1/x", "Connection refused"),
        ):
            error = self.assertRaises(AssertionError, QueueServer, self, "--store", url)
            self.assertIn(problem, str(error))
            self.assertNotIn("sec", str(error))
            problems = [each for each in str(error).splitlines() if " serves " not in each]
            self.assertEqual(len(problems), 1, str(error))


class AddressTests(SynchronousTestCase):
    def test_a_password_is_not_shown(self):
        if postgres is None:
            raise SkipTest("psycopg is not installed")
        address = postgres.Address.parse("postgresql://me:secret@db1,db2/queue?schema=mine")
        self.assertEqual(address.schema, "mine")
        self.assertNotIn("secret", repr(address))
        for url, problem in (
            ("postgresql://me:secret@db/queue?schema=A-b", "a schema is"),
            ("postgresql://me:sec%ret@db/queue", "is not valid"),
            ("postgresql://me:sec@ret@db/queue", "is not valid"),
            ("postgresql://me:sec/ret@db/queue", "is not valid"),
        ):
            error = self.assertRaises(StoreError, postgres.Address.parse, url)
            self.assertIn(problem, str(error))
            self.assertNotIn("sec", str(error))
