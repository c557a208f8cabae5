"""Corners of the core that random commands seldom reach."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.queue.core import RETURNS_PER_RING, Core


class CoreTests(SynchronousTestCase):
    def setUp(self):
        self.core = Core()
        self.book, self.line, self.ledger = self.core.book, self.core.line, self.core.ledger
        self.client = self.book.connect()

    def put(self, count=1, **options):
        changes = [self.ledger.put(self.client.use, b"", 0.0, **options)[0] for _ in range(count)]
        for change in changes:
            self.ledger.settle(change, 0.0)
        return [change.event for change in changes]

    def delete(self, event):
        self.ledger.settle(self.ledger.delete(self.client, event.id), 0.0)

    def test_stale_entries_of_heaps_are_swept_out(self):
        tube = self.client.use
        for options in ({}, {"delay": 9}):
            events = self.put(300, **options)
            for event in events[1:]:
                self.delete(event)
            self.assertLess(len(tube.ready_heap) + len(tube.delay_heap), 200)
            self.delete(events[0])
        self.put(1)
        self.assertLess(len(tube.arrivals), 100)

    def test_deadlines_of_settled_reservations_are_swept_out(self):
        held = self.put(1, ttr=5)
        self.line.reserve(self.client, 0.0)
        for _ in range(300):
            self.put(1, ttr=50)
            [event] = self.line.reserve(self.client, 0.0)
            self.delete(event)
        self.assertLess(len(self.client.deadlines), 100)
        self.assertIs(self.client.soonest(), held[0])

    def test_alarms_of_clients_that_left_are_swept_out(self):
        for _ in range(300):
            self.put(1, ttr=1000)
            client = self.book.connect()
            [event] = self.line.reserve(client, 0.0)
            self.line.disconnect(client, 0.0)
            self.delete(event)
        self.assertLess(len(self.book.alarms._heap), 100)

    def test_an_alarm_of_who_left_rings_for_nobody(self):
        self.put(1, ttr=1)
        client = self.book.connect()
        self.line.reserve(client, 0.0)
        self.line.disconnect(client, 0.0)
        self.line.tick(2.0)
        self.assertIsNone(self.book.alarms.next)
        self.assertEqual(self.book.timeouts, 0)

    def test_an_earlier_pause_leaves_a_longer_one_alone(self):
        tube = self.client.use
        self.line.pause(tube, 5, 0.0)
        self.line.pause(tube, 50, 0.0)
        self.line.tick(6.0)
        self.assertEqual(tube.pause, 50)
        self.line.tick(51.0)
        self.assertEqual(tube.pause, 0)

    def test_a_million_delays_of_one_second_do_not_end_in_one_tick(self):
        self.put(RETURNS_PER_RING + 5, delay=1)
        self.line.tick(1.0)
        self.assertEqual(self.client.use.ready, RETURNS_PER_RING)
        self.assertLessEqual(self.book.alarms.next, 1.0)
        self.line.tick(1.0)
        self.assertEqual(self.client.use.delayed, 0)

    def test_a_failed_kick_of_a_buried_event_keeps_its_place(self):
        for event in self.put(2):
            self.line.reserve_id(self.client, event.id, 0.0)
            self.ledger.settle(self.ledger.bury(self.client, event.id, 0.0, pri=0), 0.0)
        first = self.client.use.first_buried()
        self.ledger.abort(self.ledger.kick_id(first.id), 0.0)
        self.assertIs(self.client.use.first_buried(), first)

    def test_an_empty_tube_has_no_next_event_and_no_oldest(self):
        self.assertEqual(self.client.use.next_ready(), None)
        self.assertEqual(self.client.use.oldest(), None)

    def test_a_wait_without_end_outlives_other_alarms(self):
        self.put(1, ttr=5)
        [event] = self.line.reserve(self.client, 0.0)
        self.delete(event)
        self.line.reserve(self.client, 1.0)
        self.line.tick(9.0)
        self.assertIsNotNone(self.client.wait)
        self.assertEqual(self.line.answers, [])
