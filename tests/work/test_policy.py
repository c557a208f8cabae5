from twisted.trial.unittest import SynchronousTestCase

from evserve.events import BackOff, Event
from evserve.work.policy import Bury, Retry, RetryPolicy


POLICY = RetryPolicy(max_attempts=3, back_off=BackOff(initial=1, ceiling=10))


def event(attempts, buries=0, **rest):
    return Event("7", "mail", b"", attempts=attempts, buries=buries, **rest)


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

    def test_an_event_that_was_buried_without_a_run_has_all_its_attempts_again(self):
        """The attempt in which it was buried was none."""
        for attempts in (5, 6, 7):
            self.assertIsNone(POLICY.before_attempt(event(attempts, buries=1)))
        self.assertIsNotNone(POLICY.before_attempt(event(8, buries=1)))

    def test_attempts_that_a_stop_ended_bury_no_event_without_a_run(self):
        once = RetryPolicy(max_attempts=1)
        for stops in range(1, 10):
            self.assertIsNone(once.before_attempt(event(stops + 1, releases=stops)))
        self.assertIsNotNone(once.before_attempt(event(3, releases=1)))

    def test_an_attempt_that_a_stop_ended_does_not_count(self):
        stopped = event(3, releases=2, delay=0)
        self.assertEqual(POLICY.after_failure(stopped, "ValueError", 1.0), Retry(2))
        failed = event(3, releases=2, delay=2)
        self.assertEqual(POLICY.after_failure(failed, "ValueError", 1.0), Bury("ValueError"))

    def test_an_event_kicked_under_a_larger_limit_is_still_tried(self):
        """max_attempts grew since it was buried, so the arithmetic comes out below 1."""
        self.assertEqual(self.after(2, buries=1), Retry(1))
