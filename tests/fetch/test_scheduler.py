"""Who may go next."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.scheduler import DuplicateFilter, Scheduler


def take_all(schedule, now=0.0):
    taken = []
    while (item := schedule.take(now)) is not None:
        taken.append(item)
    return taken


class LimitTests(SynchronousTestCase):
    def test_no_more_than_the_total_are_at_work(self):
        schedule = Scheduler(total=2, per_origin=9)
        for item in "abc":
            schedule.add(item, item, 0.0)
        self.assertEqual(take_all(schedule), ["a", "b"])
        schedule.release("a", 0.0)
        self.assertEqual(take_all(schedule), ["c"])
        self.assertEqual(schedule.active, 2)

    def test_no_more_than_so_many_of_one_origin_are_at_work(self):
        schedule = Scheduler(per_origin=2)
        for item in (1, 2, 3):
            schedule.add("a", item, 0.0)
        schedule.add("b", 4, 0.0)
        self.assertEqual(take_all(schedule), [1, 4, 2])
        schedule.release("a", 0.0)
        self.assertEqual(take_all(schedule), [3])

    def test_origins_take_turns(self):
        schedule = Scheduler()
        for item in (1, 2):
            schedule.add("a", f"a{item}", 0.0)
        for item in (1, 2):
            schedule.add("b", f"b{item}", 0.0)
        self.assertEqual(take_all(schedule), ["a1", "b1", "a2", "b2"])

    def test_what_is_first_passes_the_others(self):
        schedule = Scheduler()
        schedule.add("a", "late", 0.0)
        schedule.add("a", "early", 0.0, first=True)
        self.assertEqual(take_all(schedule), ["early", "late"])

    def test_origins_with_nothing_to_do_are_forgotten(self):
        schedule = Scheduler()
        for number in range(100):
            schedule.add(number, number, 0.0)
        take_all(schedule)
        for number in range(100):
            schedule.release(number, 0.0)
        self.assertEqual(schedule._queues, {})

    def test_origins_that_were_drained_are_forgotten_unless_something_is_at_work(self):
        schedule = Scheduler(per_origin=1)
        for item in "ab":
            schedule.add(item, item, 0.0)
        schedule.take(0.0)
        self.assertEqual([schedule.drain(item) for item in "ab"], [[], ["b"]])
        self.assertEqual(schedule.origins, ["a"])
        schedule.release("a", 0.0)
        self.assertEqual(schedule.origins, [])

    def test_a_drained_origin_is_still_paused(self):
        schedule = Scheduler()
        schedule.pause("a", 5.0, 0.0)
        schedule.drain("a")
        schedule.add("a", 1, 0.0)
        self.assertEqual(take_all(schedule), [])
        self.assertEqual(take_all(schedule, 5.0), [1])


class PaceTests(SynchronousTestCase):
    def test_the_delay_lies_between_two_starts_of_an_origin(self):
        schedule = Scheduler(delay=2.0)
        for item in (1, 2):
            schedule.add("a", item, 0.0)
        self.assertEqual(take_all(schedule, 0.0), [1])
        self.assertEqual(schedule.wakes_at, 2.0)
        self.assertEqual(take_all(schedule, 1.9), [])
        self.assertEqual(take_all(schedule, 2.0), [2])

    def test_the_delay_outlives_an_empty_lane(self):
        schedule = Scheduler(delay=2.0)
        schedule.add("a", 1, 0.0)
        take_all(schedule)
        schedule.release("a", 0.5)
        schedule.add("a", 2, 1.0)
        self.assertEqual(take_all(schedule, 1.0), [])
        self.assertEqual(take_all(schedule, 2.0), [2])

    def test_an_origin_may_ask_for_a_longer_delay(self):
        schedule = Scheduler(delay=1.0)
        for item in (1, 2):
            schedule.add("a", item, 0.0, delay=5.0)
        take_all(schedule)
        self.assertEqual(schedule.wakes_at, 5.0)

    def test_a_pause_holds_up_its_origin_only(self):
        schedule = Scheduler()
        schedule.add("a", 1, 0.0)
        schedule.add("b", 2, 0.0)
        schedule.pause("a", 10.0, 0.0)
        self.assertEqual(take_all(schedule, 9.0), [2])
        self.assertEqual(take_all(schedule, 10.0), [1])
        self.assertIsNone(schedule.wakes_at)

    def test_a_longer_pause_prolongs_a_shorter_one(self):
        schedule = Scheduler()
        schedule.add("a", 1, 0.0)
        schedule.pause("a", 5.0, 0.0)
        schedule.pause("a", 9.0, 0.0)
        self.assertEqual(take_all(schedule, 5.0), [])
        self.assertEqual(schedule.wakes_at, 9.0)
        self.assertEqual(take_all(schedule, 9.0), [1])

    def test_a_pause_of_an_unknown_origin_holds_up_what_comes(self):
        schedule = Scheduler()
        schedule.pause("a", 5.0, 0.0)
        schedule.add("a", 1, 1.0)
        self.assertEqual(take_all(schedule, 1.0), [])
        self.assertEqual(take_all(schedule, 5.0), [1])

    def test_a_full_schedule_does_not_wake_anybody(self):
        schedule = Scheduler(total=1, delay=1.0)
        schedule.add("a", 1, 0.0)
        schedule.add("a", 2, 0.0)
        self.assertEqual(take_all(schedule, 0.0), [1])
        self.assertEqual(take_all(schedule, 5.0), [])
        schedule.release("a", 5.0)
        self.assertEqual(take_all(schedule, 5.0), [2])


class DrainTests(SynchronousTestCase):
    def test_what_waits_for_an_origin_can_be_taken_back(self):
        schedule = Scheduler()
        for item in (1, 2):
            schedule.add("a", item, 0.0)
        schedule.add("b", 3, 0.0)
        self.assertEqual(schedule.drain("a"), [1, 2])
        self.assertEqual(take_all(schedule), [3])
        schedule.add("a", 4, 0.0)
        self.assertEqual(take_all(schedule), [4])

    def test_nothing_waits_for_an_unknown_origin(self):
        self.assertEqual(Scheduler().drain("a"), [])

    def test_a_paused_origin_can_be_drained(self):
        schedule = Scheduler()
        schedule.pause("a", 5.0, 0.0)
        schedule.add("a", 1, 0.0)
        self.assertEqual(schedule.drain("a"), [1])
        self.assertEqual(take_all(schedule, 5.0), [])


class SeenTests(SynchronousTestCase):
    @given(st.lists(st.text(max_size=3)))
    def test_it_is_a_set(self, texts):
        seen, reference = DuplicateFilter(), set()
        for text in texts:
            self.assertEqual(text in seen, text in reference)
            self.assertEqual(seen.add(text), text not in reference)
            reference.add(text)
        self.assertEqual(len(seen), len(reference))

    def test_it_grows(self):
        seen = DuplicateFilter()
        self.assertTrue(all(seen.add(f"http://a/{number}") for number in range(50_000)))
        self.assertFalse(any(seen.add(f"http://a/{number}") for number in range(50_000)))
        self.assertEqual(len(seen), 50_000)
