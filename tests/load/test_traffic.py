"""Counting messages, and when they are due."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.load.traffic import Pace, Traffic


class TrafficTests(SynchronousTestCase):
    def setUp(self):
        self.settled = []
        self.traffic = Traffic(lambda: self.settled.append(True))

    def test_nothing_may_be_sent_before_the_beginning(self):
        self.assertEqual(self.traffic.take(5), 0)

    def test_without_a_count_everything_may_be_sent(self):
        self.traffic.begin(None)
        self.assertEqual(self.traffic.take(5), 5)
        self.assertFalse(self.traffic.is_settled)

    def test_a_count_limits_what_is_sent(self):
        self.traffic.begin(7)
        self.assertEqual([self.traffic.take(5), self.traffic.take(5)], [5, 2])

    def test_it_is_settled_with_the_last_answer(self):
        self.traffic.begin(2)
        self.traffic.take(2)
        self.traffic.answer(1)
        self.assertEqual(self.settled, [])
        self.traffic.answer(1)
        self.assertEqual(self.settled, [True])

    def test_a_lost_message_needs_no_answer(self):
        self.traffic.begin(1)
        self.traffic.take(1)
        self.traffic.lose(1)
        self.assertEqual((self.settled, self.traffic.unanswered), ([True], 1))

    def test_the_end_waits_for_what_is_in_flight(self):
        self.traffic.begin(None)
        self.traffic.take(1)
        self.traffic.end()
        self.assertEqual((self.settled, self.traffic.take(1)), ([], 0))
        self.traffic.answer(1)
        self.assertEqual(self.settled, [True])

    def test_beginning_again_forgets_the_warm_up_but_not_what_is_in_flight(self):
        self.traffic.begin(None)
        self.traffic.take(5)
        self.traffic.latencies.record(1)
        self.traffic.answer(2)
        self.traffic.begin(10)
        self.assertEqual((self.traffic.answered, self.traffic.latencies.count), (0, 0))
        self.assertEqual(self.traffic.take(100), 7)


class PaceTests(SynchronousTestCase):
    def test_messages_are_due_evenly(self):
        pace = Pace(10, 100.0)
        self.assertEqual(list(pace.due(100.0)), [100.0])
        self.assertEqual(list(pace.due(100.05)), [])
        self.assertAlmostEqual(pace.next, 100.1)

    def test_what_was_missed_is_due_when_it_was(self):
        """Whoever comes late sends all of it, and knows how late each is."""
        pace = Pace(10, 0.0)
        due = list(pace.due(0.35))
        self.assertEqual(len(due), 4)
        for intended, wanted in zip(due, (0, 0.1, 0.2, 0.3), strict=True):
            self.assertAlmostEqual(intended, wanted)

    def test_the_rate_holds_in_the_long_run(self):
        pace = Pace(333, 0.0)
        self.assertEqual(sum(len(list(pace.due(n / 1000))) for n in range(10_001)), 3331)
