"""The consumer loop on a queue in memory and a clock."""

from functools import partial

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from evserve.events import (
    BackOff,
    Consumer,
    Delivery,
    Depth,
    NotReserved,
    QueueFull,
    QueueUnavailable,
)
from evserve.testing import MemoryQueue


class ConsumerTestCase(SynchronousTestCase):
    """`deliveries` are those that the handler got; each waits for its Deferred in `endings`."""

    def setUp(self):
        self.clock = Clock()
        self.queue = MemoryQueue(self.clock)
        self.deliveries = []
        self.endings = []
        self.connected = []

    async def handle(self, delivery):
        self.deliveries.append(delivery)
        self.endings.append(Deferred())
        await self.endings[-1]

    def start(self, *types, concurrency=1, handle=None, **rest):
        self.consumer = Consumer(
            self.queue,
            self.clock,
            concurrency,
            frozenset(types or ["mail"]),
            handle or self.handle,
            connected=self.connected.append,
            roll=lambda: 1.0,
            **rest,
        )
        self.consumer.start()
        return self.consumer

    def put(self, *bodies, kind="mail", **rest):
        for body in bodies:
            self.successResultOf(self.queue.put(kind, body, **rest))

    def depth(self, kind="mail"):
        return self.successResultOf(self.queue.depth(kind))

    def bodies(self):
        return [delivery.event.body for delivery in self.deliveries]

    def logged(self, events):
        return [formatEvent(event) for event in events]


class Full(MemoryQueue):
    """Has no room to settle events while it is `full`."""

    full = True

    def ack(self, event, **kept):
        return fail(QueueFull("no room left")) if self.full else super().ack(event, **kept)

    def retry(self, event, delay=0):
        return fail(QueueFull("no room left")) if self.full else super().retry(event, delay)


class DeliveryTests(ConsumerTestCase):
    def test_an_acknowledged_event_is_gone(self):
        self.start()
        self.put(b"")
        self.successResultOf(self.deliveries[0].ack())
        self.assertEqual(self.depth(), Depth())

    def test_a_retried_event_comes_back_after_its_delay(self):
        self.start()
        self.put(b"again")
        self.successResultOf(self.deliveries[0].retry(5))
        self.endings[0].callback(None)
        self.assertEqual(self.depth(), Depth(delayed=1))
        self.clock.advance(5)
        self.assertEqual(self.bodies(), [b"again", b"again"])

    def test_a_buried_event_waits_for_an_operator(self):
        self.start()
        self.put(b"")
        self.successResultOf(self.deliveries[0].bury("no such image"))
        self.assertEqual(self.depth(), Depth(buried=1))

    def test_an_event_is_touched_while_it_is_handled(self):
        self.start()
        self.put(b"", ttr=3)
        self.clock.pump([0.5] * 40)
        self.assertEqual((len(self.deliveries), self.depth()), (1, Depth(reserved=1)))

    def test_a_settled_event_is_not_touched_though_its_handler_goes_on(self):
        self.start()
        self.put(b"", ttr=3)
        self.successResultOf(self.deliveries[0].ack())
        with capturedLogs() as events:
            self.clock.pump([1] * 5)
        self.assertEqual((self.logged(events), self.clock.getDelayedCalls()), ([], []))

    def test_an_event_that_its_handler_did_not_settle_comes_back_when_its_ttr_ends(self):
        self.start()
        self.put(b"", ttr=3)
        self.endings[0].callback(None)
        self.assertEqual(self.depth(), Depth(reserved=1))
        self.clock.pump([1, 1, 1])
        self.assertEqual(self.deliveries[1].event.timeouts, 1)

    def test_an_event_is_handled_once_though_the_queue_has_no_room_to_settle_it(self):
        for settle in (Delivery.ack, partial(Delivery.retry, delay=99)):
            self.setUp()
            self.queue = Full(self.clock)
            self.start()
            self.put(b"", ttr=3)
            with capturedLogs() as events:
                settled = settle(self.deliveries[0])
                self.clock.pump([0.5] * 100)
                self.assertNoResult(settled)
                self.queue.full = False
                self.clock.pump([0.5] * 10)
            self.successResultOf(settled)
            self.assertEqual(
                self.logged(events), ["event 1 (mail) cannot be settled yet: no room left"]
            )
            self.assertEqual((len(self.deliveries), self.depth().reserved), (1, 0))

    def test_a_stop_ends_the_attempts_to_settle(self):
        self.queue = Full(self.clock)
        self.start()
        self.put(b"", ttr=3)
        settled = self.deliveries[0].ack()
        self.consumer.stop()
        self.failureResultOf(settled, QueueFull)

    def test_a_touch_that_fails_is_logged_and_not_the_last(self):
        class Full(MemoryQueue):
            full = True

            def touch(self, event):
                full, self.full = self.full, False
                return fail(QueueFull("no room")) if full else super().touch(event)

        self.queue = Full(self.clock)
        self.start()
        self.put(b"", ttr=3)
        with capturedLogs() as events:
            self.clock.pump([0.5] * 40)
        self.assertEqual(self.logged(events), ["event 1 (mail) could not be touched: no room"])
        self.assertEqual((len(self.deliveries), self.depth()), (1, Depth(reserved=1)))

    def test_a_lost_reservation_is_logged_once(self):
        self.start()
        self.put(b"", ttr=3)
        self.queue.go_away()
        self.queue.come_back()
        with capturedLogs() as events:
            self.clock.pump([1] * 10)
        [line] = [line for line in self.logged(events) if line.startswith("event")]
        self.assertIn("event 1 (mail) is no longer held, but still being handled: ", line)


class ConcurrencyTests(ConsumerTestCase):
    def test_no_more_run_at_once_than_the_concurrency(self):
        self.start(concurrency=2)
        self.put(b"1", b"2", b"3")
        self.assertEqual(self.bodies(), [b"1", b"2"])
        self.endings[1].callback(None)
        self.assertEqual(self.bodies(), [b"1", b"2", b"3"])

    def test_an_event_that_is_settled_keeps_its_place_until_its_handler_returns(self):
        self.start()
        self.put(b"1", b"2")
        self.successResultOf(self.deliveries[0].ack())
        self.assertEqual(self.bodies(), [b"1"])
        self.endings[0].callback(None)
        self.assertEqual(self.bodies(), [b"1", b"2"])

    def test_a_handler_that_raises_is_logged_and_the_next_event_comes(self):
        self.start()
        self.put(b"1", b"2")
        with capturedLogs() as events:
            self.endings[0].errback(KeyError("a bug"))
        self.assertEqual(self.logged(events)[0], "event 1 (mail) was not settled")
        self.assertEqual(self.bodies(), [b"1", b"2"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_a_handler_whose_wait_was_cancelled_is_logged_and_the_next_event_comes(self):
        self.start()
        self.put(b"1", b"2")
        self.endings[0].cancel()
        self.assertEqual(self.bodies(), [b"1", b"2"])
        self.assertEqual(len(self.flushLoggedErrors(CancelledError)), 1)

    def test_an_event_that_the_queue_would_not_settle_is_followed_by_a_pause(self):
        self.start(back_off=BackOff(1.0, 1.0))
        self.put(b"1", b"2")
        with capturedLogs() as events:
            self.endings[0].errback(NotReserved("it went back"))
        self.assertEqual(self.logged(events), ["event 1 (mail) was not settled: it went back"])
        self.assertEqual(self.bodies(), [b"1"])
        self.clock.advance(1)
        self.assertEqual(self.bodies(), [b"1", b"2"])


class TypesTests(ConsumerTestCase):
    def select(self, existing):
        return frozenset(each for each in existing if each.startswith("image."))

    def test_only_the_named_types_are_reserved(self):
        self.start("mail", "fax", concurrency=3)
        for kind in ("mail", "fax", "image.png"):
            self.put(kind.encode(), kind=kind)
        self.assertEqual(self.bodies(), [b"mail", b"fax"])

    def test_selected_types_are_found_within_a_second_of_their_first_event(self):
        self.start(select=self.select)
        self.clock.pump([1] * 5)
        self.put(b"late", kind="image.webp")
        self.put(b"other", kind="mail")
        self.clock.pump([1, 1])
        self.assertEqual(self.bodies(), [b"late"])

    def test_types_without_events_are_forgotten_when_there_are_many(self):
        """A queue server keeps a type for as long as a consumer asks for it."""
        reserved, names = [], [f"image.{number:03}" for number in range(150)]

        class Kept(MemoryQueue):
            def types(self):
                return succeed(names)

            def reserve(self, types, timeout=None):
                reserved.append(types)
                return super().reserve(types, timeout)

        self.queue = Kept(self.clock)
        self.put(b"later", kind="image.007", delay=60)
        self.start(select=self.select)
        self.clock.pump([1])
        self.assertEqual(reserved[-1], {"image.007"})
        self.put(b"again", kind="image.100")
        self.clock.pump([1, 1])
        self.assertEqual(self.bodies(), [b"again"])

    def test_a_few_types_are_reserved_without_being_counted(self):
        class Uncounted(MemoryQueue):
            depth = None

        self.queue = Uncounted(self.clock)
        self.put(b"cat", kind="image.png")
        self.start(select=self.select)
        self.assertEqual(self.bodies(), [b"cat"])

    def test_an_outage_while_the_types_are_counted_is_one_failure(self):
        class Away(MemoryQueue):
            def types(self):
                return succeed([f"image.{number}" for number in range(150)])

            def depth(self, event_type):
                return fail(QueueUnavailable("away"))

        self.queue = Away(self.clock)
        with capturedLogs() as events:
            self.start(select=self.select)
        self.assertEqual(self.logged(events), ["cannot reserve events: away; trying again"])
        self.successResultOf(self.consumer.stop())

    def test_all_loops_share_one_look_up_a_second(self):
        look_ups = []

        def select(existing):
            look_ups.append(self.clock.seconds())
            return frozenset(["mail"])

        self.start(select=select, concurrency=10)
        self.clock.pump([0.5] * 8)
        self.assertEqual(look_ups, [0.0, 1.0, 2.0, 3.0, 4.0])


class OutageTests(ConsumerTestCase):
    def test_an_outage_and_its_end_are_logged_once_for_all_loops(self):
        self.start(concurrency=20)
        with capturedLogs() as events:
            self.queue.go_away()
            self.clock.pump([1] * 20)
            self.queue.come_back()
            self.put(b"after")
            self.clock.advance(5)
        self.assertEqual(
            self.logged(events),
            [
                "cannot reserve events: the connection was lost; trying again",
                "the queue answers again",
            ],
        )
        self.assertEqual(self.bodies(), [b"after"])

    def test_its_owner_is_told_whether_the_queue_answers(self):
        self.start()
        self.put(b"1")
        self.endings[0].callback(None)
        self.queue.go_away()
        self.queue.come_back()
        self.put(b"2")
        self.clock.advance(5)
        self.assertEqual(self.connected, [True, False, True])

    def test_loops_that_know_no_type_yet_do_not_end_an_outage(self):
        self.queue.go_away()
        with capturedLogs() as events:
            self.start(select=frozenset, concurrency=8)
            self.consumer.types = frozenset()
            self.clock.pump([0.5] * 60)
        self.assertEqual(
            self.logged(events), ["cannot reserve events: the connection was lost; trying again"]
        )
        self.assertEqual(set(self.connected), {False})

    def test_attempts_grow_rarer(self):
        attempts = []

        class Away(MemoryQueue):
            def reserve(self, types, timeout=None):
                attempts.append(types)
                return fail(QueueUnavailable("away"))

        self.queue = Away(self.clock)
        self.start()
        self.clock.pump([0.1] * 600)
        self.assertTrue(10 <= len(attempts) <= 20, len(attempts))


class StopTests(ConsumerTestCase):
    def test_an_idle_consumer_stops_at_once(self):
        self.successResultOf(self.start(concurrency=3).stop())
        self.put(b"")
        self.assertEqual((self.bodies(), self.clock.getDelayedCalls()), ([], []))

    def test_stopping_waits_for_handlers_and_reserves_nothing_more(self):
        self.start()
        self.put(b"1", b"2")
        stopped = self.consumer.stop()
        self.assertNoResult(stopped)
        self.endings[0].callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.bodies(), [b"1"])

    def test_an_event_is_held_while_stopping_waits_for_its_handler(self):
        self.start()
        self.put(b"", ttr=3)
        self.consumer.stop()
        self.clock.pump([1] * 10)
        self.successResultOf(self.deliveries[0].ack())
        self.assertEqual(self.depth(), Depth())

    def test_what_handlers_still_hold_can_be_given_back(self):
        self.start(concurrency=3)
        self.put(b"held", b"settled", b"lost", ttr=100)
        self.consumer.stop()
        self.successResultOf(self.deliveries[1].ack())
        self.assertEqual(self.consumer.give_back(), 2)
        self.assertEqual(self.depth(), Depth(ready=2))
        self.failureResultOf(self.deliveries[0].ack(), NotReserved)
        self.assertEqual(self.consumer.give_back(), 0)

    def test_an_event_that_cannot_be_given_back_is_logged(self):
        self.start()
        self.put(b"")
        self.queue.go_away()
        with capturedLogs() as events:
            self.assertEqual(self.consumer.give_back(), 1)
        self.assertEqual(
            self.logged(events),
            ["event 1 (mail) could not be given back: the connection was lost"],
        )

    def test_a_consumer_stops_during_an_outage(self):
        self.start()
        self.queue.go_away()
        self.successResultOf(self.consumer.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_handler_may_give_up_a_wait_when_it_is_stopped(self):
        given_up = []

        async def handle(delivery):
            await self.consumer.until_stopped(Deferred(given_up.append))

        self.start(handle=handle)
        self.put(b"")
        self.assertEqual(given_up, [])
        self.successResultOf(self.consumer.stop())
        self.assertEqual(len(given_up), 1)
        self.assertEqual(self.depth(), Depth(reserved=1))

    def test_a_wait_that_begins_after_the_stop_is_given_up_at_once(self):
        consumer = self.start()
        self.successResultOf(consumer.stop())
        late = Deferred.fromCoroutine(consumer.until_stopped(Deferred()))
        self.failureResultOf(late, CancelledError)
