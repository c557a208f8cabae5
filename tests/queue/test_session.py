"""What clients see: beanstalkd's verbs, our own, the order of replies, back-pressure, limits."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.queue import store
from evserve.queue.model import Limits
from evserve.queue.store import MemoryStore, Outcome, WriteResult
from tests.queue.memory_server import HeldWriter, MemoryServer


OK_TUBE = b"""---
name: "default"
current-jobs-urgent: 1
current-jobs-ready: 2
current-jobs-reserved: 1
current-jobs-delayed: 1
current-jobs-buried: 1
total-jobs: 6
current-using: 2
current-watching: 2
current-waiting: 0
cmd-delete: 1
cmd-pause-tube: 1
pause: 9
pause-time-left: 8
"""

OK_JOB = b"""---
id: 1
tube: "default"
state: reserved
pri: 7
age: 5
delay: 2
ttr: 60
time-left: 57
file: 0
reserves: 2
timeouts: 0
releases: 1
buries: 0
kicks: 0
"""


class ProducerTests(SynchronousTestCase):
    def setUp(self):
        self.server = MemoryServer()
        self.client = self.server.connect()

    def test_put_gives_ids_in_order(self):
        self.assertEqual(
            self.client.ask(b"put 0 0 1 1\r\na\r\n" * 2), b"INSERTED 1\r\nINSERTED 2\r\n"
        )

    def test_a_ttr_of_0_is_a_second(self):
        self.client.put(ttr=0)
        self.assertIn(b"\nttr: 1\n", self.client.ask(b"stats-job 1\r\n"))

    def test_use_and_list_tube_used(self):
        self.assertEqual(self.client.ask(b"use foo\r\n"), b"USING foo\r\n")
        self.assertEqual(self.client.ask(b"list-tube-used\r\n"), b"USING foo\r\n")

    def test_bodies_that_are_refused_leave_the_connection_usable(self):
        self.assertEqual(
            self.client.ask(b"put 0 0 1 65536\r\n" + b"x" * 65536 + b"\r\nput 0 0 1 1\r\nabc"),
            b"JOB_TOO_BIG\r\nEXPECTED_CRLF\r\n",
        )
        self.client.put(b"x" * 65535)

    def test_draining_refuses_puts_and_nothing_else(self):
        self.client.put()
        self.server.broker.draining = True
        self.assertEqual(
            self.client.ask(b"put 0 0 1 1\r\na\r\nreserve\r\ndelete 1\r\n"),
            b"DRAINING\r\nRESERVED 1 4\r\nbody\r\nDELETED\r\n",
        )
        self.assertIn(b"\ndraining: true\n", self.client.ask(b"stats\r\n"))

    def test_drain_is_for_all_connections_and_can_end(self):
        other = self.server.connect()
        self.assertEqual(other.ask(b"drain on\r\n"), b"DRAIN on\r\n")
        self.assertEqual(self.client.ask(b"put 0 0 1 1\r\na\r\n"), b"DRAINING\r\n")
        self.assertEqual(other.ask(b"drain off\r\n"), b"DRAIN off\r\n")
        self.client.put()

    def test_draining_accepts_the_records_of_buried_events(self):
        self.server.broker.draining = True
        self.client.ask(b"use evserve.errors\r\n")
        self.client.put()

    def test_half_a_put_then_a_disconnect_puts_nothing(self):
        self.client.send(b"put 0 0 1 10\r\nabc")
        self.client.lose()
        self.assertIn(b"current-jobs-ready: 0", self.server.connect().ask(b"stats\r\n"))


class ConsumerTests(SynchronousTestCase):
    def setUp(self):
        self.server = MemoryServer()
        self.client = self.server.connect()
        self.other = self.server.connect()

    def test_the_most_urgent_of_all_watched_tubes_comes_first_then_the_oldest(self):
        for tube, pri in ((b"a", 5), (b"b", 5), (b"a", 4), (b"b", 9)):
            self.other.ask(b"use %b\r\n" % tube)
            self.other.put(pri=pri)
        self.client.ask(b"watch a\r\nwatch b\r\n")
        replies = self.client.ask(b"reserve\r\n" * 4)
        ids = [int(line.split()[1]) for line in replies.split(b"\r\n") if line.startswith(b"RES")]
        self.assertEqual(ids, [3, 1, 2, 4])

    def test_waiting_consumers_are_served_first_come_first_served(self):
        clients = [self.server.connect() for _ in range(3)]
        for client in clients:
            self.assertEqual(client.ask(b"reserve\r\n"), b"")
        for _ in range(2):
            self.other.put()
        self.assertEqual(
            [client.transport.take() for client in clients],
            [b"RESERVED 1 4\r\nbody\r\n", b"RESERVED 2 4\r\nbody\r\n", b""],
        )

    def test_reserve_with_timeout(self):
        self.assertEqual(self.client.ask(b"reserve-with-timeout 0\r\n"), b"TIMED_OUT\r\n")
        self.client.send(b"reserve-with-timeout 2\r\nuse x\r\n")
        self.server.clock.advance(1.9)
        self.assertEqual(self.client.transport.take(), b"")
        self.server.clock.advance(0.1)
        self.assertEqual(self.client.transport.take(), b"TIMED_OUT\r\nUSING x\r\n")

    def test_the_time_to_run_ends_and_another_gets_the_event(self):
        self.other.put(ttr=3)
        self.client.ask(b"reserve\r\n")
        self.other.send(b"reserve\r\n")
        self.server.clock.advance(2.9)
        self.assertEqual(self.other.transport.take(), b"")
        self.server.clock.advance(0.2)
        self.assertEqual(self.other.transport.take(), b"RESERVED 1 4\r\nbody\r\n")
        self.assertEqual(self.client.ask(b"delete 1\r\n"), b"NOT_FOUND\r\n")

    def test_deadline_soon(self):
        self.other.put(ttr=3)
        self.client.ask(b"reserve\r\n")
        self.client.send(b"reserve\r\n")
        self.server.clock.advance(2)
        self.assertEqual(self.client.transport.take(), b"DEADLINE_SOON\r\n")
        self.assertEqual(self.client.ask(b"reserve-with-timeout 9\r\n"), b"DEADLINE_SOON\r\n")
        self.other.put()
        self.assertEqual(self.client.ask(b"reserve\r\n"), b"RESERVED 2 4\r\nbody\r\n")
        self.assertEqual(self.client.ask(b"touch 1\r\n"), b"TOUCHED\r\n")
        self.server.clock.advance(1.5)
        self.assertEqual(self.client.ask(b"delete 1\r\n"), b"DELETED\r\n")

    def test_release_bury_kick_and_their_counters(self):
        self.other.put()
        ask = self.client.ask
        self.assertEqual(ask(b"reserve\r\nrelease 1 7 2\r\n")[-10:], b"RELEASED\r\n")
        self.assertEqual(ask(b"peek-delayed\r\n"), b"FOUND 1 4\r\nbody\r\n")
        self.assertEqual(ask(b"kick 10\r\n"), b"KICKED 1\r\n")
        self.assertEqual(ask(b"reserve\r\nbury 1 8\r\n")[-8:], b"BURIED\r\n")
        self.assertEqual(ask(b"peek-buried\r\n"), b"FOUND 1 4\r\nbody\r\n")
        self.assertEqual(ask(b"kick-job 1\r\n"), b"KICKED\r\n")
        self.assertEqual(ask(b"kick-job 1\r\n"), b"NOT_FOUND\r\n")
        self.assertEqual(ask(b"peek-ready\r\n"), b"FOUND 1 4\r\nbody\r\n")
        stats = ask(b"stats-job 1\r\n")
        self.assertIn(b"reserves: 2\ntimeouts: 0\nreleases: 1\nburies: 1\nkicks: 2\n", stats)
        self.assertIn(b"\npri: 8\n", stats)

    def test_kick_takes_the_buried_and_only_then_the_delayed(self):
        self.other.put()
        self.other.put(delay=9)
        self.assertEqual(
            self.client.ask(b"reserve\r\nbury 1 1\r\nkick 5\r\nkick 5\r\nkick 0\r\n")[-28:],
            b"\r\nKICKED 1\r\nKICKED 1\r\nKICKED 0\r\n"[-28:],
        )

    def test_kick_works_through_any_number(self):
        for _ in range(600):
            self.client.put(delay=100)
        self.assertEqual(self.client.ask(b"kick 599\r\n"), b"KICKED 599\r\n")

    def test_reserve_job(self):
        self.other.put()
        self.other.put(delay=9)
        ask = self.client.ask
        self.assertEqual(ask(b"reserve-job 2\r\n"), b"RESERVED 2 4\r\nbody\r\n")
        self.assertEqual(ask(b"reserve-job 2\r\n"), b"NOT_FOUND\r\n")
        self.assertEqual(ask(b"bury 2 1\r\n"), b"BURIED\r\n")
        self.assertEqual(self.other.ask(b"reserve-job 2\r\n"), b"RESERVED 2 4\r\nbody\r\n")
        self.assertEqual(self.other.ask(b"reserve-job 3\r\n"), b"NOT_FOUND\r\n")

    def test_only_the_owner_may_delete_a_reserved_event(self):
        self.other.put()
        self.client.ask(b"reserve\r\n")
        for command in (b"delete 1", b"release 1 0 0", b"bury 1 0", b"touch 1"):
            self.assertEqual(self.other.ask(command + b"\r\n"), b"NOT_FOUND\r\n")
        self.assertEqual(self.client.ask(b"delete 1\r\n"), b"DELETED\r\n")

    def test_a_disconnect_makes_what_was_reserved_ready(self):
        self.other.put()
        self.client.ask(b"reserve\r\n")
        self.other.send(b"reserve\r\n")
        self.client.lose()
        self.assertEqual(self.other.transport.take(), b"RESERVED 1 4\r\nbody\r\n")

    def test_a_disconnect_while_waiting(self):
        self.client.send(b"reserve\r\n")
        self.client.lose()
        self.other.put()
        self.assertEqual(self.other.ask(b"reserve\r\n"), b"RESERVED 1 4\r\nbody\r\n")

    def test_the_watch_list(self):
        ask = self.client.ask
        self.assertEqual(ask(b"watch a\r\nwatch a\r\n"), b"WATCHING 2\r\nWATCHING 2\r\n")
        self.assertEqual(ask(b"ignore b\r\nignore a\r\n"), b"WATCHING 2\r\nWATCHING 1\r\n")
        self.assertEqual(ask(b"ignore default\r\n"), b"NOT_IGNORED\r\n")
        self.assertEqual(ask(b"list-tubes-watched\r\n"), b"OK 14\r\n---\n- default\n\r\n")

    def test_pause_tube(self):
        self.other.put()
        ask = self.client.ask
        self.assertEqual(ask(b"pause-tube nothing 1\r\n"), b"NOT_FOUND\r\n")
        self.assertEqual(ask(b"pause-tube default 5\r\n"), b"PAUSED\r\n")
        self.assertEqual(ask(b"reserve-with-timeout 0\r\n"), b"TIMED_OUT\r\n")
        self.client.send(b"reserve\r\n")
        self.server.clock.advance(5)
        self.assertEqual(self.client.transport.take(), b"RESERVED 1 4\r\nbody\r\n")

    def test_a_pause_of_0_ends_a_pause(self):
        self.other.put()
        self.client.ask(b"pause-tube default 5\r\n")
        self.client.send(b"reserve\r\n")
        self.other.ask(b"pause-tube default 0\r\n")
        self.assertEqual(self.client.transport.take(), b"RESERVED 1 4\r\nbody\r\n")

    def test_pipelined_commands_see_what_the_same_connection_did_before(self):
        self.assertEqual(
            self.client.ask(
                b"put 1 0 9 1\r\na\r\nreserve\r\nrelease 1 2 0\r\ndelete 1\r\nput 1 0 9 1\r\nb\r\n"
                b"delete 2\r\nput 1 0 9 1\r\nc\r\npeek 3\r\n"
                b"stats-tube none\r\nfoo\r\nquit\r\nfoo\r\n"
            )
            + b"".join(self.turns(8)),
            b"INSERTED 1\r\nRESERVED 1 1\r\na\r\nRELEASED\r\nDELETED\r\nINSERTED 2\r\nDELETED\r\n"
            b"INSERTED 3\r\nFOUND 3 1\r\nc\r\nNOT_FOUND\r\nUNKNOWN_COMMAND\r\n",
        )
        self.assertTrue(self.client.transport.disconnecting)

    def test_any_number_of_cycles_may_be_pipelined(self):
        cycles = (b"put 1 0 9 1\r\na\r\nreserve\r\ndelete %d\r\n" % n for n in range(1, 2001))
        self.assertEqual(self.client.ask(b"".join(cycles)).count(b"DELETED"), 2000)

    def turns(self, count):
        for _ in range(count):
            self.server.turn()
            yield self.client.transport.take()


class StatisticsTests(SynchronousTestCase):
    def setUp(self):
        self.server = MemoryServer()
        self.client = self.server.connect()

    def test_stats_tube_byte_for_byte(self):
        other = self.server.connect()
        for pri, delay in ((1, 0), (2000, 0), (3, 0), (2, 0), (5, 0), (1, 50)):
            self.client.put(pri=pri, delay=delay)
        self.client.ask(b"reserve\r\ndelete 1\r\nreserve\r\nbury 4 1\r\n")
        self.server.turn()
        self.client.ask(b"reserve\r\n")
        other.ask(b"pause-tube default 9\r\n")
        self.server.clock.advance(0.5)
        self.assertEqual(
            self.client.ask(b"stats-tube default\r\n"),
            b"OK %d\r\n%b\r\n" % (len(OK_TUBE), OK_TUBE),
        )

    def test_stats_job_byte_for_byte(self):
        self.client.put()
        self.client.ask(b"reserve\r\nrelease 1 7 2\r\n")
        self.server.clock.advance(2.5)
        self.client.ask(b"reserve\r\n")
        self.server.clock.advance(2.5)
        self.assertEqual(
            self.client.ask(b"stats-job 1\r\n"), b"OK %d\r\n%b\r\n" % (len(OK_JOB), OK_JOB)
        )
        self.assertEqual(self.client.ask(b"stats-job 2\r\n"), b"NOT_FOUND\r\n")

    def test_stats_has_the_keys_of_beanstalkd_in_order(self):
        reply = self.client.ask(b"stats\r\n")
        head, _, data = reply.partition(b"\r\n")
        self.assertEqual(head, b"OK %d" % (len(data) - 2))
        keys = [line.split(b":")[0].decode() for line in data.splitlines()[1:] if line]
        self.assertEqual(keys, KEYS.split())
        self.assertRegex(data, rb'\nversion: "[^"]+"\n')
        self.assertRegex(data, rb"\nrusage-utime: \d+\.\d{6}\n")
        self.assertRegex(data, rb"\nid: [0-9a-f]{16}\n")
        self.assertIn(b"\ncurrent-connections: 1\n", data)
        self.assertIn(b"\ncmd-stats: 1\n", data)

    def test_list_tubes_omits_a_tube_that_no_client_uses(self):
        self.client.ask(b"use a\r\nwatch b\r\n")
        self.assertEqual(
            self.client.ask(b"list-tubes\r\n"), b"OK 22\r\n---\n- default\n- a\n- b\n\r\n"
        )
        self.client.ask(b"use default\r\nignore b\r\n")
        self.assertEqual(self.client.ask(b"list-tubes\r\n"), b"OK 14\r\n---\n- default\n\r\n")


KEYS = """
current-jobs-urgent current-jobs-ready current-jobs-reserved current-jobs-delayed
current-jobs-buried cmd-put cmd-peek cmd-peek-ready cmd-peek-delayed cmd-peek-buried cmd-reserve
cmd-reserve-with-timeout cmd-delete cmd-release cmd-use cmd-watch cmd-ignore cmd-bury cmd-kick
cmd-touch cmd-stats cmd-stats-job cmd-stats-tube cmd-list-tubes cmd-list-tube-used
cmd-list-tubes-watched cmd-pause-tube job-timeouts total-jobs max-job-size current-tubes
current-connections current-producers current-workers current-waiting total-connections pid version
rusage-utime rusage-stime uptime binlog-oldest-index binlog-current-index binlog-records-migrated
binlog-records-written binlog-max-size draining id hostname os platform
"""


PUT = b"put 0 0 60 4\r\nbody\r\n"
FULL = WriteResult(Outcome.FULL, Outcome.COMMITTED)
ALL_FULL = WriteResult(Outcome.FULL, Outcome.FULL)
BROKEN = WriteResult(Outcome.BROKEN, Outcome.BROKEN)


class PromiseTests(SynchronousTestCase):
    def setUp(self):
        self.writer = HeldWriter()
        self.server = MemoryServer(writer=self.writer, store=MemoryStore(durable=True))
        self.client = self.server.connect()

    def commit(self, *written):
        batch = self.writer.finish(*written)
        self.server.turn()
        return batch

    def reserve(self, client=None):
        (client or self.client).ask(PUT)
        self.commit()
        return (client or self.client).ask(b"reserve\r\n")

    def test_no_promise_before_its_commit(self):
        self.assertEqual(self.client.ask(PUT), b"")
        self.commit()
        self.assertEqual(self.client.transport.take(), b"INSERTED 1\r\n")
        self.client.ask(b"reserve\r\n")
        for command, reply in (
            (b"touch 1", b"TOUCHED"),
            (b"release 1 0 0", b"RELEASED"),
            (b"reserve-job 1", b"RESERVED 1 4\r\nbody"),
            (b"bury 1 0", b"BURIED"),
            (b"kick-job 1", b"KICKED"),
            (b"delete 1", b"DELETED"),
        ):
            immediate = command.startswith(b"reserve")
            self.assertEqual(self.client.ask(command + b"\r\n"), (reply + b"\r\n") * immediate)
            if not immediate:
                self.commit()
                self.assertEqual(self.client.transport.take(), reply + b"\r\n")

    def test_no_client_gets_an_event_that_is_not_committed(self):
        other = self.server.connect()
        self.client.ask(PUT)
        self.assertEqual(
            other.ask(b"reserve-with-timeout 0\r\npeek 1\r\n"), b"TIMED_OUT\r\nNOT_FOUND\r\n"
        )
        other.send(b"reserve\r\n")
        self.commit()
        self.assertEqual(other.transport.take(), b"RESERVED 1 4\r\nbody\r\n")

    def test_one_commit_serves_all_that_arrived_during_the_one_before(self):
        clients = [self.server.connect() for _ in range(5)]
        self.client.ask(PUT)
        for client in clients:
            client.ask(PUT)
        self.assertEqual(self.commit().rows, 1)
        self.assertEqual(self.commit().rows, 5)
        self.assertEqual(clients[4].transport.take(), b"INSERTED 6\r\n")

    def test_a_batch_holds_256_entries(self):
        self.client.ask(PUT * 600)
        self.assertEqual([self.commit().rows for _ in range(3)], [256, 256, 88])

    def test_replies_keep_their_order_behind_a_commit(self):
        self.assertEqual(self.client.ask(PUT + b"use a\r\nfoo\r\nwatch a\r\n"), b"")
        self.commit()
        self.assertEqual(
            self.client.transport.take(),
            b"INSERTED 1\r\nUSING a\r\nUNKNOWN_COMMAND\r\nWATCHING 2\r\n",
        )

    def test_a_commit_that_fails_is_not_the_reply_of_a_command_that_needs_none(self):
        self.client.ask(PUT + b"use a\r\n")
        self.commit(ALL_FULL)
        self.assertEqual(self.client.transport.take(), b"OUT_OF_MEMORY\r\nUSING a\r\n")

    def test_commands_that_look_wait_for_what_was_put_before(self):
        for command in (
            *(b"peek 1", b"peek-ready", b"peek-delayed", b"peek-buried", b"stats", b"stats-job 1"),
            *(b"stats-tube default", b"list-tubes", b"pause-tube default 0", b"kick 1"),
            *(b"reserve-with-timeout 0", b"reserve-job 9", b"truncate none"),
        ):
            server = MemoryServer(writer=(writer := HeldWriter()))
            client = server.connect()
            self.assertEqual(client.ask(PUT + command + b"\r\n"), b"")
            writer.finish()
            lines = client.transport.take().split(b"\r\n")
            self.assertEqual(lines[0], b"INSERTED 1")
            self.assertNotEqual(lines[1:], [b""], command)

    def test_a_command_that_waits_comes_before_those_received_later(self):
        self.assertEqual(self.client.ask(b"use a\r\n" + PUT + b"stats-tube a\r\n"), b"USING a\r\n")
        self.assertEqual(self.client.ask(b"use b\r\n"), b"")
        self.commit()
        replies = self.client.transport.take()
        self.assertTrue(replies.startswith(b"INSERTED 1\r\nOK "), replies)
        self.assertTrue(replies.endswith(b"USING b\r\n"), replies)

    def test_a_refused_commit_takes_the_puts_back_and_the_rest_holds(self):
        self.reserve()
        other = self.server.connect()
        other.ask(PUT)
        self.client.ask(b"delete 1\r\n")
        self.commit(FULL)
        self.commit(FULL)
        self.assertEqual(other.transport.take(), b"OUT_OF_MEMORY\r\n")
        self.assertEqual(self.client.transport.take(), b"DELETED\r\n")
        self.assertEqual(other.ask(b"reserve-with-timeout 0\r\n"), b"TIMED_OUT\r\n")
        other.ask(PUT)
        self.commit()
        self.assertEqual(other.transport.take(), b"INSERTED 3\r\n")

    def test_what_could_not_be_written_is_as_before(self):
        for command in (b"delete 1", b"release 1 9 9", b"bury 1 9", b"touch 1"):
            server = MemoryServer(writer=(writer := HeldWriter()))
            client = server.connect()
            client.ask(PUT)
            writer.finish()
            client.ask(b"reserve\r\n" + command + b"\r\n")
            writer.finish(ALL_FULL)
            self.assertTrue(client.transport.take().endswith(b"OUT_OF_MEMORY\r\n"))
            self.assertIn(b"state: reserved\npri: 0\n", client.ask(b"stats-job 1\r\n"))
            client.ask(b"delete 1\r\n")
            writer.finish()
            self.assertEqual(client.transport.take(), b"DELETED\r\n")

    def test_a_broken_store_refuses_changes_and_reserves_still_work(self):
        self.reserve()
        self.client.ask(b"delete 1\r\n")
        self.commit(BROKEN)
        self.assertEqual(self.client.transport.take(), b"INTERNAL_ERROR\r\n")
        self.assertEqual(self.client.ask(PUT), b"INTERNAL_ERROR\r\n")
        self.assertEqual(self.writer.batches, [])
        other = self.server.connect()
        self.client.lose()
        self.assertEqual(other.ask(b"reserve\r\n"), b"RESERVED 1 4\r\nbody\r\n")

    def test_a_release_that_fails_after_its_connection_makes_the_event_ready(self):
        self.reserve()
        self.client.ask(b"release 1 0 50\r\n")
        self.client.lose()
        self.commit(ALL_FULL)
        self.assertEqual(self.server.connect().ask(b"reserve\r\n"), b"RESERVED 1 4\r\nbody\r\n")

    def test_counters_of_reservations_are_written_later_unless_the_event_is_gone(self):
        self.reserve()
        self.assertEqual(self.writer.batches, [])
        self.server.clock.advance(0.1)
        [(batch, _)] = self.writer.batches
        self.assertEqual(batch.updates, [(1, 0, 0, 0, 0.0, 1, 0, 0, 0, 0)])
        self.commit()
        self.client.ask(b"delete 1\r\n")
        self.commit()
        self.assertEqual(self.server.connect().ask(PUT), b"")
        self.commit()
        self.client.ask(b"reserve\r\ndelete 2\r\n")
        self.assertEqual(self.commit().rows, 1)
        self.server.clock.advance(1)
        self.assertEqual(self.writer.batches, [])

    def test_closing_writes_what_is_left(self):
        self.reserve()
        self.client.ask(PUT)
        self.client.lose()
        closed = self.server.broker.close()
        self.server.turn()
        self.assertNoResult(closed)
        while self.writer.batches:
            self.commit()
        self.successResultOf(closed)
        self.assertTrue(self.writer.stopped)
        self.assertEqual(self.server.clock.getDelayedCalls(), [])


class PressureTests(SynchronousTestCase):
    def setUp(self):
        self.writer = HeldWriter()
        self.server = MemoryServer(writer=self.writer)
        self.client = self.server.connect()

    def test_a_client_that_does_not_read_is_not_served(self):
        self.client.protocol.pauseProducing()
        self.assertEqual(self.client.ask(b"stats\r\n" * 3), b"")
        self.client.protocol.resumeProducing()
        self.assertEqual(self.client.transport.take().count(b"OK "), 3)

    def test_a_client_that_sends_while_it_waits_is_not_read_from(self):
        self.client.send(b"reserve\r\n" + b"use a\r\n" * 10_000)
        self.assertEqual(self.client.transport.producerState, "paused")
        other = self.server.connect()
        other.ask(PUT)
        self.writer.finish()
        self.assertEqual(self.client.transport.producerState, "producing")
        self.assertEqual(self.client.transport.take().count(b"USING a\r\n"), 10_000)

    def test_puts_beyond_what_may_be_outstanding_wait_for_commits(self):
        self.client.send(PUT * 4000)
        self.assertEqual(self.client.protocol.session._outstanding, 1024)
        self.assertEqual(self.client.transport.producerState, "producing")
        self.client.send(PUT * 4000)
        self.assertEqual(self.client.transport.producerState, "paused")
        replies = b""
        self.server.turn()
        while self.writer.batches:
            self.writer.finish()
            self.server.turn()
            replies += self.client.transport.take()
        self.assertEqual(replies.count(b"INSERTED"), 8000)
        self.assertEqual(self.client.transport.producerState, "producing")


class EndTests(SynchronousTestCase):
    def setUp(self):
        self.server = MemoryServer()
        self.client = self.server.connect()

    def test_what_was_asked_before_the_end_of_input_is_answered(self):
        self.client.send(PUT + b"reserve\r\ndelete 1\r\n")
        self.client.protocol.readConnectionLost()
        self.assertFalse(self.client.transport.disconnecting)
        self.server.turn()
        self.assertEqual(
            self.client.transport.take(), b"INSERTED 1\r\nRESERVED 1 4\r\nbody\r\nDELETED\r\n"
        )
        self.assertTrue(self.client.transport.disconnecting)

    def test_a_reserve_times_out_when_input_ends(self):
        self.client.send(b"reserve\r\n")
        self.client.protocol.readConnectionLost()
        self.assertEqual(self.client.transport.take(), b"TIMED_OUT\r\n")
        self.assertTrue(self.client.transport.disconnecting)

    def test_a_kick_is_finished_before_the_end(self):
        self.client.put(delay=9)
        self.client.send(b"kick 9\r\n")
        self.client.protocol.readConnectionLost()
        self.server.turn()
        self.assertEqual(self.client.transport.take(), b"KICKED 1\r\n")
        self.assertTrue(self.client.transport.disconnecting)

    def test_a_kick_of_no_event_is_not_the_end(self):
        self.client.send(PUT + b"kick 9\r\nuse a\r\n")
        self.client.protocol.readConnectionLost()
        self.server.turn()
        self.assertEqual(self.client.transport.take(), b"INSERTED 1\r\nKICKED 0\r\nUSING a\r\n")

    def test_nothing_is_carried_out_after_the_write_side_is_lost(self):
        self.client.protocol.writeConnectionLost()
        self.assertEqual(self.client.ask(b"stats\r\n"), b"")
        self.assertTrue(self.client.transport.disconnecting)

    def test_drain_lets_a_consumer_finish_what_it_has(self):
        self.client.put()
        self.client.ask(b"reserve\r\n")
        self.client.protocol.drain()
        self.assertFalse(self.client.transport.disconnecting)
        self.assertEqual(self.client.ask(PUT + b"delete 1\r\n"), b"DRAINING\r\nDELETED\r\n")
        self.assertTrue(self.client.transport.disconnecting)

    def test_drain_closes_a_client_that_only_waits(self):
        self.client.send(b"reserve\r\n")
        self.client.protocol.drain()
        self.assertEqual(self.client.transport.take(), b"")
        self.assertTrue(self.client.transport.disconnecting)

    def test_drain_wakes_a_consumer_that_waits_with_work_in_hand(self):
        self.client.put()
        self.client.ask(b"reserve\r\nreserve\r\n")
        self.client.protocol.drain()
        self.assertEqual(self.client.transport.take(), b"TIMED_OUT\r\n")
        self.assertEqual(self.client.ask(b"delete 1\r\n"), b"DELETED\r\n")
        self.assertTrue(self.client.transport.disconnecting)

    def test_drain_gives_no_more_events(self):
        self.client.put()
        self.client.put()
        self.client.ask(b"reserve\r\n")
        self.client.protocol.drain()
        self.assertEqual(self.client.ask(b"reserve\r\n"), b"TIMED_OUT\r\n")
        self.assertFalse(self.client.transport.disconnecting)

    def test_drain_lets_a_consumer_settle_what_it_has_behind_another_reserve(self):
        """Otherwise its work would be done twice: now, and after the restart."""
        self.client.put()
        self.client.put()
        self.client.ask(b"reserve\r\n")
        self.client.protocol.drain()
        said = self.client.ask(b"reserve\r\nreserve-batch 9 9\r\ndelete 1\r\nreserve\r\n")
        self.assertEqual(said, b"TIMED_OUT\r\nTIMED_OUT\r\nDELETED\r\n")
        self.assertTrue(self.client.transport.disconnecting)

    def test_drain_answers_a_consumer_that_reserves_again_and_again_once_a_second(self):
        self.client.put()
        self.client.ask(b"reserve\r\n")
        self.client.protocol.drain()
        replies = 0
        for _ in range(50):
            while self.client.ask(b"reserve\r\n"):
                replies += 1
            self.server.clock.advance(0.1)
        self.assertLess(replies, 30)
        self.server.clock.advance(1)
        self.client.send(b"delete 1\r\n")
        self.server.clock.pump([1] * 50)
        self.assertTrue(self.client.transport.take().endswith(b"TIMED_OUT\r\nDELETED\r\n"))
        self.assertTrue(self.client.transport.disconnecting)

    def test_a_client_that_has_left_during_a_drain_is_sent_nothing(self):
        self.client.put()
        self.client.ask(b"reserve\r\n")
        self.client.protocol.drain()
        self.client.ask(b"reserve\r\n" * 20)
        self.client.transport.take()
        self.client.lose()
        self.server.clock.advance(1)
        self.assertEqual(self.client.transport.take(), b"")

    def test_drain_closes_a_client_that_can_settle_nothing_any_more(self):
        self.client.put()
        self.client.ask(b"reserve\r\n")
        self.client.protocol.drain()
        self.client.send(b"use a\r\n")
        self.client.protocol.readConnectionLost()
        self.assertEqual(self.client.transport.take(), b"USING a\r\n")
        self.assertTrue(self.client.transport.disconnecting)

    def test_a_client_that_waits_or_holds_an_event_is_busy(self):
        self.assertFalse(self.client.protocol.busy())
        self.client.send(b"reserve\r\n")
        self.assertTrue(self.client.protocol.busy())
        self.server.connect().put()
        self.assertTrue(self.client.protocol.busy())
        self.client.ask(b"delete 1\r\n")
        self.assertFalse(self.client.protocol.busy())

    def test_drain_lets_a_consumer_reserve_a_job_by_id_while_it_has_others(self):
        self.client.put()
        self.client.put()
        self.client.ask(b"reserve\r\n")
        self.client.protocol.drain()
        said = self.client.ask(b"reserve-job 2\r\ndelete 2\r\ndelete 1\r\nreserve-job 3\r\n")
        self.assertEqual(said, b"RESERVED 2 4\r\nbody\r\nDELETED\r\nDELETED\r\n")
        self.assertTrue(self.client.transport.disconnecting)


class FanOutTests(SynchronousTestCase):
    def setUp(self):
        self.server = MemoryServer()
        self.client = self.server.connect()

    def test_a_put_is_copied_into_every_bound_tube(self):
        self.assertEqual(
            self.client.ask(b"bind clicks billing\r\nbind clicks audit\r\nbind clicks audit\r\n"),
            b"BOUND\r\nBOUND\r\nBOUND\r\n",
        )
        self.client.ask(b"use clicks\r\n")
        self.client.put(b"click")
        for tube in (b"clicks", b"billing", b"audit"):
            self.client.ask(b"watch %b\r\n" % tube)
            self.assertIn(b"click\r\n", self.client.ask(b"reserve-from 0\r\n"))
        self.assertEqual(self.client.ask(b"reserve-from 0\r\n"), b"TIMED_OUT\r\n")

    def test_copies_are_not_copied_again(self):
        self.client.ask(b"bind a b\r\nbind b a\r\nuse a\r\n")
        self.client.put()
        self.assertIn(b"\ncurrent-jobs-ready: 2\n", self.client.ask(b"stats\r\n"))

    def test_unbind(self):
        self.client.ask(b"bind a b\r\n")
        self.assertEqual(
            self.client.ask(b"unbind a b\r\nunbind a b\r\n"), b"UNBOUND\r\nNOT_FOUND\r\n"
        )
        self.client.ask(b"use a\r\n")
        self.client.put()
        self.assertEqual(self.client.ask(b"stats-tube b\r\n"), b"NOT_FOUND\r\n")

    def test_bindings_are_listed(self):
        self.client.ask(b"bind b a\r\nbind a c\r\nbind a b\r\n")
        self.assertEqual(
            self.client.ask(b"list-bindings\r\nunbind a b\r\nlist-bindings\r\n"),
            b"OK 22\r\n---\n- a b\n- a c\n- b a\n\r\nUNBOUND\r\nOK 16\r\n---\n- a c\n- b a\n\r\n",
        )

    def test_a_tube_is_not_bound_to_itself(self):
        self.assertEqual(self.client.ask(b"bind a a\r\n"), b"BAD_FORMAT\r\n")

    def test_a_binding_that_cannot_be_stored_does_not_hold(self):
        writer = HeldWriter()
        server = MemoryServer(writer=writer)
        client = server.connect()
        client.ask(b"bind a b\r\n")
        writer.finish(WriteResult(Outcome.FULL, Outcome.FULL))
        self.assertEqual(client.transport.take(), b"OUT_OF_MEMORY\r\n")
        self.assertEqual(server.broker.core.bindings, {})


class ReserveTests(SynchronousTestCase):
    def setUp(self):
        self.server = MemoryServer()
        self.client = self.server.connect()

    def test_reserve_from_names_the_tube(self):
        self.client.ask(b"use a\r\nwatch a\r\n")
        self.client.put()
        self.assertEqual(self.client.ask(b"reserve-from 1\r\n"), b"RESERVED 1 4 a\r\nbody\r\n")

    def test_reserve_batch_takes_what_there_is(self):
        for body in (b"1", b"2", b"3"):
            self.client.put(body)
        self.assertEqual(
            self.client.ask(b"reserve-batch 2 0\r\nreserve-batch 9 0\r\nreserve-batch 9 0\r\n"),
            b"RESERVED_BATCH 2\r\nRESERVED 1 1 default\r\n1\r\nRESERVED 2 1 default\r\n2\r\n"
            b"RESERVED_BATCH 1\r\nRESERVED 3 1 default\r\n3\r\nTIMED_OUT\r\n",
        )

    def test_reserve_batch_waits_for_the_first_event(self):
        self.client.send(b"reserve-batch 5 9\r\n")
        self.server.connect().put(b"x")
        self.assertEqual(
            self.client.transport.take(), b"RESERVED_BATCH 1\r\nRESERVED 1 1 default\r\nx\r\n"
        )

    def test_a_batch_of_0_is_badly_formed(self):
        self.assertEqual(self.client.ask(b"reserve-batch 0 0\r\n"), b"BAD_FORMAT\r\n")


class KeyTests(SynchronousTestCase):
    PUT = b"put-key order-1 0 0 60 1\r\nx\r\n"

    def test_no_second_event_while_one_with_the_key_lives(self):
        client = MemoryServer().connect()
        self.assertEqual(client.ask(self.PUT), b"INSERTED 1\r\n")
        self.assertEqual(client.ask(self.PUT), b"EXISTS 1\r\n")
        client.ask(b"reserve\r\n")
        self.assertEqual(client.ask(self.PUT), b"EXISTS 1\r\n")
        client.ask(b"delete 1\r\n")
        self.assertEqual(client.ask(self.PUT), b"INSERTED 2\r\n")

    def test_the_key_belongs_to_the_tube(self):
        client = MemoryServer().connect()
        client.ask(self.PUT)
        client.ask(b"use other\r\n")
        self.assertEqual(client.ask(self.PUT), b"INSERTED 2\r\n")

    def test_a_key_whose_event_could_not_be_stored_does_not_exist(self):
        self.held()
        self.first.ask(self.PUT)
        self.second.ask(self.PUT)
        self.commit(ALL_FULL)
        self.assertEqual(self.first.transport.take(), b"OUT_OF_MEMORY\r\n")
        self.commit()
        self.assertEqual(self.second.transport.take(), b"INSERTED 2\r\n")

    def held(self):
        self.writer = HeldWriter()
        self.server = MemoryServer(writer=self.writer)
        self.first, self.second = self.server.connect(), self.server.connect()

    def commit(self, *written):
        self.writer.finish(*written)
        self.server.turn()

    def test_a_key_whose_event_is_being_deleted_is_free_once_that_is_committed(self):
        self.held()
        self.first.ask(self.PUT)
        self.commit()
        self.first.transport.take()
        self.first.ask(b"delete 1\r\n" + self.PUT + b"use a\r\n")
        self.second.ask(self.PUT)
        self.second.protocol.readConnectionLost()
        self.commit()
        self.commit()
        self.assertEqual(self.first.transport.take(), b"DELETED\r\nINSERTED 2\r\nUSING a\r\n")
        self.assertEqual(self.second.transport.take(), b"EXISTS 2\r\n")

    def test_a_key_whose_event_could_not_be_deleted_exists(self):
        self.held()
        self.first.ask(self.PUT)
        self.commit()
        self.first.transport.take()
        self.first.ask(b"delete 1\r\n" + self.PUT)
        self.commit(ALL_FULL)
        self.server.turn()
        self.assertEqual(self.first.transport.take(), b"OUT_OF_MEMORY\r\nEXISTS 1\r\n")

    def test_a_store_that_has_failed_promises_no_key(self):
        self.held()
        self.first.ask(self.PUT)
        self.commit()
        self.second.ask(b"delete 1\r\n")
        self.commit(BROKEN)
        self.first.transport.take()
        self.assertEqual(self.first.ask(self.PUT), b"INTERNAL_ERROR\r\n")


class SequenceTests(SynchronousTestCase):
    def setUp(self):
        self.writer = HeldWriter()
        self.server = MemoryServer(writer=self.writer)
        self.clients = [self.server.connect() for _ in range(2)]

    def tick(self, number, client=0):
        wire = b"advance-put ticks %d mail 5 9 4\r\nbody\r\n" % number
        return self.clients[client].ask(wire)

    def commit(self):
        while self.writer.batches:
            self.writer.finish()
            self.server.turn()

    def took(self):
        return [client.transport.take() for client in self.clients]

    def test_of_two_clients_one_advances_once_it_is_committed(self):
        for client in (0, 1):
            self.assertEqual(self.tick(7, client), b"")
        self.assertEqual(self.clients[0].ask(b"use mail\r\npeek-ready\r\n"), b"")
        self.commit()
        first, second = self.took()
        self.assertEqual(first, b"ADVANCED\r\nUSING mail\r\nFOUND 1 4\r\nbody\r\n")
        self.assertEqual(second, b"NOT_ADVANCED\r\n")
        stats = self.clients[0].ask(b"stats-job 1\r\nstats-tube mail\r\nposition ticks\r\n")
        self.assertIn(b"\npri: 5\n", stats)
        self.assertIn(b"\nttr: 9\n", stats)
        self.assertIn(b"\ntotal-jobs: 1\n", stats)
        self.assertTrue(stats.endswith(b"POSITION 7\r\n"))

    def test_if_the_first_fails_the_second_advances(self):
        for client in (0, 1):
            self.tick(7, client)
        self.writer.finish(WriteResult(Outcome.FULL, Outcome.COMMITTED))
        self.server.turn()
        self.commit()
        self.assertEqual(self.took(), [b"OUT_OF_MEMORY\r\n", b"ADVANCED\r\n"])
        self.assertEqual(self.clients[0].ask(b"position ticks\r\n"), b"POSITION 7\r\n")

    def test_a_sequence_that_was_never_advanced(self):
        self.assertEqual(self.clients[0].ask(b"position ticks\r\n"), b"NOT_FOUND\r\n")

    def test_a_drain_refuses_what_would_put(self):
        self.server.broker.draining = True
        self.assertEqual(self.tick(7), b"DRAINING\r\n")
        self.clients[0].ask(b"advance ticks 7\r\n")
        self.writer.finish()
        self.assertEqual(self.took()[0], b"ADVANCED\r\n")
        self.assertEqual(self.tick(7), b"NOT_ADVANCED\r\n")

    def test_a_full_queue_does_not_advance(self):
        server = MemoryServer(Limits(max_events=1))
        client = server.connect()
        wire = b"advance-put ticks %d mail 0 1 1\r\nx\r\n"
        self.assertEqual(client.ask(wire % 1 + wire % 2), b"ADVANCED\r\nOUT_OF_MEMORY\r\n")
        self.assertEqual(client.ask(b"position ticks\r\n"), b"POSITION 1\r\n")


class HistoryTests(SynchronousTestCase):
    def setUp(self):
        self.server = MemoryServer()
        self.client = self.server.connect()

    def test_a_kept_event_with_its_result(self):
        self.client.put(b"\0\xff", pri=3, ttr=7)
        self.server.clock.advance(2)
        self.client.ask(b"reserve\r\n")
        self.server.clock.advance(3)
        self.assertEqual(self.client.ask(b"delete-keep 1 60 2\r\nok\r\n"), b"DELETED\r\n")
        self.assertEqual(
            self.client.history(b"history-tube default 9\r\n"),
            [
                {
                    "id": 1,
                    "tube": "default",
                    "pri": 3,
                    "delay": 0,
                    "ttr": 7,
                    "created": 1_000_000,
                    "reserved_at": 1_000_002,
                    "settled_at": 1_000_005,
                    "reserves": 1,
                    "timeouts": 0,
                    "releases": 0,
                    "buries": 0,
                    "kicks": 0,
                    "outcome": "done",
                    "result": b"ok",
                    "error": "",
                    "body": b"\0\xff",
                }
            ],
        )
        self.assertEqual(self.client.history(b"history-tube other 9\r\n"), [])
        self.server.clock.advance(60)
        self.assertEqual(self.client.history(), [])

    def test_only_its_consumer_can_delete_and_keep_an_event(self):
        self.client.put()
        wire = b"delete-keep 1 60 2\r\nok\r\n"
        self.assertEqual(self.client.ask(wire), b"NOT_FOUND\r\n")
        other = self.server.connect()
        other.ask(b"reserve\r\n")
        self.assertEqual(self.client.ask(wire), b"NOT_FOUND\r\n")
        self.assertEqual(self.client.ask(b"bury-keep 1 0 60 2\r\nno\r\n"), b"NOT_FOUND\r\n")
        self.assertEqual(self.client.history(), [])

    def test_a_buried_event_with_its_reason(self):
        self.client.put()
        self.client.ask(b"reserve\r\n")
        reason = b"no \xff\0"
        self.assertEqual(
            self.client.ask(b"bury-keep 1 0 60 %d\r\n%b\r\n" % (len(reason), reason)),
            b"BURIED\r\n",
        )
        [kept] = self.client.history()
        self.assertEqual((kept["outcome"], kept["error"]), ("buried", "no \\xff\\x00"))

    def test_with_keep_the_server_keeps_what_any_client_handled(self):
        self.server.broker.keep = 60
        for _ in range(4):
            self.client.put()
        self.client.ask(b"reserve-job 1\r\nreserve-job 2\r\nreserve-job 3\r\n")
        self.client.ask(b"delete 1\r\nbury 2 0\r\ndelete 4\r\nrelease 3 0 0\r\ndelete 2\r\n")
        kept = [(each["id"], each["outcome"]) for each in self.client.history()]
        self.assertEqual(kept, [(2, "buried"), (1, "done")])
        self.server.clock.advance(60)
        self.assertEqual(self.client.history(), [])

    def test_the_history_in_memory_is_bounded(self):
        self.patch(store, "_MEMORY_HISTORY", 3)
        self.patch(store, "_MEMORY_HISTORY_BYTES", 1000)
        self.server.broker.keep = 60
        for size in (1, 2, 3, 4, 990):
            event_id = self.client.put(bytes(size))
            self.client.ask(b"reserve\r\ndelete %d\r\n" % event_id)
            sizes = [len(each["body"]) for each in self.client.history()]
        self.assertEqual(sizes, [990, 4, 3])
        self.client.ask(b"put 0 0 9 4\r\nbody\r\nreserve\r\ndelete 6\r\n")
        self.assertEqual([len(each["body"]) for each in self.client.history()], [4, 990, 4])

    def test_a_list_of_large_events_is_shortened(self):
        self.patch(store, "_HISTORY_BYTES", 100)
        self.server.broker.keep = 60
        for size in (1, 60, 60, 200):
            event_id = self.client.put(bytes(size))
            self.client.ask(b"reserve\r\ndelete %d\r\n" % event_id)
        self.assertEqual([len(each["body"]) for each in self.client.history()], [200])


class TruncateTests(SynchronousTestCase):
    def test_everything_that_is_not_reserved_goes(self):
        server = MemoryServer()
        client = server.connect()
        client.ask(b"use t\r\nwatch t\r\n")
        for number in range(600):
            client.put(delay=number % 2)
        client.ask(b"reserve\r\n")
        reply = client.ask(b"truncate t\r\nstats-job 1\r\n")
        self.assertTrue(reply.startswith(b"TRUNCATED 599\r\nOK "), reply)
        self.assertEqual(client.ask(b"truncate none\r\n"), b"NOT_FOUND\r\n")

    def test_a_truncation_that_fails_is_answered_with_the_failure(self):
        writer = HeldWriter()
        server = MemoryServer(writer=writer)
        client = server.connect()
        client.ask(b"put 0 0 1 1\r\nx\r\n")
        writer.finish()
        self.assertEqual(client.ask(b"truncate default\r\n"), b"INSERTED 1\r\n")
        writer.finish(WriteResult(Outcome.BROKEN, Outcome.BROKEN))
        self.assertEqual(client.transport.take(), b"INTERNAL_ERROR\r\n")
        self.assertIn(b"current-jobs-ready: 1", client.ask(b"stats\r\n"))


class LimitTests(SynchronousTestCase):
    PUT = b"put 0 0 60 4\r\nbody\r\n"

    def refused(self, limits, allowed):
        server = MemoryServer(limits)
        client = server.connect()
        replies = client.ask(self.PUT * (allowed + 1))
        self.assertEqual(replies.count(b"INSERTED"), allowed)
        self.assertTrue(replies.endswith(b"OUT_OF_MEMORY\r\n"))
        client.ask(b"reserve\r\ndelete 1\r\n")
        self.assertTrue(client.ask(self.PUT).startswith(b"INSERTED"))
        return client

    def test_room_that_is_being_made_counts(self):
        writer = HeldWriter()
        server = MemoryServer(Limits(max_events=1), writer=writer)
        client = server.connect()
        client.ask(self.PUT)
        writer.finish()
        client.transport.take()
        client.ask(b"delete 1\r\n" + self.PUT)
        for _ in range(2):
            writer.finish()
            server.turn()
        self.assertEqual(client.transport.take(), b"DELETED\r\nINSERTED 2\r\n")

    def test_max_events(self):
        self.refused(Limits(max_events=2), 2)

    def test_max_bytes(self):
        self.refused(Limits(max_bytes=11), 2)

    def test_max_tube_events(self):
        client = self.refused(Limits(max_tube_events=3), 3)
        client.ask(b"use other\r\n")
        self.assertTrue(client.ask(self.PUT).startswith(b"INSERTED"))

    def test_a_full_target_refuses_the_whole_put(self):
        client = self.refused(Limits(max_tube_events=2), 2)
        client.ask(b"bind other default\r\nuse other\r\n")
        self.assertEqual(client.ask(self.PUT), b"OUT_OF_MEMORY\r\n")
        self.assertIn(b"current-jobs-ready: 0", client.ask(b"stats-tube other\r\n"))
