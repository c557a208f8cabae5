"""What every engine must do: one class of tests, run against all of them.

An engine's own test module mixes EventQueueConformance into a trial TestCase:

    class EmbeddedTests(EventQueueConformance, TestCase):
        def make_queue(self):
            return open_queue("memory:", reactor)

Tests name types of their own, so engines that keep events between tests may share a server.
"""

import json
from datetime import timedelta
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any
from unittest import SkipTest
from uuid import uuid4

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.python import log
from twisted.python.threadpool import ThreadPool

from evserve.events import (
    ERRORS,
    MAX_ID,
    MAX_RESULT,
    BadEvent,
    Capability,
    Depth,
    Event,
    NotReserved,
    QueueClosed,
    QueueError,
    QueueFull,
    State,
    Unsupported,
)


class Odd:
    """A number that is no int, as numpy's are, and shows itself as something else."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value

    def __float__(self):
        return float(self.value)

    def __str__(self):
        return "1\r\ndelete 1"

    __repr__ = __str__


class EventQueueConformance:
    """Mix into a TestCase that has `make_queue() -> EventQueue`; the tests close what they open.

    Override `pass_time` where time does not pass by itself. Engines with TRANSACTIONS have
    `connect`, which returns the database driver's own connection, without autocommit.
    """

    server_lacks = Capability(0)
    """Features of the engine that the server in these tests lacks."""

    def pass_time(self, waiting: "Deferred[Any]") -> "Deferred[Any]":
        """Return `waiting`, and let time pass until it fires."""
        return waiting

    def setUp(self):
        self.queue = self.open()
        self.kind = f"conformance.{uuid4().hex}"

    def open(self):
        queue = self.make_queue()
        self.addCleanup(queue.close)
        return queue

    def need(self, capability):
        if capability not in self.queue.capabilities & ~self.server_lacks:
            raise SkipTest(f"this engine lacks {capability}")

    async def bodies(self, count, *kinds):
        taken = [await self.queue.reserve(kinds or [self.kind], 0) for _ in range(count)]
        return [event and event.body for event in taken]

    async def failure_of(self, kind, deferred):
        return str(await self.assertFailure(deferred, kind))

    async def unhurried(self, scenario):
        """Await `scenario(kind, seconds)` with one second; if that is too short, with ten."""
        try:
            await scenario(self.kind, 1)
        except (self.failureException, NotReserved):
            await scenario(self.kind + ".slowly", 10)

    # Put and reserve

    async def test_opening_an_open_queue_changes_nothing(self):
        put = self.queue.put(self.kind, b"")
        self.queue.open()
        self.queue.open()
        event = await self.queue.reserve([self.kind], 10)
        self.assertEqual(event.id, await put)

    async def test_what_was_put_is_what_is_reserved(self):
        body = bytes(range(256)) + b"\r\nRESERVED 1 2\r\n"
        number = await self.queue.put(self.kind, body, priority=7, ttr=9)
        event = await self.queue.reserve([self.kind])
        self.assertEqual(
            (event.id, event.type, event.body, event.priority, event.ttr, event.attempts),
            (number, self.kind, body, 7, 9, 1),
        )

    async def test_an_empty_body_is_a_body(self):
        await self.queue.put(self.kind, b"")
        self.assertEqual(await self.bodies(1), [b""])

    async def test_order_is_by_priority_then_age_over_all_types(self):
        other = self.kind + ".other"
        await self.queue.put(self.kind, b"third", priority=5)
        await self.queue.put(other, b"second", priority=4)
        await self.queue.put(other, b"fourth", priority=5)
        await self.queue.put(self.kind, b"first", priority=0)
        self.assertEqual(
            await self.bodies(5, self.kind, other),
            [b"first", b"second", b"third", b"fourth", None],
        )

    async def test_a_consumer_gets_only_the_types_it_names(self):
        await self.queue.put(self.kind + ".other", b"")
        self.assertIsNone(await self.queue.reserve([self.kind], 0))

    async def test_a_waiting_consumer_is_woken_by_a_put(self):
        waiting = self.queue.reserve([self.kind])
        await self.queue.put(self.kind, b"now")
        self.assertEqual((await waiting).body, b"now")

    async def test_a_waiting_consumer_delays_no_other_call(self):
        waiting = self.queue.reserve([self.kind])
        other = self.kind + ".other"
        await self.queue.put(other, b"")
        await self.queue.ack(await self.queue.reserve([other]))
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)

    async def test_a_wait_ends_at_its_timeout(self):
        self.assertIsNone(await self.pass_time(self.queue.reserve([self.kind], 1)))

    async def test_consumers_share_the_work(self):
        waiting = [self.queue.reserve([self.kind]) for _ in range(5)]
        puts = [self.queue.put(self.kind, b"%d" % number) for number in range(5)]
        await gatherResults(puts)
        events = await gatherResults(waiting)
        self.assertEqual(sorted(event.body for event in events), [b"0", b"1", b"2", b"3", b"4"])

    async def test_a_cancelled_wait_takes_no_event(self):
        waiting = self.queue.reserve([self.kind])
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        await self.queue.put(self.kind, b"for another")
        event = await self.pass_time(self.queue.reserve([self.kind], 5))
        self.assertEqual(event.body, b"for another")

    async def test_a_delayed_event_comes_when_its_delay_is_over(self):
        async def delayed(kind, seconds):
            await self.queue.put(kind, b"later", delay=seconds)
            self.assertEqual((await self.queue.depth(kind)).delayed, 1)
            self.assertIsNone(await self.queue.reserve([kind], 0))
            event = await self.pass_time(self.queue.reserve([kind]))
            self.assertEqual((event.body, event.delay), (b"later", seconds))

        await self.unhurried(delayed)

    async def test_many_puts_at_once_keep_their_order(self):
        wanted = [b"%d" % number for number in range(50)]
        await gatherResults([self.queue.put(self.kind, body) for body in wanted])
        self.assertEqual(await self.bodies(50), wanted)

    # Settling

    async def test_an_acknowledged_event_is_gone(self):
        await self.queue.put(self.kind, b"")
        await self.queue.ack(await self.queue.reserve([self.kind]))
        self.assertEqual(await self.queue.depth(self.kind), Depth())

    async def test_an_acknowledgement_cannot_run_twice(self):
        await self.queue.put(self.kind, b"")
        event = await self.queue.reserve([self.kind])
        both = [self.queue.ack(event), self.queue.ack(event)]
        await both[0]
        self.assertIn(event.id, await self.failure_of(NotReserved, both[1]))

    async def test_a_settled_event_cannot_be_settled_otherwise(self):
        await self.queue.put(self.kind, b"")
        event = await self.queue.reserve([self.kind])
        await self.queue.retry(event)
        await self.failure_of(NotReserved, self.queue.ack(event))
        await self.failure_of(NotReserved, self.queue.retry(event))
        await self.failure_of(NotReserved, self.queue.bury(event, "late"))
        await self.failure_of(NotReserved, self.queue.touch(event))
        self.assertEqual(await self.queue.depth(self.kind), Depth(ready=1))

    async def test_a_retried_event_comes_back_counted(self):
        await self.queue.put(self.kind, b"again")
        await self.queue.retry(await self.queue.reserve([self.kind]))
        event = await self.queue.reserve([self.kind], 0)
        self.assertEqual((event.body, event.attempts, event.releases), (b"again", 2, 1))

    async def test_a_retry_keeps_the_place_in_the_order(self):
        for body in (b"1", b"2"):
            await self.queue.put(self.kind, body)
        await self.queue.retry(await self.queue.reserve([self.kind]))
        self.assertEqual(await self.bodies(2), [b"1", b"2"])

    async def test_a_retry_waits_for_its_delay(self):
        async def retried(kind, seconds):
            await self.queue.put(kind, b"")
            await self.queue.retry(await self.queue.reserve([kind]), seconds / 2)
            self.assertEqual(await self.queue.depth(kind), Depth(delayed=1))
            event = await self.pass_time(self.queue.reserve([kind]))
            self.assertEqual(event.attempts, 2)

        await self.unhurried(retried)

    async def test_a_buried_event_leaves_a_record_and_can_be_kicked(self):
        await self.queue.put(self.kind, b"hopeless")
        event = await self.queue.reserve([self.kind])
        await self.queue.bury(event, "ValueError: no such image")
        self.assertEqual(await self.queue.depth(self.kind), Depth(buried=1))
        record = await self.record_of(event)
        self.assertEqual(record["reason"], "ValueError: no such image")
        self.assertEqual((record["type"], record["attempts"]), (self.kind, 1))
        self.assertEqual(await self.queue.kick(self.kind, 10), 1)
        again = await self.queue.reserve([self.kind], 0)
        self.assertEqual((again.body, again.attempts, again.buries), (b"hopeless", 2, 1))
        self.assertEqual(again.kicks, 1)

    async def record_of(self, event):
        """Read records until that of `event`: a shared server may hold others."""
        while True:
            record = await self.queue.reserve([ERRORS], 0)
            await self.queue.ack(record)
            if json.loads(record.body)["id"] == event.id:
                return json.loads(record.body)

    async def test_a_buried_record_leaves_no_record(self):
        await self.queue.put(ERRORS, b"{}", priority=0)
        before = (await self.queue.depth(ERRORS)).ready
        event = await self.queue.reserve([ERRORS], 0)
        await self.queue.bury(event, "the reader of records fails")
        self.assertEqual((await self.queue.depth(ERRORS)).ready, before - 1)
        self.assertEqual(await self.queue.kick(ERRORS, 1), 1)
        await self.queue.ack(await self.queue.reserve([ERRORS], 0))

    async def test_kick_makes_delayed_events_ready_when_none_is_buried(self):
        for body in (b"1", b"2", b"3"):
            await self.queue.put(self.kind, body, delay=100)
        self.assertEqual(await self.queue.kick(self.kind, 2), 2)
        self.assertEqual(await self.queue.depth(self.kind), Depth(ready=2, delayed=1))
        self.assertEqual(await self.queue.kick(self.kind + ".unknown", 2), 0)

    async def test_an_event_that_overruns_its_ttr_is_taken_away(self):
        async def overrun(kind, seconds):
            await self.queue.put(kind, b"", ttr=seconds)
            late = await self.queue.reserve([kind])
            again = await self.pass_time(self.queue.reserve([kind]))
            self.assertEqual((again.id, again.attempts, again.timeouts), (late.id, 2, 1))
            await self.failure_of(NotReserved, self.queue.ack(late))
            await self.queue.ack(again)

        await self.unhurried(overrun)

    async def test_an_event_that_overran_its_ttr_cannot_be_settled_before_another_has_it(self):
        settles = {
            "ack": self.queue.ack,
            "retry": lambda event: self.queue.retry(event, 1000),
            "bury": lambda event: self.queue.bury(event, "late"),
            "touch": self.queue.touch,
        }
        late = {}
        for name in settles:
            await self.queue.put(f"{self.kind}.{name}", b"", ttr=1)
            late[name] = await self.queue.reserve([f"{self.kind}.{name}"])
        await self.pass_time(self.queue.reserve([self.kind], 2))
        for name, settle in settles.items():
            await self.failure_of(NotReserved, settle(late[name]))
            self.assertEqual(await self.queue.depth(f"{self.kind}.{name}"), Depth(ready=1))
            again = await self.queue.reserve([f"{self.kind}.{name}"], 0)
            self.assertEqual((again.attempts, again.timeouts), (2, 1))
            await self.queue.ack(again)
        self.assertNotIn(late["bury"].id, await self.recorded())

    async def recorded(self):
        """Return the ids of the events that have records, and remove these."""
        found = []
        while (record := await self.queue.reserve([ERRORS], 0)) is not None:
            await self.queue.ack(record)
            found.append(json.loads(record.body)["id"])
        return found

    async def test_touch_keeps_an_event(self):
        async def touched(kind, seconds):
            await self.queue.put(kind, b"", ttr=2 * seconds)
            event = await self.queue.reserve([kind])
            for _ in range(3):
                self.assertIsNone(await self.pass_time(self.queue.reserve([kind], seconds)))
                await self.queue.touch(event)
            await self.queue.ack(event)

        await self.unhurried(touched)

    # Keys

    async def test_a_key_has_one_event_at_most(self):
        self.need(Capability.KEYS)
        first = await self.queue.put(self.kind, b"1", key="image/7")
        self.assertEqual(await self.queue.put(self.kind, b"2", key="image/7"), first)
        other = await self.queue.put(self.kind + ".other", b"3", key="image/7")
        self.assertNotEqual(other, first)
        event = await self.queue.reserve([self.kind], 0)
        self.assertEqual(await self.queue.put(self.kind, b"4", key="image/7"), first)
        await self.queue.bury(event, "no such image")
        self.assertEqual(await self.queue.put(self.kind, b"5", key="image/7"), first)
        self.assertEqual(await self.queue.depth(self.kind), Depth(buried=1))

    async def test_a_key_is_free_when_its_event_is_gone(self):
        self.need(Capability.KEYS)
        first = await self.queue.put(self.kind, b"1", key="k")
        await self.queue.ack(await self.queue.reserve([self.kind], 0))
        second = await self.queue.put(self.kind, b"2", key="k")
        await self.queue.delete(second)
        third = await self.queue.put(self.kind, b"3", key="k", priority=1, ttr=9)
        self.assertEqual(len({first, second, third}), 3)
        event = await self.queue.reserve([self.kind], 0)
        self.assertEqual((event.body, event.priority, event.ttr), (b"3", 1, 9))

    async def test_puts_of_one_key_at_once_store_one_event(self):
        self.need(Capability.KEYS)
        ids = await gatherResults([self.queue.put(self.kind, b"", key="k") for _ in range(5)])
        self.assertEqual(len(set(ids)), 1)
        self.assertEqual(await self.queue.depth(self.kind), Depth(ready=1))

    async def test_copies_have_no_key(self):
        self.need(Capability.KEYS | Capability.FAN_OUT)
        target = self.kind + ".audit"
        await self.queue.bind(self.kind, target)
        await self.queue.put(self.kind, b"1", key="k")
        await self.queue.put(self.kind, b"2", key="k")
        self.assertEqual(await self.bodies(2, target), [b"1", None])
        await self.queue.put(target, b"3", key="k")
        self.assertEqual(await self.bodies(1, target), [b"3"])

    # Reserving many, and one by its id

    async def test_many_events_come_in_order_and_are_settled_one_by_one(self):
        for body in (b"2", b"3", b"4"):
            await self.queue.put(self.kind, body)
        await self.queue.put(self.kind + ".other", b"1", priority=0)
        kinds = [self.kind, self.kind + ".other"]
        first, second, third = await self.queue.reserve_many(kinds, 3)
        self.assertEqual([each.body for each in (first, second, third)], [b"1", b"2", b"3"])
        self.assertEqual((first.type, second.type), (kinds[1], self.kind))
        self.assertEqual((second.attempts, second.priority, second.ttr), (1, 1024, 60))
        await self.queue.retry(third)
        await self.queue.touch(second)
        await self.queue.ack(first)
        await self.failure_of(NotReserved, self.queue.ack(first))
        self.assertEqual(await self.queue.depth(self.kind), Depth(ready=2, reserved=1))
        rest = await self.queue.reserve_many(kinds, 1000, 0)
        self.assertEqual([(each.body, each.attempts) for each in rest], [(b"3", 2), (b"4", 1)])
        await self.queue.bury(second, "no such image")
        await gatherResults([self.queue.ack(each) for each in rest])
        self.assertEqual(await self.queue.depth(self.kind), Depth(buried=1))
        self.assertEqual(await self.queue.reserve_many(kinds, 2, 0), [])

    async def test_who_waits_for_many_is_woken_by_one(self):
        waiting = self.queue.reserve_many([self.kind], 10)
        await self.queue.put(self.kind, b"now")
        self.assertEqual([each.body for each in await waiting], [b"now"])
        waiting = self.queue.reserve_many([self.kind], 10)
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        self.assertEqual(await self.pass_time(self.queue.reserve_many([self.kind], 10, 1)), [])

    async def test_an_event_is_reserved_by_its_id_before_its_turn(self):
        ids = [
            await self.queue.put(self.kind, body, **options)
            for body, options in ((b"1", {}), (b"2", {}), (b"3", {"delay": 100}))
        ]
        await self.queue.bury(await self.queue.reserve([self.kind]), "no such image")
        for event_id, body, attempts in ((ids[1], b"2", 1), (ids[2], b"3", 1), (ids[0], b"1", 2)):
            event = await self.queue.reserve_event(event_id)
            self.assertEqual((event.id, event.body, event.attempts), (event_id, body, attempts))
            self.assertIsNone(await self.queue.reserve_event(event_id))
            await self.queue.ack(event)
            self.assertIsNone(await self.queue.reserve_event(event_id))
        self.assertEqual(await self.queue.depth(self.kind), Depth())

    # What an operator does

    async def test_peek_shows_what_is_next_in_each_state(self):
        for state in (State.READY, State.DELAYED, State.BURIED):
            self.assertIsNone(await self.queue.peek(self.kind, state))
        for body in (b"1", b"2"):
            await self.queue.put(self.kind, body)
        taken = await self.queue.reserve_many([self.kind], 2)
        for event in reversed(taken):
            await self.queue.bury(event, "no such image")
        await self.queue.put(self.kind, b"4", priority=8)
        await self.queue.put(self.kind, b"3", priority=7, ttr=9)
        await self.queue.put(self.kind, b"6", delay=2000)
        await self.queue.put(self.kind, b"5", delay=1000)
        ready = await self.queue.peek(self.kind)
        self.assertEqual((ready.event.body, ready.state, ready.left), (b"3", State.READY, 0))
        self.assertEqual((ready.event.type, ready.event.priority), (self.kind, 7))
        self.assertEqual((ready.event.ttr, ready.event.receipt), (9, None))
        delayed = await self.queue.peek(self.kind, State.DELAYED)
        self.assertEqual((delayed.event.body, delayed.state), (b"5", State.DELAYED))
        self.assertTrue(900 < delayed.left <= 1000, delayed.left)
        self.assertTrue(0 <= delayed.age < 100, delayed.age)
        buried = await self.queue.peek(self.kind, State.BURIED)
        self.assertEqual((buried.event.body, buried.event.buries), (b"2", 1))
        await self.queue.kick(self.kind, 1)
        self.assertEqual((await self.queue.peek(self.kind, State.BURIED)).event.body, b"1")

    async def test_find_shows_an_event_that_another_holds(self):
        event_id = await self.queue.put(self.kind, b"found", ttr=1000)
        await self.queue.reserve([self.kind])
        found = await self.queue.find(event_id)
        self.assertEqual((found.event.id, found.event.body), (event_id, b"found"))
        self.assertEqual((found.state, found.event.attempts), (State.RESERVED, 1))
        self.assertTrue(900 < found.left <= 1000, found.left)
        self.assertIsNone(await self.queue.find(str(2**62)))

    async def test_delete_removes_what_is_not_reserved(self):
        ids = [await self.queue.put(self.kind, b"", delay=delay) for delay in (0, 100, 0)]
        event = await self.queue.reserve([self.kind])
        self.assertFalse(await self.queue.delete(event.id))
        await self.queue.bury(event, "no such image")
        for event_id in ids:
            self.assertTrue(await self.queue.delete(event_id))
            self.assertFalse(await self.queue.delete(event_id))
        self.assertEqual(await self.queue.depth(self.kind), Depth())

    async def test_truncate_removes_what_is_not_reserved(self):
        self.need(Capability.TRUNCATE)
        for delay in (0, 0, 0, 100):
            await self.queue.put(self.kind, b"", delay=delay)
        await self.queue.put(self.kind + ".other", b"")
        await self.queue.bury(await self.queue.reserve([self.kind]), "no such image")
        held = await self.queue.reserve([self.kind])
        self.assertEqual(await self.queue.truncate(self.kind), 3)
        self.assertEqual(await self.queue.depth(self.kind), Depth(reserved=1))
        await self.queue.ack(held)
        self.assertEqual(await self.queue.truncate(self.kind), 0)
        self.assertEqual(await self.queue.depth(self.kind + ".other"), Depth(ready=1))

    async def test_a_paused_type_is_not_reserved_until_the_pause_ends(self):
        await self.queue.pause(self.kind, 1000)
        await self.queue.put(self.kind, b"")
        depth = await self.queue.depth(self.kind)
        self.assertTrue(900 < depth.paused <= 1000, depth.paused)
        self.assertEqual(depth.ready, 1)
        self.assertIsNone(await self.queue.reserve([self.kind], 0))
        waiting = self.queue.reserve([self.kind, self.kind + ".other"])
        await self.queue.put(self.kind + ".other", b"")
        await self.queue.ack(await waiting)
        waiting = self.queue.reserve([self.kind])
        await self.queue.pause(self.kind, 0)
        await self.queue.ack(await waiting)
        self.assertEqual(await self.queue.depth(self.kind), Depth())

    async def test_a_pause_ends_by_itself(self):
        await self.queue.put(self.kind, b"")
        await self.queue.pause(self.kind, 1)
        await self.queue.ack(await self.pass_time(self.queue.reserve([self.kind])))
        self.assertEqual(await self.queue.depth(self.kind), Depth())

    async def test_a_queue_that_drains_accepts_nothing_and_loses_nothing(self):
        self.need(Capability.DRAIN)
        await self.queue.put(self.kind, b"1")
        await self.queue.put(self.kind, b"2")
        await self.queue.drain(on=True)
        await self.failure_of(QueueFull, self.queue.put(self.kind, b"3"))
        await self.queue.ack(await self.queue.reserve([self.kind], 0))
        event = await self.queue.reserve([self.kind], 0)
        await self.queue.bury(event, "no such image")
        self.assertEqual((await self.record_of(event))["reason"], "no such image")
        await self.queue.drain(on=False)
        await self.queue.put(self.kind, b"4")
        self.assertEqual(await self.bodies(2), [b"4", None])

    # Types, bindings, the end

    async def test_types_with_events_are_listed(self):
        self.need(Capability.LIST_TYPES)
        await self.queue.put(self.kind, b"")
        self.assertIn(self.kind, await self.queue.types())

    async def test_a_binding_copies_every_event(self):
        self.need(Capability.FAN_OUT)
        targets = [self.kind + ".billing", self.kind + ".audit"]
        for target in [*targets, targets[0]]:
            await self.queue.bind(self.kind, target)
        await self.queue.put(self.kind, b"click")
        self.assertEqual(await self.bodies(2), [b"click", None])
        for target in targets:
            self.assertEqual(await self.bodies(2, target), [b"click", None])

    async def test_an_ended_binding_copies_nothing(self):
        self.need(Capability.FAN_OUT)
        target = self.kind + ".billing"
        await self.queue.bind(self.kind, target)
        await self.queue.unbind(self.kind, target)
        await self.queue.unbind(self.kind, target)
        await self.queue.put(self.kind, b"click")
        self.assertEqual(await self.queue.depth(target), Depth())

    async def test_bindings_are_listed_in_order(self):
        self.need(Capability.FAN_OUT)
        pairs = [(self.kind, self.kind + ".b"), (self.kind, self.kind + ".a")]
        pairs.append((self.kind + ".0", self.kind))
        for pair in pairs:
            await self.queue.bind(*pair)
        await self.queue.bind(self.kind, self.kind + ".c")
        await self.queue.unbind(self.kind, self.kind + ".c")
        found = [each for each in await self.queue.bindings() if self.kind in each]
        self.assertEqual(found, sorted(pairs))

    async def test_a_lacking_feature_is_unsupported(self):
        has = self.queue.capabilities & ~self.server_lacks
        for capability, call in (
            (Capability.FAN_OUT, lambda: self.queue.bind(self.kind, self.kind + ".copy")),
            (Capability.FAN_OUT, lambda: self.queue.unbind(self.kind, self.kind + ".copy")),
            (Capability.FAN_OUT, self.queue.bindings),
            (Capability.KEYS, lambda: self.queue.put(self.kind, b"", key="k")),
            (Capability.TRUNCATE, lambda: self.queue.truncate(self.kind)),
            (
                Capability.TRANSACTIONS,
                lambda: self.queue.put(self.kind, b"", connection=object()),
            ),
            (Capability.DRAIN, lambda: self.queue.drain(on=True)),
        ):
            if capability not in has:
                await self.failure_of(Unsupported, call())
        await self.queue.put(self.kind, b"still in step")
        self.assertEqual(await self.bodies(1), [b"still in step"])

    # Transactions: an event put in one is the effect whose existence is looked at

    async def test_what_a_transaction_wrote_and_the_end_of_its_event_are_one(self):
        self.need(Capability.TRANSACTIONS)
        event, effect = await self.reserved(), self.kind + ".effect"
        async with event.transaction() as connection:
            self.assertEqual(await connection.execute("SELECT 1"), [(1,)])
            self.assertIs(await connection.run(lambda raw: raw), connection.raw)
            number = await self.queue.put(effect, b"x", connection=connection)
            self.assertEqual(await self.queue.depth(self.kind), Depth(reserved=1))
            self.assertIsNone(await self.queue.reserve([effect], 0))
        self.assertEqual(await self.queue.depth(self.kind), Depth())
        self.assertEqual((await self.queue.reserve([effect])).id, number)
        await self.failure_of(QueueError, connection.execute("SELECT 1"))
        await self.queue.touch(event)
        await self.queue.ack(event)
        await self.failure_of(NotReserved, self.queue.retry(event))
        await self.failure_of(NotReserved, self.queue.bury(event, "late"))
        await self.failure_of(NotReserved, self.handle(event, effect))

    async def test_what_a_transaction_handled_is_kept_once_with_its_result(self):
        self.need(Capability.TRANSACTIONS)
        self.need(Capability.HISTORY)
        for body in (b"\0cat.png\xff", b"unseen"):
            await self.queue.put(self.kind, body, priority=7, ttr=99)
        first, second = [await self.queue.reserve([self.kind]) for _ in range(2)]
        await self.queue.retry(first, 0.05)
        first = await self.queue.reserve([self.kind])
        for event in (first, second):
            await self.handle(event, self.kind + ".effect")
        self.assertEqual(await self.queue.history(self.kind), [])
        await self.queue.ack(second)
        await self.queue.ack(evolve(first, body=None, ttr="x"), result=b"\0done", keep=1000)
        await self.queue.ack(first, result=b"again", keep=1000)
        [handled] = await self.queue.history(self.kind)
        self.assertEqual(handled.event, evolve(first, receipt=None))
        self.assertEqual((handled.outcome, handled.result, handled.error), ("done", b"\0done", ""))
        self.assertLessEqual(handled.put_at, handled.reserved_at)
        self.assertLessEqual(handled.reserved_at, handled.settled_at)
        self.assertLess(handled.settled_at - handled.put_at, 1000)

    async def test_a_handler_that_fails_has_no_effect(self):
        self.need(Capability.TRANSACTIONS)
        event, effect = await self.reserved(), self.kind + ".effect"
        await self.failure_of(ZeroDivisionError, self.handle(event, effect, lambda: 1 / 0))
        await self.queue.touch(event)
        self.assertEqual(await self.queue.depth(self.kind), Depth(reserved=1))
        await self.handle(event, effect)
        self.assertEqual((await self.queue.reserve([effect])).body, b"x")
        self.assertIsNone(await self.queue.reserve([effect], 0.1))

    async def test_a_lost_reservation_has_no_effect(self):
        self.need(Capability.TRANSACTIONS)
        event, effect = await self.reserved(), self.kind + ".effect"
        retries = []
        lose = lambda: retries.append(self.queue.retry(event))  # noqa: E731
        await self.failure_of(NotReserved, self.handle(event, effect, lose))
        await retries[0]
        again = await self.queue.reserve([self.kind], 0)
        await self.failure_of(NotReserved, self.handle(event, effect))
        await self.handle(again, effect)
        self.assertEqual((await self.queue.reserve([effect])).body, b"x")
        self.assertIsNone(await self.queue.reserve([effect], 0.1))

    async def test_a_cancelled_handler_has_no_effect(self):
        self.need(Capability.TRANSACTIONS)
        event, effect = await self.reserved(), self.kind + ".effect"
        handled = self.handle(event, effect)
        handled.cancel()
        await self.failure_of(CancelledError, handled)
        waiting = Deferred()
        handled = self.handle(event, effect, lambda: waiting)
        await self.queue.reserve([effect], 0.1)
        handled.cancel()
        await self.failure_of(CancelledError, handled)
        self.assertEqual(await self.queue.depth(self.kind), Depth(reserved=1))
        self.assertIsNone(await self.queue.reserve([effect], 0.1))
        await self.handle(event, effect)
        self.assertEqual((await self.queue.reserve([effect])).body, b"x")

    async def test_threads_and_coroutines_have_their_effects_once(self):
        self.need(Capability.TRANSACTIONS)
        effect = self.kind + ".effect"
        puts = [self.queue.put(self.kind, b"") for _ in range(24)]
        await gatherResults(puts)
        events = await self.queue.reserve_many([self.kind], 24)
        pool = ThreadPool(1, 4)
        pool.start()
        self.addCleanup(pool.stop)

        def handle_in_thread(event):
            with event.transaction() as connection:
                putting = self.queue.put(effect, b"%d" % int(event.id), connection=connection)
                putting.addErrback(log.err)

        handled = [
            deferToThreadPool(reactor, pool, handle_in_thread, event)
            if int(event.id) % 2
            else self.handle(event, effect, body=b"%d" % int(event.id))
            for event in events
        ]
        await gatherResults(handled)
        self.assertEqual(await self.queue.depth(self.kind), Depth())
        effects = [await self.queue.reserve([effect]) for _ in events]
        self.assertEqual(
            sorted(int(each.body) for each in effects), sorted(int(each.id) for each in events)
        )
        self.assertIsNone(await self.queue.reserve([effect], 0.1))
        self.assertRaises(QueueError, events[0].transaction().__enter__)

    async def test_an_event_exists_exactly_if_the_callers_transaction_commits(self):
        self.need(Capability.TRANSACTIONS)
        connection = self.connect()
        await self.queue.put(self.kind, b"lost", connection=connection)
        connection.rollback()
        number = await self.queue.put(
            self.kind, b"kept", priority=7, ttr=9, key="k", connection=connection
        )
        self.assertIsNone(await self.queue.reserve([self.kind], 0.1))
        connection.commit()
        event = await self.queue.reserve([self.kind])
        self.assertEqual((event.id, event.body), (number, b"kept"))
        self.assertEqual((event.priority, event.ttr), (7, 9))
        await self.queue.put(self.kind, b"another", key="k", connection=connection)
        await self.queue.put(self.kind + ".delayed", b"", delay=1000, connection=connection)
        connection.commit()
        self.assertIsNone(await self.queue.reserve([self.kind], 0.1))
        while not (await self.queue.depth(self.kind + ".delayed")).delayed:
            await self.queue.reserve([self.kind], 0.05)
        self.assertEqual(await self.queue.depth(self.kind), Depth(reserved=1))
        await self.failure_of(BadEvent, self.queue.put("two words", b"", connection=connection))
        await self.failure_of(BadEvent, self.queue.put(self.kind, b"", connection="x"))

    async def reserved(self):
        await self.queue.put(self.kind, b"")
        return await self.queue.reserve([self.kind], 0)

    def handle(self, event, effect, then=lambda: None, body=b"x"):
        async def handle():
            async with event.transaction() as connection:
                await self.queue.put(effect, body, connection=connection)
                await maybeDeferred(then)

        return Deferred.fromCoroutine(handle())

    # Sequences

    async def test_of_many_advances_to_a_number_one_puts_its_event(self):
        self.need(Capability.SEQUENCES)
        self.assertIsNone(await self.queue.position(self.kind))
        advances = [
            self.queue.advance(self.kind, 7, self.kind, b"tick", priority=3, ttr=9)
            for _ in range(5)
        ]
        self.assertEqual(sorted(await gatherResults(advances)), 4 * [False] + [True])
        event = await self.queue.reserve([self.kind], 0)
        self.assertEqual((event.body, event.priority, event.ttr), (b"tick", 3, 9))
        self.assertIsNone(await self.queue.reserve([self.kind], 0))
        self.assertEqual(await self.queue.position(self.kind), 7)

    async def test_a_sequence_only_moves_forward(self):
        self.need(Capability.SEQUENCES)
        moves = [(5, True), (5, False), (4, False), (6, True), (0, False), (MAX_ID, True)]
        for number, moved in moves:
            self.assertIs(await self.queue.advance(self.kind, number), moved)
        self.assertIs(await self.queue.advance(self.kind + ".other", 0), True)
        self.assertEqual(await self.queue.position(self.kind), MAX_ID)
        self.assertEqual(await self.queue.position(self.kind + ".other"), 0)
        self.assertEqual(await self.queue.depth(self.kind), Depth())

    async def test_many_advances_at_once_put_in_order(self):
        self.need(Capability.SEQUENCES)
        numbers = [*range(20), *range(20)]
        advances = [
            self.queue.advance(self.kind, each, self.kind, b"%d" % each) for each in numbers
        ]
        self.assertEqual(await gatherResults(advances), 20 * [True] + 20 * [False])
        self.assertEqual(await self.bodies(21), [*(b"%d" % each for each in range(20)), None])

    async def test_what_an_advance_puts_is_copied_like_any_event(self):
        self.need(Capability.SEQUENCES | Capability.FAN_OUT)
        await self.queue.bind(self.kind, self.kind + ".copy")
        await self.queue.advance(self.kind, 1, self.kind, b"tick")
        self.assertEqual(await self.bodies(1, self.kind + ".copy"), [b"tick"])

    async def test_an_advance_that_puts_nothing_moves_nothing(self):
        self.need(Capability.SEQUENCES | Capability.DRAIN)
        await self.queue.drain(on=True)
        try:
            refused = self.queue.advance(self.kind, 1, self.kind, b"tick")
            await self.failure_of(QueueFull, refused)
            self.assertIsNone(await self.queue.position(self.kind))
            self.assertIs(await self.queue.advance(self.kind, 1), True)
            self.assertIs(await self.queue.advance(self.kind, 1, self.kind), False)
        finally:
            await self.queue.drain(on=False)
        self.assertIs(await self.queue.advance(self.kind, 2, self.kind, b"tick"), True)

    async def test_an_advance_with_bad_arguments_does_nothing(self):
        self.need(Capability.SEQUENCES)
        for call in (
            self.queue.advance("two words", 1),
            self.queue.advance(self.kind, -1),
            self.queue.advance(self.kind, MAX_ID + 1),
            self.queue.advance(self.kind, 1.5),
            self.queue.advance(self.kind, "1"),
            self.queue.advance(self.kind, 1, "two\r\nlines"),
            self.queue.advance(self.kind, 1, self.kind, "text"),
            self.queue.advance(self.kind, 1, self.kind, b"", priority=-1),
            self.queue.advance(self.kind, 1, self.kind, b"", ttr=0),
            self.queue.position(""),
            self.queue.position(None),
        ):
            await self.failure_of(BadEvent, call)
        self.assertIsNone(await self.queue.position(self.kind))

    # History

    async def test_what_was_acknowledged_is_kept_with_its_result(self):
        self.need(Capability.HISTORY)
        result = bytes(range(256)) + b"\r\ndelete 1\r\n"
        await self.queue.put(self.kind, b"\0cat.png\xff", priority=7, ttr=9)
        await self.queue.retry(await self.queue.reserve([self.kind]))
        event = await self.queue.reserve([self.kind])
        await self.queue.touch(event)
        await self.queue.ack(event, result=result, keep=1000)
        self.assertEqual(await self.queue.depth(self.kind), Depth())
        [handled] = await self.queue.history(self.kind)
        self.assertEqual(handled.event, evolve(event, receipt=None))
        self.assertIsNone(handled.event.receipt)
        self.assertEqual((handled.outcome, handled.result, handled.error), ("done", result, ""))
        self.assertLessEqual(handled.put_at, handled.reserved_at)
        self.assertLessEqual(handled.reserved_at, handled.settled_at)
        self.assertLess(handled.settled_at - handled.put_at, 1000)

    async def test_what_was_buried_is_kept_with_its_reason(self):
        self.need(Capability.HISTORY)
        await self.queue.put(self.kind, b"hopeless")
        event = await self.queue.reserve([self.kind])
        await self.queue.bury(event, "ValueError: no \u00e9\r\n\U0001f408\ud800\0", keep=1000)
        self.assertEqual(await self.queue.depth(self.kind), Depth(buried=1))
        [handled] = await self.queue.history(self.kind)
        self.assertEqual(handled.event, evolve(event, receipt=None))
        self.assertEqual(
            (handled.outcome, handled.result, handled.error),
            ("buried", b"", "ValueError: no \u00e9\r\n\U0001f408\\ud800\\x00"),
        )
        await self.queue.kick(self.kind, 1)
        await self.queue.ack(await self.queue.reserve([self.kind]), keep=1000)
        outcomes = [each.outcome for each in await self.queue.history(self.kind)]
        self.assertEqual(outcomes, ["done", "buried"])

    async def test_nothing_is_kept_without_keep(self):
        self.need(Capability.HISTORY)
        for keep in ({}, {"keep": 0}, {"keep": 0, "result": b"unseen"}):
            await self.queue.put(self.kind, b"")
            await self.queue.ack(await self.queue.reserve([self.kind]), **keep)
        self.assertEqual(await self.queue.history(self.kind), [])

    async def test_the_history_lists_the_last_settled_first(self):
        self.need(Capability.HISTORY)
        kinds = [self.kind, self.kind + ".other"]
        for number in range(3):
            for kind in kinds:
                await self.queue.put(kind, b"%d" % number)
                await self.queue.ack(await self.queue.reserve([kind]), keep=1000)
        listed = await self.queue.history(self.kind, 2)
        self.assertEqual([each.event.body for each in listed], [b"2", b"1"])
        listed = [each for each in await self.queue.history() if each.event.type in kinds]
        self.assertEqual([each.event.type for each in listed], 3 * kinds[::-1])
        self.assertEqual(await self.queue.history(self.kind + ".unknown"), [])

    async def test_the_history_forgets_when_keep_is_over(self):
        self.need(Capability.HISTORY)
        for keep in (1, 1000):
            await self.queue.put(self.kind, b"%d" % keep)
            await self.queue.ack(await self.queue.reserve([self.kind]), keep=keep)
        while len(handled := await self.queue.history(self.kind)) > 1:
            await self.pass_time(self.queue.reserve([self.kind], 1))
        self.assertEqual([each.event.body for each in handled], [b"1000"])

    async def test_an_event_that_is_not_reserved_is_not_kept(self):
        self.need(Capability.HISTORY)
        await self.queue.put(self.kind, b"")
        event = await self.queue.reserve([self.kind])
        await self.queue.retry(event)
        await self.failure_of(NotReserved, self.queue.ack(event, keep=1000))
        await self.failure_of(NotReserved, self.queue.bury(event, "late", keep=1000))
        self.assertEqual(await self.queue.history(self.kind), [])
        self.assertEqual(await self.queue.depth(self.kind), Depth(ready=1))

    async def test_the_largest_result_is_kept_and_a_larger_one_refused(self):
        self.need(Capability.HISTORY)
        await self.queue.put(self.kind, b"")
        event = await self.queue.reserve([self.kind])
        for wrong in (
            self.queue.ack(event, result=bytes(MAX_RESULT + 1), keep=1000),
            self.queue.ack(event, result="text", keep=1000),
            self.queue.ack(event, keep=-1),
            self.queue.ack(event, keep="7d"),
            self.queue.bury(event, "bad", keep=float("nan")),
            self.queue.history("two words"),
            self.queue.history(self.kind, 0),
            self.queue.history(self.kind, 1001),
            self.queue.history(self.kind, "1"),
        ):
            await self.failure_of(BadEvent, wrong)
        await self.queue.ack(event, result=bytes(MAX_RESULT), keep=1000)
        [handled] = await self.queue.history(self.kind)
        self.assertEqual(handled.result, bytes(MAX_RESULT))

    # The server's part of features that some lack

    async def test_sequences_and_history_are_unsupported_where_they_lack(self):
        await self.queue.put(self.kind, b"")
        event = await self.queue.reserve([self.kind])
        calls = {
            Capability.SEQUENCES: (
                lambda: self.queue.position(self.kind),
                lambda: self.queue.advance(self.kind, 1),
                lambda: self.queue.advance(self.kind, 1, self.kind, b"\r\nput 1 0 9 0\r\n\r\n"),
            ),
            Capability.HISTORY: (
                self.queue.history,
                lambda: self.queue.ack(event, result=b"\r\ndelete 1\r\n", keep=9),
                lambda: self.queue.bury(event, "delete 1", keep=9),
            ),
        }
        for capability, unsupported in calls.items():
            if capability not in self.queue.capabilities & ~self.server_lacks:
                for call in unsupported:
                    await self.failure_of(Unsupported, call())
        await self.queue.ack(event)
        self.assertEqual(await self.queue.depth(self.kind), Depth())

    async def test_bad_events_are_refused(self):
        for put in (
            self.queue.put("no spaces", b""),
            self.queue.put("-hyphen", b""),
            self.queue.put("x" * 201, b""),
            self.queue.put("", b""),
            self.queue.put(self.kind, b"", priority=2**32),
            self.queue.put(self.kind, b"", priority=-1),
            self.queue.put(self.kind, b"", delay=-1),
            self.queue.put(self.kind, b"", ttr=0),
            self.queue.put(self.kind, b"", delay=float("nan")),
            self.queue.put(self.kind, b"", delay=float("inf")),
            self.queue.put(self.kind, b"", delay=timedelta(seconds=5)),
            self.queue.put(self.kind, b"", delay="5"),
            self.queue.put(self.kind, b"", delay=b"5"),
            self.queue.put(self.kind, b"", priority="5"),
            self.queue.put(self.kind, b"", priority=10**5000),
            self.queue.put(self.kind, b"", priority=1.5),
            self.queue.put(self.kind, b"", ttr=1.5),
            self.queue.put(self.kind, b"", ttr=None),
            self.queue.put(self.kind, "text"),
            self.queue.put(self.kind, bytearray(b"may change")),
            self.queue.put(b"kind", b""),
            self.queue.put(self.kind + "\n", b""),
            self.queue.put("x" * 10**6, b""),
            self.queue.reserve(None),
            self.queue.reserve(5),
            self.queue.reserve([self.kind], -1),
            self.queue.reserve([self.kind], float("nan")),
            self.queue.reserve([self.kind], "1"),
            self.queue.reserve(self.kind),
            self.queue.reserve([b"kind"]),
            self.queue.reserve([]),
            self.queue.reserve(["image.*"]),
            self.queue.depth("é"),
            self.queue.kick("two\r\nlines", 1),
            self.queue.kick(self.kind, "1\r\ndelete 1"),
            self.queue.kick(self.kind, -1),
            self.queue.kick(self.kind, 1.5),
            self.queue.put(self.kind, b"", key="two\r\nlines"),
            self.queue.put(self.kind, b"", key=7),
            self.queue.reserve_many([self.kind], 0),
            self.queue.reserve_many([self.kind], 1001),
            self.queue.reserve_many([], 1),
            self.queue.reserve_many([self.kind], 1, -1),
            self.queue.reserve_event("1\r\ndelete 1"),
            self.queue.reserve_event(1),
            self.queue.find("x"),
            self.queue.find("9" * 19),
            self.queue.delete("0"),
            self.queue.delete("1" * 10**6),
            self.queue.peek("two lines"),
            self.queue.peek(self.kind, State.RESERVED),
            self.queue.peek(self.kind, None),
            self.queue.pause("two lines", 1),
            self.queue.pause(self.kind, -1),
            self.queue.pause(self.kind, 1.5),
            self.queue.truncate("two lines"),
            self.queue.bind(self.kind, self.kind),
            self.queue.bind(self.kind, "two\r\nlines"),
            self.queue.unbind("two lines", self.kind),
            self.queue.ack(None),
            self.queue.ack("1"),
            self.queue.retry(Event(1, self.kind, b"")),
            self.queue.touch(Event("1\r\ndelete 1", self.kind, b"")),
            self.queue.bury(Event("1\x1b", self.kind, b""), "bad"),
        ):
            message = await self.failure_of(BadEvent, put)
            self.assertTrue(message.isprintable(), message)
            self.assertLess(len(message), 1000)

    async def test_numbers_of_any_class_are_numbers(self):
        """They must not be stored, or sent to a server, as the text or bytes that they show."""
        level, name = IntEnum("Level", {"HIGH": 7}), Enum("Name", {"KIND": self.kind}, type=str)
        body = type("Body", (bytes,), {"__len__": lambda _: 1})(b"delete 1")
        numbers = {"priority": level.HIGH, "delay": Odd(0), "ttr": Odd(9)}
        await self.queue.put(name.KIND, body, **numbers)
        await self.queue.put(self.kind, b"2", priority=True, delay=Fraction(0), ttr=True)
        await self.queue.put(self.kind, b"3", priority=False, delay=0.0)
        self.assertEqual(await self.queue.depth(name.KIND), Depth(ready=3))
        taken = [await self.queue.reserve([name.KIND], Fraction(0)) for _ in range(3)]
        self.assertEqual(
            [(event.body, event.priority, event.delay, event.ttr) for event in taken],
            [(b"3", 0, 0, 60), (b"2", 1, 0, 1), (b"delete 1", 7, 0, 9)],
        )
        self.assertEqual({type(event.type) for event in taken}, {str})
        await self.queue.bury(taken[2], "no such image")
        self.assertEqual(await self.queue.kick(name.KIND, Odd(1)), 1)

    async def test_an_event_that_its_consumer_changed_is_settled_as_it_was_reserved(self):
        for body in (b"1", b"2"):
            await self.queue.put(self.kind, body, priority=5)
        first, second = [await self.queue.reserve([self.kind]) for _ in range(2)]
        await self.failure_of(NotReserved, self.queue.ack(evolve(first, id=second.id)))
        changed = evolve(first, priority="0\r\nx", type="two\r\nlines", body=None, ttr="x")
        await self.queue.touch(changed)
        await self.queue.retry(changed)
        again = await self.queue.reserve([self.kind], 0)
        self.assertEqual((again.body, again.priority, again.ttr), (b"1", 5, 60))

    async def test_a_reason_is_text(self):
        await self.queue.put(self.kind, b"")
        event = await self.queue.reserve([self.kind])
        for reason in (None, b"bytes", ValueError("no such image")):
            await self.failure_of(BadEvent, self.queue.bury(event, reason))
        await self.queue.bury(event, "\x1b\ud800é" * 10**6)
        self.assertTrue((await self.record_of(event))["reason"].startswith("\x1b\ud800é"))

    async def test_close_ends_waits_and_refuses_calls(self):
        waiting = self.queue.reserve([self.kind])
        await self.queue.close()
        await self.failure_of(QueueClosed, waiting)
        await self.failure_of(QueueClosed, self.queue.put(self.kind, b""))
        await self.failure_of(QueueClosed, self.queue.reserve([self.kind], 0))
        await self.queue.close()
