"""How commands and replies flow: promises, order, back-pressure, ends."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.queue.store import MemoryStore, Outcome, Written
from tests.queue.doubles import Rig, SlowWriter


PUT = b"put 0 0 60 4\r\nbody\r\n"
FULL = Written(Outcome.FULL, Outcome.COMMITTED)
ALL_FULL = Written(Outcome.FULL, Outcome.FULL)
BROKEN = Written(Outcome.BROKEN, Outcome.BROKEN)


class PromiseTests(SynchronousTestCase):
    def setUp(self):
        self.writer = SlowWriter()
        self.rig = Rig(writer=self.writer, store=MemoryStore(durable=True))
        self.client = self.rig.connect()

    def commit(self, *written):
        batch = self.writer.finish(*written)
        self.rig.turn()
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

    def test_nobody_gets_an_event_that_is_not_committed(self):
        other = self.rig.connect()
        self.client.ask(PUT)
        self.assertEqual(
            other.ask(b"reserve-with-timeout 0\r\npeek 1\r\n"), b"TIMED_OUT\r\nNOT_FOUND\r\n"
        )
        other.send(b"reserve\r\n")
        self.commit()
        self.assertEqual(other.transport.take(), b"RESERVED 1 4\r\nbody\r\n")

    def test_one_commit_serves_all_that_arrived_during_the_one_before(self):
        clients = [self.rig.connect() for _ in range(5)]
        self.client.ask(PUT)
        for client in clients:
            client.ask(PUT)
        self.assertEqual(self.commit().rows, 1)
        self.assertEqual(self.commit().rows, 5)
        self.assertEqual(clients[4].transport.take(), b"INSERTED 6\r\n")

    def test_a_batch_holds_so_many_and_no_more(self):
        self.client.ask(PUT * 600)
        self.assertEqual([self.commit().rows for _ in range(3)], [256, 256, 88])

    def test_replies_keep_their_order_behind_a_commit(self):
        self.assertEqual(self.client.ask(PUT + b"use a\r\nfoo\r\nwatch a\r\n"), b"")
        self.commit()
        self.assertEqual(
            self.client.transport.take(),
            b"INSERTED 1\r\nUSING a\r\nUNKNOWN_COMMAND\r\nWATCHING 2\r\n",
        )

    def test_commands_that_look_wait_for_what_was_put_before(self):
        for command in (
            *(b"peek 1", b"peek-ready", b"peek-delayed", b"peek-buried", b"stats", b"stats-job 1"),
            *(b"stats-tube default", b"list-tubes", b"pause-tube default 0", b"kick 1"),
            *(b"reserve-with-timeout 0", b"reserve-job 9", b"truncate none"),
        ):
            rig = Rig(writer=(writer := SlowWriter()))
            client = rig.connect()
            self.assertEqual(client.ask(PUT + command + b"\r\n"), b"")
            writer.finish()
            lines = client.transport.take().split(b"\r\n")
            self.assertEqual(lines[0], b"INSERTED 1")
            self.assertNotEqual(lines[1:], [b""], command)

    def test_a_refused_commit_takes_the_puts_back_and_the_rest_holds(self):
        self.reserve()
        other = self.rig.connect()
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
            rig = Rig(writer=(writer := SlowWriter()))
            client = rig.connect()
            client.ask(PUT)
            writer.finish()
            client.ask(b"reserve\r\n" + command + b"\r\n")
            writer.finish(ALL_FULL)
            self.assertTrue(client.transport.take().endswith(b"OUT_OF_MEMORY\r\n"))
            self.assertIn(b"state: reserved\npri: 0\n", client.ask(b"stats-job 1\r\n"))
            client.ask(b"delete 1\r\n")
            writer.finish()
            self.assertEqual(client.transport.take(), b"DELETED\r\n")

    def test_a_broken_store_answers_so_from_then_on_and_reserves_go_on(self):
        self.reserve()
        self.client.ask(b"delete 1\r\n")
        self.commit(BROKEN)
        self.assertEqual(self.client.transport.take(), b"INTERNAL_ERROR\r\n")
        self.assertEqual(self.client.ask(PUT), b"INTERNAL_ERROR\r\n")
        self.assertEqual(self.writer.batches, [])
        other = self.rig.connect()
        self.client.lose()
        self.assertEqual(other.ask(b"reserve\r\n"), b"RESERVED 1 4\r\nbody\r\n")

    def test_a_release_that_fails_after_its_connection_makes_the_event_ready(self):
        self.reserve()
        self.client.ask(b"release 1 0 50\r\n")
        self.client.lose()
        self.commit(ALL_FULL)
        self.assertEqual(self.rig.connect().ask(b"reserve\r\n"), b"RESERVED 1 4\r\nbody\r\n")

    def test_counters_of_reservations_are_written_later_unless_the_event_is_gone(self):
        self.reserve()
        self.assertEqual(self.writer.batches, [])
        self.rig.clock.advance(0.1)
        [(batch, _)] = self.writer.batches
        self.assertEqual(batch.updates, [(1, 0, 0, 0, 0.0, 1, 0, 0, 0, 0)])
        self.commit()
        self.client.ask(b"delete 1\r\n")
        self.commit()
        self.assertEqual(self.rig.connect().ask(PUT), b"")
        self.commit()
        self.client.ask(b"reserve\r\ndelete 2\r\n")
        self.assertEqual(self.commit().rows, 1)
        self.rig.clock.advance(1)
        self.assertEqual(self.writer.batches, [])

    def test_closing_writes_what_is_left(self):
        self.reserve()
        self.client.ask(PUT)
        self.client.lose()
        closed = self.rig.engine.close()
        self.rig.turn()
        self.assertNoResult(closed)
        while self.writer.batches:
            self.commit()
        self.successResultOf(closed)
        self.assertTrue(self.writer.stopped)
        self.assertEqual(self.rig.clock.getDelayedCalls(), [])


class PressureTests(SynchronousTestCase):
    def setUp(self):
        self.writer = SlowWriter()
        self.rig = Rig(writer=self.writer)
        self.client = self.rig.connect()

    def test_a_client_that_does_not_read_is_not_served(self):
        self.client.protocol.pauseProducing()
        self.assertEqual(self.client.ask(b"stats\r\n" * 3), b"")
        self.client.protocol.resumeProducing()
        self.assertEqual(self.client.transport.take().count(b"OK "), 3)

    def test_a_client_that_sends_while_it_waits_is_not_read_from(self):
        self.client.send(b"reserve\r\n" + b"use a\r\n" * 10_000)
        self.assertEqual(self.client.transport.producerState, "paused")
        other = self.rig.connect()
        other.ask(PUT)
        self.writer.finish()
        self.assertEqual(self.client.transport.producerState, "producing")
        self.assertEqual(self.client.transport.take().count(b"USING a\r\n"), 10_000)

    def test_puts_beyond_what_may_be_outstanding_wait_for_commits(self):
        self.client.send(PUT * 4000)
        self.assertEqual(self.client.protocol.session.outstanding, 1024)
        self.assertEqual(self.client.transport.producerState, "producing")
        self.client.send(PUT * 4000)
        self.assertEqual(self.client.transport.producerState, "paused")
        replies = b""
        self.rig.turn()
        while self.writer.batches:
            self.writer.finish()
            self.rig.turn()
            replies += self.client.transport.take()
        self.assertEqual(replies.count(b"INSERTED"), 8000)
        self.assertEqual(self.client.transport.producerState, "producing")


class EndTests(SynchronousTestCase):
    def setUp(self):
        self.rig = Rig()
        self.client = self.rig.connect()

    def test_what_was_asked_before_the_end_of_input_is_answered(self):
        self.client.send(PUT + b"reserve\r\ndelete 1\r\n")
        self.client.protocol.readConnectionLost()
        self.assertFalse(self.client.transport.disconnecting)
        self.rig.turn()
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
        self.rig.turn()
        self.assertEqual(self.client.transport.take(), b"KICKED 1\r\n")
        self.assertTrue(self.client.transport.disconnecting)

    def test_nobody_hears_us(self):
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

    def test_drain_closes_who_only_waits(self):
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
        """Or its work would be done twice: here, and after the restart."""
        self.client.put()
        self.client.put()
        self.client.ask(b"reserve\r\n")
        self.client.protocol.drain()
        said = self.client.ask(b"reserve\r\nreserve-batch 9 9\r\ndelete 1\r\nreserve\r\n")
        self.assertEqual(said, b"TIMED_OUT\r\nTIMED_OUT\r\nDELETED\r\n")
        self.assertTrue(self.client.transport.disconnecting)

    def test_drain_lets_a_consumer_name_an_event_while_it_has_others(self):
        self.client.put()
        self.client.put()
        self.client.ask(b"reserve\r\n")
        self.client.protocol.drain()
        said = self.client.ask(b"reserve-job 2\r\ndelete 2\r\ndelete 1\r\nreserve-job 3\r\n")
        self.assertEqual(said, b"RESERVED 2 4\r\nbody\r\nDELETED\r\nDELETED\r\n")
        self.assertTrue(self.client.transport.disconnecting)
