"""What clients of beanstalkd see, over a transport in memory and a clock."""

from twisted.trial.unittest import SynchronousTestCase

from tests.queue.doubles import Rig


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
        self.rig = Rig()
        self.client = self.rig.connect()

    def test_put_gives_ids_in_order(self):
        self.assertEqual(
            self.client.ask(b"put 0 0 1 1\r\na\r\n" * 2), b"INSERTED 1\r\nINSERTED 2\r\n"
        )

    def test_a_ttr_of_nothing_is_a_second(self):
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
        self.rig.engine.draining = True
        self.assertEqual(
            self.client.ask(b"put 0 0 1 1\r\na\r\nreserve\r\ndelete 1\r\n"),
            b"DRAINING\r\nRESERVED 1 4\r\nbody\r\nDELETED\r\n",
        )
        self.assertIn(b"\ndraining: true\n", self.client.ask(b"stats\r\n"))

    def test_half_a_put_then_a_disconnect_puts_nothing(self):
        self.client.send(b"put 0 0 1 10\r\nabc")
        self.client.lose()
        self.assertIn(b"current-jobs-ready: 0", self.rig.connect().ask(b"stats\r\n"))


class ConsumerTests(SynchronousTestCase):
    def setUp(self):
        self.rig = Rig()
        self.client = self.rig.connect()
        self.other = self.rig.connect()

    def test_the_most_urgent_of_all_watched_tubes_comes_first_then_the_oldest(self):
        for tube, pri in ((b"a", 5), (b"b", 5), (b"a", 4), (b"b", 9)):
            self.other.ask(b"use %b\r\n" % tube)
            self.other.put(pri=pri)
        self.client.ask(b"watch a\r\nwatch b\r\n")
        replies = self.client.ask(b"reserve\r\n" * 4)
        ids = [int(line.split()[1]) for line in replies.split(b"\r\n") if line.startswith(b"RES")]
        self.assertEqual(ids, [3, 1, 2, 4])

    def test_waiting_consumers_are_served_first_come_first_served(self):
        clients = [self.rig.connect() for _ in range(3)]
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
        self.rig.clock.advance(1.9)
        self.assertEqual(self.client.transport.take(), b"")
        self.rig.clock.advance(0.1)
        self.assertEqual(self.client.transport.take(), b"TIMED_OUT\r\nUSING x\r\n")

    def test_the_time_to_run_ends_and_another_gets_the_event(self):
        self.other.put(ttr=3)
        self.client.ask(b"reserve\r\n")
        self.other.send(b"reserve\r\n")
        self.rig.clock.advance(2.9)
        self.assertEqual(self.other.transport.take(), b"")
        self.rig.clock.advance(0.2)
        self.assertEqual(self.other.transport.take(), b"RESERVED 1 4\r\nbody\r\n")
        self.assertEqual(self.client.ask(b"delete 1\r\n"), b"NOT_FOUND\r\n")

    def test_deadline_soon(self):
        self.other.put(ttr=3)
        self.client.ask(b"reserve\r\n")
        self.client.send(b"reserve\r\n")
        self.rig.clock.advance(2)
        self.assertEqual(self.client.transport.take(), b"DEADLINE_SOON\r\n")
        self.assertEqual(self.client.ask(b"reserve-with-timeout 9\r\n"), b"DEADLINE_SOON\r\n")
        self.other.put()
        self.assertEqual(self.client.ask(b"reserve\r\n"), b"RESERVED 2 4\r\nbody\r\n")
        self.assertEqual(self.client.ask(b"touch 1\r\n"), b"TOUCHED\r\n")
        self.rig.clock.advance(1.5)
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
        self.rig.clock.advance(5)
        self.assertEqual(self.client.transport.take(), b"RESERVED 1 4\r\nbody\r\n")

    def test_a_pause_of_nothing_ends_a_pause(self):
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
            self.rig.turn()
            yield self.client.transport.take()


class StatisticsTests(SynchronousTestCase):
    def setUp(self):
        self.rig = Rig()
        self.client = self.rig.connect()

    def test_stats_tube_byte_for_byte(self):
        other = self.rig.connect()
        for pri, delay in ((1, 0), (2000, 0), (3, 0), (2, 0), (5, 0), (1, 50)):
            self.client.put(pri=pri, delay=delay)
        self.client.ask(b"reserve\r\ndelete 1\r\nreserve\r\nbury 4 1\r\n")
        self.rig.turn()
        self.client.ask(b"reserve\r\n")
        other.ask(b"pause-tube default 9\r\n")
        self.rig.clock.advance(0.5)
        self.assertEqual(
            self.client.ask(b"stats-tube default\r\n"),
            b"OK %d\r\n%b\r\n" % (len(OK_TUBE), OK_TUBE),
        )

    def test_stats_job_byte_for_byte(self):
        self.client.put()
        self.client.ask(b"reserve\r\nrelease 1 7 2\r\n")
        self.rig.clock.advance(2.5)
        self.client.ask(b"reserve\r\n")
        self.rig.clock.advance(2.5)
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

    def test_list_tubes_forgets_a_tube_that_nobody_uses(self):
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
