"""The verbs that beanstalkd does not have, and the limits."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.queue.model import Limits
from evserve.queue.store import Outcome, Written
from tests.queue.doubles import Rig, SlowWriter


class FanOutTests(SynchronousTestCase):
    def setUp(self):
        self.rig = Rig()
        self.client = self.rig.connect()

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

    def test_a_tube_is_not_bound_to_itself(self):
        self.assertEqual(self.client.ask(b"bind a a\r\n"), b"BAD_FORMAT\r\n")

    def test_a_binding_that_cannot_be_stored_does_not_hold(self):
        writer = SlowWriter()
        rig = Rig(writer=writer)
        client = rig.connect()
        client.ask(b"bind a b\r\n")
        writer.finish(Written(Outcome.FULL, Outcome.FULL))
        self.assertEqual(client.transport.take(), b"OUT_OF_MEMORY\r\n")
        self.assertEqual(rig.engine.core.book.bindings, {})


class ReserveTests(SynchronousTestCase):
    def setUp(self):
        self.rig = Rig()
        self.client = self.rig.connect()

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
        self.rig.connect().put(b"x")
        self.assertEqual(
            self.client.transport.take(), b"RESERVED_BATCH 1\r\nRESERVED 1 1 default\r\nx\r\n"
        )

    def test_a_batch_of_nothing_is_badly_formed(self):
        self.assertEqual(self.client.ask(b"reserve-batch 0 0\r\n"), b"BAD_FORMAT\r\n")


class KeyTests(SynchronousTestCase):
    PUT = b"put-key order-1 0 0 60 1\r\nx\r\n"

    def test_no_second_event_while_one_with_the_key_lives(self):
        client = Rig().connect()
        self.assertEqual(client.ask(self.PUT), b"INSERTED 1\r\n")
        self.assertEqual(client.ask(self.PUT), b"EXISTS 1\r\n")
        client.ask(b"reserve\r\n")
        self.assertEqual(client.ask(self.PUT), b"EXISTS 1\r\n")
        client.ask(b"delete 1\r\n")
        self.assertEqual(client.ask(self.PUT), b"INSERTED 2\r\n")

    def test_the_key_belongs_to_the_tube(self):
        client = Rig().connect()
        client.ask(self.PUT)
        client.ask(b"use other\r\n")
        self.assertEqual(client.ask(self.PUT), b"INSERTED 2\r\n")

    def test_a_key_whose_event_could_not_be_stored_exists_for_nobody(self):
        writer = SlowWriter()
        rig = Rig(writer=writer)
        first, second = rig.connect(), rig.connect()
        first.ask(self.PUT)
        second.ask(self.PUT)
        writer.finish(Written(Outcome.FULL, Outcome.FULL))
        rig.turn()
        self.assertEqual(first.transport.take(), b"OUT_OF_MEMORY\r\n")
        self.assertEqual(second.transport.take(), b"OUT_OF_MEMORY\r\n")
        first.ask(self.PUT)
        writer.finish()
        self.assertEqual(first.transport.take(), b"INSERTED 2\r\n")


class TruncateTests(SynchronousTestCase):
    def test_everything_that_is_not_reserved_goes(self):
        rig = Rig()
        client = rig.connect()
        client.ask(b"use t\r\nwatch t\r\n")
        for number in range(600):
            client.put(delay=number % 2)
        client.ask(b"reserve\r\n")
        reply = client.ask(b"truncate t\r\nstats-job 1\r\n")
        self.assertTrue(reply.startswith(b"TRUNCATED 599\r\nOK "), reply)
        self.assertEqual(client.ask(b"truncate none\r\n"), b"NOT_FOUND\r\n")

    def test_what_fails_in_the_middle_says_so(self):
        writer = SlowWriter()
        rig = Rig(writer=writer)
        client = rig.connect()
        client.ask(b"put 0 0 1 1\r\nx\r\n")
        writer.finish()
        self.assertEqual(client.ask(b"truncate default\r\n"), b"INSERTED 1\r\n")
        writer.finish(Written(Outcome.BROKEN, Outcome.BROKEN))
        self.assertEqual(client.transport.take(), b"INTERNAL_ERROR\r\n")
        self.assertIn(b"current-jobs-ready: 1", client.ask(b"stats\r\n"))


class LimitTests(SynchronousTestCase):
    PUT = b"put 0 0 60 4\r\nbody\r\n"

    def refused(self, limits, allowed):
        rig = Rig(limits)
        client = rig.connect()
        replies = client.ask(self.PUT * (allowed + 1))
        self.assertEqual(replies.count(b"INSERTED"), allowed)
        self.assertTrue(replies.endswith(b"OUT_OF_MEMORY\r\n"))
        client.ask(b"reserve\r\ndelete 1\r\n")
        self.assertTrue(client.ask(self.PUT).startswith(b"INSERTED"))
        return client

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
