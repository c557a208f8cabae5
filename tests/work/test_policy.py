from twisted.trial.unittest import SynchronousTestCase

from evserve.events import BackOff, Event
from evserve.work.policy import Bury, Retry, RetryPolicy


POLICY = RetryPolicy(max_attempts=3, back_off=BackOff(initial=1, ceiling=10))


def event(attempts, buries=0):
    return Event("7", "mail", b"", attempts=attempts, buries=buries)


class PolicyTests(SynchronousTestCase):
    def after(self, attempts, buries=0, roll=1.0):
        return POLICY.after_failure(event(attempts, buries), "ValueError", roll)

    def test_delays_double(self):
        self.assertEqual([self.after(n) for n in (1, 2)], [Retry(1), Retry(2)])

    def test_jitter_takes_up_to_half_away(self):
        self.assertEqual(self.after(2, roll=0.0), Retry(1))

    def test_the_last_attempt_that_fails_buries_with_the_reason(self):
        self.assertEqual(self.after(3), Bury("ValueError"))

    def test_a_kicked_event_has_all_its_attempts_again(self):
        outcomes = [self.after(attempts, buries=1) for attempts in (4, 5, 6)]
        self.assertEqual(outcomes, [Retry(1), Retry(2), Bury("ValueError")])

    def test_an_event_that_kills_its_workers_is_buried_without_a_run(self):
        self.assertIsNone(POLICY.before_attempt(event(3)))
        self.assertIn("3 attempts", POLICY.before_attempt(event(4)).reason)
        self.assertIsNone(POLICY.before_attempt(event(6, buries=1)))

    def test_an_event_kicked_under_a_larger_limit_is_still_tried(self):
        """max_attempts grew since it was buried, so the arithmetic comes out below 1."""
        self.assertEqual(self.after(2, buries=1), Retry(1))
