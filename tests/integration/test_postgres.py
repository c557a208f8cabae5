"""The engine for postgresql:// against servers of its own."""

import socket
from threading import Thread
from urllib.parse import urlencode

import psycopg
from psycopg.pq import PGconn
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from evserve.events import (
    BadEvent,
    BadQueueURL,
    Depth,
    NotReserved,
    QueueClosed,
    QueueFull,
    QueueUnavailable,
    open_queue,
)
from evserve.events.postgres import PostgresQueue, engine, parse_url, schema, session
from tests.documents import Page
from tests.events.conformance import EventQueueConformance
from tests.integration.postgres import fresh_database, shared_cluster, url_of


class ConformanceTests(EventQueueConformance, TestCase):
    database = None

    def make_queue(self):
        ConformanceTests.database = ConformanceTests.database or fresh_database()
        return open_queue(self.database, reactor)

    def connect(self):
        connection = psycopg.connect(self.database)
        self.addCleanup(connection.close)
        return connection


class PostgresCase(TestCase):
    def setUp(self):
        self.url = fresh_database()

    def open(self, **parameters):
        queue = open_queue(self.with_(**parameters), reactor)
        self.addCleanup(queue.close)
        return queue

    def impatient(self, url):
        queue = PostgresQueue(*parse_url(url), reactor, patience=0.1)
        self.addCleanup(queue.close)
        return queue

    def with_(self, **parameters):
        return f"{self.url}?{urlencode(parameters)}" if parameters else self.url

    def connect(self):
        """Return somebody else's connection, which commits when it is told to."""
        connection = psycopg.connect(self.url)
        self.addCleanup(connection.close)
        return connection

    def sql(self, statement, *values):
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def without_polls(self):
        """Let those who wait look for events only when they are told."""
        self.patch(engine, "POLL", 3600.0)

    def terminate(self):
        """End the connections of every engine."""
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'evserve'"
        )

    async def until(self, statement, *rows):
        """Return once a statement has these rows."""
        while self.sql(statement) != list(rows):
            await deferLater(reactor, 0.01)

    async def failure_of(self, kind, deferred):
        message = str(await self.assertFailure(deferred, kind))
        self.assertEqual(len(message.splitlines()), 1, message)
        return message


class SchemaTests(PostgresCase):
    async def test_twenty_that_start_at_once_make_the_schema_once(self):
        failed = []
        self.patch(session._log, "warn", lambda _, **fields: failed.append(fields))
        queues = [self.open() for _ in range(20)]
        ids = await gatherResults([queue.put("a", b"") for queue in queues])
        self.assertEqual(len(set(ids)), 20)
        self.assertEqual(self.sql("SELECT number FROM evserve.version"), [(1,)])
        self.assertEqual(failed, [])

    async def test_an_older_schema_is_migrated_by_one_of_many(self):
        await self.open().put("a", b"old")
        newer = (*schema.MIGRATIONS, "ALTER TABLE {schema}.event ADD COLUMN colour text")
        failures = []

        def migrate():
            try:
                schema.prepare_schema(PGconn.connect(self.url.encode()), "evserve", newer)
            except Exception as error:
                failures.append(error)

        threads = [Thread(target=migrate) for _ in range(5)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        self.assertEqual(failures, [])
        self.assertEqual(self.sql("SELECT number FROM evserve.version"), [(2,)])
        self.assertEqual(self.sql("SELECT body, colour FROM evserve.event"), [(b"old", None)])

    async def test_a_newer_schema_is_refused(self):
        await self.open().put("a", b"")
        self.sql("UPDATE evserve.version SET number = 99")
        message = await self.failure_of(QueueUnavailable, self.open().put("a", b""))
        self.assertIn("version 99", message)
        self.assertIn("update evserve", message)

    async def test_an_encoding_that_lacks_characters_is_refused(self):
        self.sql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        self.addCleanup(self.sql, "DROP DATABASE latin WITH (FORCE)")
        queue = self.impatient(f"{self.url.rpartition('/')[0]}/latin")
        while "no answer" in (message := await self.failure_of(QueueUnavailable, queue.types())):
            pass
        self.assertIn("UTF8", message)

    async def test_schemas_of_one_database_are_queues_of_their_own(self):
        first, second = self.open(schema="one"), self.open(schema="user")
        await first.put("a", b"")
        self.assertEqual(await second.depth("a"), Depth())
        self.assertEqual(await first.depth("a"), Depth(ready=1))

    async def test_the_rights_that_the_page_grants_are_enough(self):
        await self.open().types()
        self.sql("CREATE ROLE shop")
        for language, text in Page("docs/queue-postgres.md").blocks:
            if language == "sql":
                self.sql(text)
        application = self.connect()
        application.execute("SET ROLE shop")
        application.execute("SELECT evserve.put('a', '1')")
        application.commit()
        self.url = self.url.replace("evserve@", "jobs@")
        queue = self.open()
        await queue.put("a", b"2")
        first, second = await queue.reserve_many(["a"], 2)
        await gatherResults([queue.ack(first, keep=1000), queue.bury(second, "no")])
        await queue.advance("s", 1, "a", b"3")
        await queue.bind("a", "b")
        await queue.pause("b", 1)
        await queue.kick("a", 1)
        await queue.truncate("a")
        self.assertEqual(len(await queue.history()), 1)

    async def test_a_queue_server_has_the_schema_alone(self):
        other = self.connect()
        other.execute("SELECT pg_advisory_lock(%s)", [schema.server_lock("evserve")])
        message = await self.failure_of(QueueUnavailable, self.open().put("a", b""))
        self.assertIn("beanstalk://", message)


class URLTests(PostgresCase):
    async def refusal(self, call):
        """Return why a call fails, once an attempt to connect has ended."""
        while "no answer" in (message := await self.failure_of(QueueUnavailable, call())):
            pass
        return message

    def test_a_bad_url_is_refused_without_its_password(self):
        for url in (
            "postgresql://me:s3cret@host:port/db",
            "postgresql://me:s3cret@host/db?colour=red",
            "postgresql://me:s3cret@[host/db",
            "postgresql://me:s3cret@host/db?schema=Upper",
            "postgresql://me:s3cret@host/db?schema=pg_catalog",
            "postgresql://me:s3cret@host/db?schema=",
            "postgresql://me:s3cret@host..example/db",
            "postgresql://me:s3cret@host/db%FF",
        ):
            error = self.assertRaises(BadQueueURL, open_queue, url, reactor)
            self.assertNotIn("s3cret", str(error))
            self.assertEqual(len(str(error).splitlines()), 1)

    def test_several_hosts_need_no_ports(self):
        _, _, where = parse_url("postgresql://db1,db2/shop?target_session_attrs=read-write")
        self.assertEqual(where, "the queue at postgresql://db1,db2/shop")

    async def test_a_wrong_password_is_told_without_it(self):
        cluster = shared_cluster()
        cluster.query("DROP ROLE IF EXISTS careful")
        cluster.add_role("careful", "right")
        url = self.url.replace("evserve@", "careful:s3cret@")
        queue = self.impatient(url)
        message = await self.refusal(lambda: queue.put("a", b""))
        self.assertIn("careful", message)
        self.assertNotIn("s3cret", message)

    async def test_a_wrong_option_is_named(self):
        queue = self.impatient("postgresql://127.0.0.1:1/db?connect_timeout=soon")
        message = await self.refusal(lambda: queue.put("a", b""))
        self.assertIn("connect_timeout", message)

    async def test_what_psycopg_refuses_is_told(self):
        url = parse_url("postgresql://host/db")
        queue = PostgresQueue("postgresql://host..example/db", *url[1:], reactor, patience=0.1)
        self.addCleanup(queue.close)
        self.assertIn("idna", await self.refusal(queue.types))

    async def test_a_server_that_is_away_is_named(self):
        queue = self.impatient("postgresql://me:s3cret@127.0.0.1:1/db")
        for call in (
            lambda: queue.put("a", b""),
            lambda: queue.reserve(["a"]),
            lambda: queue.depth("a"),
        ):
            message = await self.refusal(call)
            self.assertIn("Connection refused", message)
            self.assertIn("postgresql://127.0.0.1/db", message)
            self.assertNotIn("s3cret", message)


class SharingTests(PostgresCase):
    async def test_who_waits_is_woken_by_another_engine(self):
        self.without_polls()
        first, second = self.open(), self.open()
        await gatherResults([first.types(), second.types()])
        waiting = first.reserve(["a"])
        await second.put("a", b"1")
        event = await waiting
        self.assertEqual(event.body, b"1")
        waiting = second.reserve(["a"])
        await first.retry(event)
        self.assertEqual((await waiting).attempts, 2)

    async def test_who_waits_is_woken_by_put_in_sql(self):
        self.without_polls()
        queue = self.open()
        await queue.bind("a", "copy")
        waiting = [queue.reserve(["a"]), queue.reserve(["copy"])]
        [(number,)] = self.sql("SELECT evserve.put('a', 'x', priority => 7, key => 'k')")
        event, copy = await gatherResults(waiting)
        self.assertEqual((event.id, event.body, event.priority), (str(number), b"x", 7))
        self.assertEqual((copy.body, copy.priority), (b"x", 7))
        self.assertEqual(self.sql("SELECT evserve.put('a', 'y', key => 'k')"), [(number,)])
        self.sql("SELECT evserve.put('a', 'later', delay => 0.1)")
        self.assertEqual((await queue.reserve(["a"])).body, b"later")

    async def test_who_was_passed_over_looks_again(self):
        """Others lock the first event of each type while they take one."""
        self.without_polls()
        self.patch(engine, "LOOK_AGAIN", 3600.0)
        queue, other = self.open(), self.connect()
        waiting = queue.reserve(["a", "b"])
        await queue.put("c", b"")
        self.sql("INSERT INTO evserve.event (type, body) VALUES ('b', '')")
        other.execute("SELECT FROM evserve.event WHERE type = 'b' FOR UPDATE")
        self.sql("SELECT pg_notify('evserve', 'b')")
        while queue._look_call is None:
            await deferLater(reactor, 0.01)
        await queue.put("c", b"")  # after it has looked
        other.rollback()
        queue._look_call.reset(0)
        self.assertEqual((await waiting).type, "b")

    async def test_notifications_of_strangers_are_ignored(self):
        queue = self.open()
        await queue.types()
        session = queue._sessions.session
        for payload in ("@", "@x", "@nan", "@-1", "@inf", "", "é"):
            self.sql("SELECT pg_notify('evserve', %s)", payload)
        self.sql("SELECT evserve.put('a', '')")
        await queue.reserve(["a"])
        self.assertIs(queue._sessions.session, session)

    async def test_put_in_sql_uses_nothing_of_the_callers_search_path(self):
        await self.open().types()
        self.sql(
            "CREATE SCHEMA trap; CREATE FUNCTION trap.spring(float8, integer) RETURNS boolean "
            "LANGUAGE plpgsql AS $$BEGIN RAISE 'sprung'; END$$; CREATE OPERATOR trap.>= "
            "(LEFTARG = float8, RIGHTARG = integer, FUNCTION = trap.spring)"
        )
        caller = self.connect()
        caller.execute("SET search_path = trap")
        caller.execute("SELECT evserve.put('a', '')")

    async def test_put_in_sql_refuses_what_put_refuses(self):
        await self.open().drain(on=True)
        with self.assertRaisesRegex(psycopg.errors.ConfigurationLimitExceeded, "draining"):
            self.sql("SELECT evserve.put('a', '')")
        for arguments in ("'a b', ''", "'a', '', -1", "'a', '', 1, 'nan'", "'a', '', ttr => 0"):
            with self.assertRaises(psycopg.errors.InvalidParameterValue):
                self.sql(f"SELECT evserve.put({arguments})")

    async def test_who_dies_gives_its_events_back(self):
        self.patch(engine, "POLL", 0.05)
        self.patch(engine, "OWNERS_INTERVAL", 0.05)
        dying, living = self.open(), self.open()
        await dying.put("a", b"", ttr=10000)
        late = await dying.reserve(["a"])
        dying._sessions.close(QueueClosed("it died"))
        dying._fast.lost()
        event = await living.reserve(["a"])
        self.assertEqual((event.id, event.attempts, event.timeouts), (late.id, 2, 0))
        await self.until("SELECT count(*) FROM evserve.owner", (1,))

    async def test_who_only_connects_again_is_not_taken_for_dead(self):
        """Looks at the owners that were held up are not answered all at once."""
        self.without_polls()
        away, living, other = self.open(), self.open(), self.connect()
        await away.put("a", b"", ttr=10000)
        await away.reserve(["a"])
        await living.types()
        self.patch(engine, "OWNERS_INTERVAL", 0.0)
        other.execute("LOCK TABLE evserve.owner")
        away._sessions.close(QueueClosed("it is away"))
        for _ in range(3):
            living._look_after_others(reactor.seconds())
        other.rollback()
        await living.types()
        await living.types()
        self.assertEqual(self.sql("SELECT count(*) FROM evserve.owner"), [(2,)])
        self.assertEqual(await living.depth("a"), Depth(reserved=1))

    async def test_who_closes_gives_its_events_back(self):
        self.without_polls()
        leaving, staying = self.open(), self.open()
        await gatherResults([leaving.put("a", b"", ttr=10000) for _ in range(3)])
        await leaving.reserve_many(["a"], 3)
        waiting = staying.reserve_many(["a"], 3)
        await staying.put("b", b"")  # after it has looked
        await leaving.close()
        self.assertEqual(len(await waiting), 3)


class LostConnectionTests(PostgresCase):
    async def test_unfinished_calls_fail_and_nothing_is_repeated(self):
        queue = self.open()
        await queue.put("a", b"held")
        held = await queue.reserve(["a"])
        other = self.connect()
        other.execute("LOCK TABLE evserve.event")
        lost = [queue.put("a", b"lost"), queue.reserve(["a"]), queue.depth("a")]
        await self.until("SELECT count(*) FROM pg_locks WHERE NOT granted", (2,))
        self.terminate()
        for each in lost:
            await self.failure_of(QueueUnavailable, each)
        other.rollback()
        await queue.put("b", b"later")
        self.assertEqual(await queue.depth("a"), Depth(reserved=1))
        await queue.ack(held)
        self.assertEqual(await queue.depth("a"), Depth())
        self.assertEqual((await queue.reserve(["b"])).body, b"later")

    async def test_a_reservation_whose_answer_was_lost_is_given_back(self):
        queue = self.open()
        await queue.put("a", b"", ttr=10000)
        self.sql(
            "UPDATE evserve.event SET state = 1, attempts = 1, owner = (SELECT id FROM "
            "evserve.owner), due = now() + interval '1 hour'"
        )
        self.terminate()
        await self.until("SELECT state FROM evserve.event", (0,))
        event = await queue.reserve(["a"])
        self.assertEqual(event.attempts, 2)

    async def test_a_commit_that_was_not_replicated_is_not_acknowledged(self):
        cluster, queue = shared_cluster(), self.open()
        await queue.put("a", b"")
        self.addCleanup(cluster.configure, synchronous_standby_names="")
        cluster.configure(synchronous_standby_names="nobody")
        unreplicated = queue.put("a", b"")
        cancel = (
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event = 'SyncRep'"
        )
        while not self.sql(cancel):
            if unreplicated.called:  # the server reads its settings in the background
                unreplicated = queue.put("a", b"")
            await deferLater(reactor, 0.01)
        message = await self.failure_of(QueueUnavailable, unreplicated)
        self.assertIn("synchronous replication", message)

    async def test_hosts_that_do_not_answer_take_their_time(self):
        self.patch(session, "SETUP_TIME", 0.1)
        silent = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(silent.close)
        addresses = [silent.getsockname(), ("127.0.0.1", shared_cluster().port)]
        database = self.url.rpartition("/")[2]
        url = url_of(addresses, database, connect_timeout=2)
        queue = open_queue(url, reactor)
        self.addCleanup(queue.close)
        put = queue.put("a", b"")
        self.patch(session, "SETUP_TIME", 15.0)  # from when the silent host has had its 0.1 s
        await put


class BatchTests(PostgresCase):
    async def test_a_call_that_fails_does_not_fail_its_neighbours(self):
        queue = self.open()
        await queue.put("a", b"")
        event = await queue.reserve(["a"])
        await queue.drain(on=True)
        refused = queue.advance("s", 1, "a")
        await queue.ack(event)
        await self.failure_of(QueueFull, refused)
        self.assertEqual(await queue.depth("a"), Depth())

    async def test_who_has_a_key_in_an_open_transaction_delays_no_other_key_for_long(self):
        settings = session._SETTINGS.replace("lock_timeout = '2s'", "lock_timeout = '50ms'")
        self.patch(session, "_SETTINGS", settings)
        queue = self.open()
        await queue.types()
        other = self.connect()
        other.execute("SELECT evserve.put('a', '', key => 'taken')")
        locked = queue.put("a", b"", key="taken")
        free = queue.put("a", b"", key="free")
        await self.failure_of(QueueUnavailable, locked)
        await free
        other.rollback()
        await queue.put("a", b"", key="taken")
        self.assertEqual(await queue.depth("a"), Depth(ready=2))

    async def test_an_event_reserved_by_its_id_at_first_can_be_settled(self):
        number = await self.open().put("a", b"")
        queue = self.open()
        await queue.ack(await queue.reserve_event(number))

    async def test_an_event_whose_reserve_event_was_cancelled_is_ready(self):
        queue = self.open()
        number = await queue.put("a", b"", ttr=10000)
        cancelled = queue.reserve_event(number)
        cancelled.cancel()
        await self.assertFailure(cancelled, CancelledError)
        self.assertEqual((await queue.reserve(["a"])).id, number)

    async def test_an_event_that_could_not_be_settled_is_ready_again(self):
        settings = session._SETTINGS.replace("lock_timeout = '2s'", "lock_timeout = '50ms'")
        self.patch(session, "_SETTINGS", settings)
        self.patch(engine, "POLL", 0.05)
        queue = self.open()
        await queue.put("a", b"", ttr=10000)
        event = await queue.reserve(["a"])
        other = self.connect()
        other.execute("LOCK TABLE evserve.event IN SHARE MODE")
        await self.failure_of(QueueUnavailable, queue.ack(event))
        other.rollback()
        self.assertEqual((await queue.reserve(["a"])).attempts, 2)

    async def test_verbs_that_share_a_commit_all_take_effect(self):
        queue = self.open()
        await gatherResults([queue.put("a", b"%d" % number) for number in range(6)])
        events = await queue.reserve_many(["a"], 6)
        numbers = await gatherResults(
            [
                queue.put("b", b"1"),
                queue.put("b", b"2", key="k"),
                queue.put("b", b"3", delay=1000),
                queue.put("b", b"4", key="k"),
                queue.ack(events[0]),
                queue.ack(events[1], result=b"done", keep=1000),
                queue.retry(events[2]),
                queue.retry(events[3], 1000),
                queue.bury(events[4], "no"),
                queue.touch(events[5]),
                queue.advance("s", 1, "b", b"5"),
                queue.reserve(["b"]),
            ]
        )
        self.assertEqual(numbers[1], numbers[3])
        self.assertEqual(numbers[-1].body, b"1")
        expected = Depth(ready=1, reserved=1, delayed=1, buried=1)
        self.assertEqual(await queue.depth("a"), expected)
        self.assertEqual(await queue.depth("b"), Depth(ready=2, reserved=1, delayed=1))
        bodies = [each.body for each in await queue.reserve_many(["b"], 9)]
        self.assertEqual(bodies, [b"2", b"5"])
        self.assertEqual(len(await queue.history("a")), 1)

    async def test_large_numbers_go_in_chunks(self):
        self.patch(engine, "CHUNK", 3)
        queue = self.open()
        for delay in (0, 1000):
            puts = [queue.put("a", b"", delay=delay) for _ in range(8)]
            await gatherResults(puts)
        self.assertEqual(await queue.kick("a", 4), 4)
        self.assertEqual(await queue.kick("a", 2**32 - 1), 4)
        await gatherResults([queue.put("a", b"", delay=1000) for _ in range(7)])
        self.assertEqual(await queue.truncate("a"), 23)
        self.assertEqual(await queue.types(), [])

    async def test_a_body_too_large_is_refused(self):
        self.patch(engine, "MAX_BODY", 10)
        await self.failure_of(BadEvent, self.open().put("a", bytes(11)))

    async def test_of_two_reservations_of_an_event_the_older_one_proves_nothing(self):
        """As after a crash of the server, which may have forgotten the first one."""
        queue = self.open()
        await queue.put("a", b"")
        first = await queue.reserve(["a"])
        self.sql("UPDATE evserve.event SET state = 0, attempts = 0, owner = NULL, due = NULL")
        second = await queue.reserve(["a"])
        await self.failure_of(NotReserved, queue.ack(first))
        await queue.ack(second)
