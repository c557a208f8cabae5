"""The circuit breaker's states."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.breaker import Breaker, State


class BreakerTests(SynchronousTestCase):
    def fail(self, breaker, count, now=0.0):
        return [breaker.failed("refused", now) for _ in range(count)]

    def test_failures_below_the_threshold_change_nothing(self):
        breaker = Breaker(threshold=3)
        self.assertEqual(self.fail(breaker, 2), [0.0, 0.0])
        breaker.answered()
        self.assertEqual(self.fail(breaker, 2), [0.0, 0.0])
        self.assertIs(breaker.state, State.CLOSED)

    def test_a_response_leaves_a_closed_breaker_closed(self):
        breaker = Breaker()
        breaker.answered()
        self.assertIs(breaker.state, State.CLOSED)

    def test_it_opens_after_longer_and_longer_pauses(self):
        breaker = Breaker(threshold=2, pauses=(1.0, 4.0), open_for=100.0)
        self.assertEqual(self.fail(breaker, 2), [0.0, 1.0])
        self.assertEqual(self.fail(breaker, 1, 0.5), [0.0])  # was under way
        self.assertEqual(self.fail(breaker, 1, 1.0), [4.0])
        self.assertFalse(breaker.is_open(2.0))
        self.assertEqual(self.fail(breaker, 1, 5.0), [0.0])
        self.assertTrue(breaker.is_open(5.0))
        self.assertEqual(self.fail(breaker, 1, 6.0), [0.0])
        self.assertEqual(breaker.reason, "refused")

    def test_an_open_breaker_is_tried_again(self):
        breaker = Breaker(threshold=1, pauses=(1.0,), open_for=100.0)
        self.fail(breaker, 1, 0.0)
        self.fail(breaker, 1, 1.0)
        self.assertTrue(breaker.is_open(100.9))
        self.assertFalse(breaker.is_open(101.0))
        self.fail(breaker, 1, 101.0)
        self.assertTrue(breaker.is_open(102.0))
        breaker.answered()
        self.assertFalse(breaker.is_open(102.0))
