"""The delay queue: order, due times, bounds."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.echo.delay import ITEM_OVERHEAD, DelayQueue


class DelayQueueTests(SynchronousTestCase):
    def make(self, capacity=1000):
        self.clock = Clock()
        self.delivered = []
        self.queue = DelayQueue(2, capacity, self.clock, self.delivered.append)

    def setUp(self):
        self.make()

    def test_an_empty_queue_delivers_nothing(self):
        self.assertTrue(self.queue.empty)
        self.clock.advance(100)
        self.assertEqual(self.delivered, [])
        self.assertFalse(self.queue.full)

    def test_items_leave_in_order_when_they_are_due(self):
        self.queue.put("a", 1)
        self.queue.put("b", 1)
        self.clock.advance(1)
        self.queue.put("c", 1)
        self.clock.advance(0.9)
        self.assertEqual(self.delivered, [])
        self.assertEqual([call.getTime() for call in self.clock.getDelayedCalls()], [2])
        self.clock.advance(0.1)
        self.assertEqual(self.delivered, [["a", "b"]])
        self.clock.advance(3)
        self.assertEqual(self.delivered, [["a", "b"], ["c"]])
        self.assertTrue(self.queue.empty)

    def test_the_queue_is_full_at_its_capacity_and_frees_what_leaves(self):
        self.make(1000 + ITEM_OVERHEAD)
        self.queue.put("a", 1000)
        self.assertTrue(self.queue.full)
        self.clock.advance(2)
        self.assertFalse(self.queue.full)
        self.assertEqual(self.queue.size, 0)

    def test_single_bytes_are_charged_what_they_cost(self):
        self.make(100 * ITEM_OVERHEAD)
        for _ in range(100):
            self.queue.put(b"x", 1)
        self.assertTrue(self.queue.full)

    def test_one_timer_serves_any_number_of_items(self):
        for item in "abc":
            self.queue.put(item, 1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(2)
        self.assertEqual(self.delivered, [["a", "b", "c"]])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_later_item_has_its_own_delay(self):
        self.queue.put("a", 1)
        self.clock.advance(1)
        self.queue.put("b", 1)
        self.clock.advance(1)
        self.assertEqual(self.delivered, [["a"]])
        self.clock.advance(1)
        self.assertEqual(self.delivered, [["a"], ["b"]])

    def test_a_paused_queue_delivers_nothing_and_has_no_timer(self):
        self.queue.put("a", 1)
        self.queue.pause()
        self.queue.put("b", 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(10)
        self.assertEqual(self.delivered, [])

    def test_a_resumed_queue_delivers_what_is_late_at_once(self):
        self.queue.put("a", 1)
        self.queue.pause()
        self.clock.advance(10)
        self.queue.resume()
        self.clock.advance(0)
        self.assertEqual(self.delivered, [["a"]])
