from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.events import QueueUnavailable
from evserve.events.postgres import waits
from evserve.events.postgres.waits import SLOW, Pace, Waits


def row(number, kind="a", priority=9, seconds=0.0):
    return (number, kind, b"", priority, seconds)


class WaitsTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.waits = Waits(self.clock)

    def wait(self, *kinds, limit=1, timeout=None):
        return self.waits.add(frozenset(kinds), limit, timeout).deferred

    def serve(self, *rows, alone=True):
        """Answer the one group that asks."""
        [group] = self.waits.due()
        return self.waits.serve(group, list(rows), lambda taken: taken[0], alone=alone)

    def test_the_first_event_goes_to_who_came_first(self):
        first, second = self.wait("a"), self.wait("a")
        self.assertEqual(self.serve(row(2), row(1)), [])
        self.assertEqual(self.successResultOf(first), [1])
        self.assertEqual(self.successResultOf(second), [2])

    def test_a_group_asks_for_what_all_its_waiters_can_take(self):
        self.wait("a", limit=3)
        self.wait("a", limit=4)
        [group] = self.waits.due()
        self.assertEqual(group.asking, 7)

    def test_who_takes_many_gets_them_together(self):
        many = self.wait("a", limit=3)
        self.serve(row(1), row(2))
        self.assertEqual(self.successResultOf(many), [1, 2])

    def test_a_group_asks_once_until_it_is_woken(self):
        waiting = self.wait("a", "b")
        self.serve()
        self.assertEqual(self.waits.due(), [])
        self.assertFalse(self.waits.wake(["c"]))
        self.assertTrue(self.waits.wake(["b"]))
        self.serve(row(1, "b"))
        self.assertEqual(self.successResultOf(waiting), [1])

    def test_who_does_not_wait_is_answered_when_there_is_none(self):
        now, waiting = self.wait("a", timeout=0), self.wait("a")
        self.serve()
        self.assertEqual(self.successResultOf(now), [])
        self.assertNoResult(waiting)

    def test_who_does_not_wait_is_answered_behind_more_than_one_statement_asks_for(self):
        self.patch(waits, "MAX_MANY", 2)
        for _ in range(3):
            self.wait("a")
        now = self.wait("a", timeout=0)
        self.serve()
        self.assertEqual(self.successResultOf(now), [])

    def test_a_timeout_ends_a_wait(self):
        waiting = self.wait("a", timeout=5)
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(waiting), [])

    def test_events_of_those_who_have_gone_are_returned(self):
        waiting = self.wait("a")
        [group] = self.waits.due()
        waiting.cancel()
        self.failureResultOf(waiting)
        self.assertEqual(self.waits.serve(group, [row(1)], tuple, alone=True), [row(1)])

    def test_a_waiter_that_comes_during_the_answer_gets_what_is_left(self):
        first = self.wait("a", limit=2)
        later = []
        first.addCallback(lambda _: later.append(self.wait("a")))
        [group] = self.waits.due()
        group.first.limit = 1
        self.waits.serve(group, [row(1), row(2)], lambda taken: taken[0], alone=True)
        self.assertEqual(self.successResultOf(later[0]), [2])

    def test_calls_that_wait_for_a_connection_fail_after_a_while(self):
        waiting = self.wait("a")
        self.clock.advance(1)
        later = self.wait("a")
        self.waits.expire(0, lambda: QueueUnavailable("no answer"))
        self.failureResultOf(waiting, QueueUnavailable)
        self.assertNoResult(later)
        self.assertEqual(self.waits.oldest(), 1)

    def test_slow_scans_begin_where_the_last_one_found_something(self):
        for number in range(3):
            self.wait("a")
            self.serve(row(number + 1, seconds=2 * SLOW))
        waiting = self.wait("a", timeout=0)
        [group] = self.waits.due()
        self.assertEqual(self.waits.starts(group), [(9, 3)])
        self.waits.serve(group, [], lambda taken: taken[0], alone=True)
        self.assertNoResult(waiting)
        [group] = self.waits.due()  # only a scan from the start tells that there is none
        self.assertEqual(self.waits.starts(group), [(-1, -1)])
        self.waits.serve(group, [], lambda taken: taken[0], alone=True)
        self.assertEqual(self.successResultOf(waiting), [])

    def test_an_event_put_before_the_place_where_scans_begin_is_found(self):
        for number in range(3):
            self.wait("a")
            self.serve(row(number + 1, seconds=2 * SLOW))
        self.waits.lower("a", 9)
        self.wait("a")
        [group] = self.waits.due()
        self.assertEqual(self.waits.starts(group), [(9, 3)])
        self.waits.lower("a", 8)
        self.assertEqual(self.waits.starts(group), [(-1, -1)])


class PaceTests(SynchronousTestCase):
    def test_slow_scans_from_the_start_take_a_twentieth_of_the_time(self):
        pace = Pace()
        for now in range(3):
            self.assertTrue(pace.is_due(now))
            pace.took(1.0, now)
        self.assertFalse(pace.is_due(2 + 19))
        self.assertTrue(pace.is_due(2 + 20))
        pace.took(SLOW / 2, 22)
        self.assertTrue(pace.is_due(22))
