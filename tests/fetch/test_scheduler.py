"""Limits, delays and pauses of origins; the duplicate filter."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.scheduler import DuplicateFilter, Scheduler


def take_all(scheduler, now=0.0):
    taken = []
    while (item := scheduler.take(now)) is not None:
        taken.append(item)
    return taken


class LimitTests(SynchronousTestCase):
    def test_no_more_than_the_total_are_at_work(self):
        scheduler = Scheduler(total=2, per_origin=9)
        for item in "abc":
            scheduler.add(item, item, 0.0)
        self.assertEqual(take_all(scheduler), ["a", "b"])
        scheduler.release("a", 0.0)
        self.assertEqual(take_all(scheduler), ["c"])
        self.assertEqual(scheduler.active, 2)

    def test_no_more_than_so_many_of_one_origin_are_at_work(self):
        scheduler = Scheduler(per_origin=2)
        for item in (1, 2, 3):
            scheduler.add("a", item, 0.0)
        scheduler.add("b", 4, 0.0)
        self.assertEqual(take_all(scheduler), [1, 4, 2])
        scheduler.release("a", 0.0)
        self.assertEqual(take_all(scheduler), [3])

    def test_origins_take_turns(self):
        scheduler = Scheduler()
        for item in (1, 2):
            scheduler.add("a", f"a{item}", 0.0)
        for item in (1, 2):
            scheduler.add("b", f"b{item}", 0.0)
        self.assertEqual(take_all(scheduler), ["a1", "b1", "a2", "b2"])

    def test_an_item_added_first_is_taken_before_the_others(self):
        scheduler = Scheduler()
        scheduler.add("a", "late", 0.0)
        scheduler.add("a", "early", 0.0, first=True)
        self.assertEqual(take_all(scheduler), ["early", "late"])

    def test_origins_with_nothing_to_do_are_forgotten(self):
        scheduler = Scheduler()
        for number in range(100):
            scheduler.add(number, number, 0.0)
        take_all(scheduler)
        for number in range(100):
            scheduler.release(number, 0.0)
        self.assertEqual(scheduler._queues, {})

    def test_origins_that_were_drained_are_forgotten_unless_something_is_at_work(self):
        scheduler = Scheduler(per_origin=1)
        for item in "ab":
            scheduler.add(item, item, 0.0)
        scheduler.take(0.0)
        self.assertEqual([scheduler.drain(item) for item in "ab"], [[], ["b"]])
        self.assertEqual(scheduler.origins, ["a"])
        scheduler.release("a", 0.0)
        self.assertEqual(scheduler.origins, [])

    def test_a_drained_origin_is_still_paused(self):
        scheduler = Scheduler()
        scheduler.pause("a", 5.0, 0.0)
        scheduler.drain("a")
        scheduler.add("a", 1, 0.0)
        self.assertEqual(take_all(scheduler), [])
        self.assertEqual(take_all(scheduler, 5.0), [1])


class DelayTests(SynchronousTestCase):
    def test_the_delay_lies_between_two_starts_of_an_origin(self):
        scheduler = Scheduler(delay=2.0)
        for item in (1, 2):
            scheduler.add("a", item, 0.0)
        self.assertEqual(take_all(scheduler, 0.0), [1])
        self.assertEqual(scheduler.wakes_at, 2.0)
        self.assertEqual(take_all(scheduler, 1.9), [])
        self.assertEqual(take_all(scheduler, 2.0), [2])

    def test_the_delay_holds_while_the_queue_is_empty(self):
        scheduler = Scheduler(delay=2.0)
        scheduler.add("a", 1, 0.0)
        take_all(scheduler)
        scheduler.release("a", 0.5)
        scheduler.add("a", 2, 1.0)
        self.assertEqual(take_all(scheduler, 1.0), [])
        self.assertEqual(take_all(scheduler, 2.0), [2])

    def test_an_origin_may_ask_for_a_longer_delay(self):
        scheduler = Scheduler(delay=1.0)
        for item in (1, 2):
            scheduler.add("a", item, 0.0, delay=5.0)
        take_all(scheduler)
        self.assertEqual(scheduler.wakes_at, 5.0)

    def test_a_pause_holds_up_its_origin_only(self):
        scheduler = Scheduler()
        scheduler.add("a", 1, 0.0)
        scheduler.add("b", 2, 0.0)
        scheduler.pause("a", 10.0, 0.0)
        self.assertEqual(take_all(scheduler, 9.0), [2])
        self.assertEqual(take_all(scheduler, 10.0), [1])
        self.assertIsNone(scheduler.wakes_at)

    def test_a_longer_pause_prolongs_a_shorter_one(self):
        scheduler = Scheduler()
        scheduler.add("a", 1, 0.0)
        scheduler.pause("a", 5.0, 0.0)
        scheduler.pause("a", 9.0, 0.0)
        self.assertEqual(take_all(scheduler, 5.0), [])
        self.assertEqual(scheduler.wakes_at, 9.0)
        self.assertEqual(take_all(scheduler, 9.0), [1])

    def test_a_pause_of_an_unknown_origin_delays_its_first_item(self):
        scheduler = Scheduler()
        scheduler.pause("a", 5.0, 0.0)
        scheduler.add("a", 1, 1.0)
        self.assertEqual(take_all(scheduler, 1.0), [])
        self.assertEqual(take_all(scheduler, 5.0), [1])

    def test_a_full_scheduler_starts_nothing_after_a_delay(self):
        scheduler = Scheduler(total=1, delay=1.0)
        scheduler.add("a", 1, 0.0)
        scheduler.add("a", 2, 0.0)
        self.assertEqual(take_all(scheduler, 0.0), [1])
        self.assertEqual(take_all(scheduler, 5.0), [])
        scheduler.release("a", 5.0)
        self.assertEqual(take_all(scheduler, 5.0), [2])


class DrainTests(SynchronousTestCase):
    def test_drain_returns_the_waiting_items_of_an_origin(self):
        scheduler = Scheduler()
        for item in (1, 2):
            scheduler.add("a", item, 0.0)
        scheduler.add("b", 3, 0.0)
        self.assertEqual(scheduler.drain("a"), [1, 2])
        self.assertEqual(take_all(scheduler), [3])
        scheduler.add("a", 4, 0.0)
        self.assertEqual(take_all(scheduler), [4])

    def test_drain_of_an_unknown_origin_is_empty(self):
        self.assertEqual(Scheduler().drain("a"), [])

    def test_a_paused_origin_can_be_drained(self):
        scheduler = Scheduler()
        scheduler.pause("a", 5.0, 0.0)
        scheduler.add("a", 1, 0.0)
        self.assertEqual(scheduler.drain("a"), [1])
        self.assertEqual(take_all(scheduler, 5.0), [])


class DuplicateFilterTests(SynchronousTestCase):
    @given(st.lists(st.text(max_size=3)))
    def test_it_recognizes_duplicates_as_a_set_does(self, texts):
        duplicates, reference = DuplicateFilter(), set()
        for text in texts:
            self.assertEqual(duplicates.add(text), text not in reference)
            reference.add(text)

    def test_it_grows_beyond_its_first_size(self):
        duplicates = DuplicateFilter()
        self.assertTrue(all(duplicates.add(f"http://a/{number}") for number in range(50_000)))
        self.assertFalse(any(duplicates.add(f"http://a/{number}") for number in range(50_000)))
