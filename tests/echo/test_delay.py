"""The delay line: order, due times, bounds."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.echo.delay import ITEM_OVERHEAD, DelayLine, TimedLine


class DelayLineTests(SynchronousTestCase):
    def test_an_empty_line_owes_nothing(self):
        line = DelayLine[str](2, 1000)
        self.assertIsNone(line.next_due)
        self.assertEqual(line.take(100), [])
        self.assertFalse(line.full)

    def test_items_leave_in_order_when_they_are_due(self):
        line = DelayLine[str](2, 1000)
        for at, item in [(0, "a"), (0, "b"), (1, "c")]:
            line.put(at, item, 1)
        self.assertEqual(line.take(1.9), [])
        self.assertEqual(line.next_due, 2)
        self.assertEqual(line.take(2), ["a", "b"])
        self.assertEqual(line.take(5), ["c"])

    def test_the_line_is_full_at_its_capacity_and_frees_what_leaves(self):
        line = DelayLine[str](2, 1000 + ITEM_OVERHEAD)
        line.put(0, "a", 1000)
        self.assertTrue(line.full)
        line.take(2)
        self.assertFalse(line.full)
        self.assertEqual(line.held, 0)

    def test_single_bytes_are_charged_what_they_cost(self):
        line = DelayLine[bytes](2, 100 * ITEM_OVERHEAD)
        for _ in range(100):
            line.put(0, b"x", 1)
        self.assertTrue(line.full)


class TimedLineTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.delivered = []
        self.line = TimedLine(DelayLine[str](2, 1000), self.clock, self.delivered.append)

    def test_one_timer_serves_any_number_of_items(self):
        for item in "abc":
            self.line.put(item, 1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(2)
        self.assertEqual(self.delivered, [["a", "b", "c"]])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_later_item_has_its_own_delay(self):
        self.line.put("a", 1)
        self.clock.advance(1)
        self.line.put("b", 1)
        self.clock.advance(1)
        self.assertEqual(self.delivered, [["a"]])
        self.clock.advance(1)
        self.assertEqual(self.delivered, [["a"], ["b"]])

    def test_a_held_line_delivers_nothing_and_has_no_timer(self):
        self.line.put("a", 1)
        self.line.hold()
        self.line.put("b", 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(10)
        self.assertEqual(self.delivered, [])

    def test_a_released_line_delivers_what_is_late_at_once(self):
        self.line.put("a", 1)
        self.line.hold()
        self.clock.advance(10)
        self.line.release()
        self.clock.advance(0)
        self.assertEqual(self.delivered, [["a"]])
