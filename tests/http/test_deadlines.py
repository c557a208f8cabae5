"""One timer serves all deadlines and misses none."""

from attrs import define, field
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.http.deadlines import Deadlines


@define(eq=False)
class Watched:
    deadline: float
    swept: list = field(factory=list)
    on_sweep: object = None

    def sweep(self, now):
        self.swept.append(now)
        if self.on_sweep:
            self.on_sweep()


class DeadlineTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock, tick=1.0)

    def test_many_items_share_one_timer_and_none_need_none(self):
        many = [Watched(100.0) for _ in range(50)]
        for watched in many:
            self.deadlines.add(watched, 0)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        for watched in many:
            self.deadlines.discard(watched)
        self.clock.advance(1)
        self.assertEqual((self.clock.getDelayedCalls(), many[0].swept), ([], []))

    def test_an_early_deadline_brings_the_sweep_forward(self):
        late, early = Watched(100.0), Watched(0.3)
        self.deadlines.add(late, 0)
        self.deadlines.add(early, 0)
        self.clock.advance(0.3)
        self.assertEqual((early.swept, late.swept), ([0.3], [0.3]))

    def test_an_item_ended_during_a_sweep_is_not_swept(self):
        second = Watched(100.0)
        first = Watched(100.0, on_sweep=lambda: self.deadlines.discard(second))
        self.deadlines.add(first, 0)
        self.deadlines.add(second, 0)
        self.clock.advance(1)
        self.assertEqual((first.swept, second.swept), ([1.0], []))

    def test_an_item_added_during_a_sweep_is_watched(self):
        third = Watched(1.5)
        first = Watched(100.0)
        first.on_sweep = lambda: self.deadlines.add(third, 1.0) if not third.swept else None
        self.deadlines.add(first, 0)
        self.clock.pump([1, 0.5])
        self.assertEqual(third.swept, [1.5])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_a_sweep_that_fails_stops_no_other(self):
        bad, good = Watched(100.0), Watched(100.0)
        bad.on_sweep = lambda: self.deadlines.discard(bad) or {}["nothing"]
        self.deadlines.add(bad, 0)
        self.deadlines.add(good, 0)
        self.assertRaises(KeyError, self.clock.advance, 1)
        self.clock.advance(1)
        self.assertEqual(good.swept, [2.0])

    def test_stopping_leaves_no_timer(self):
        self.deadlines.add(Watched(5.0), 0)
        self.deadlines.stop()
        self.deadlines.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
