from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from evserve.events import Depth, QueueUnavailable
from evserve.testing import MemoryQueue
from tests.events.conformance import EventQueueConformance


class MemoryQueueConformanceTests(EventQueueConformance, TestCase):
    def make_queue(self):
        self.clock = Clock()
        return MemoryQueue(self.clock)

    def pass_time(self, waiting):
        for _ in range(1000):
            if waiting.called:
                break
            self.clock.advance(0.1)
        return waiting


class MemoryQueueTests(TestCase):
    """What the double does beyond the engines: it simulates a lost connection."""

    def setUp(self):
        self.clock = Clock()
        self.queue = MemoryQueue(self.clock)

    async def test_going_away_fails_waits_and_calls(self):
        waiting = self.queue.reserve(["mail"])
        self.queue.go_away()
        self.failureResultOf(waiting, QueueUnavailable)
        self.failureResultOf(self.queue.put("mail", b""), QueueUnavailable)

    async def test_what_was_reserved_is_ready_when_it_comes_back(self):
        await self.queue.put("mail", b"")
        event = await self.queue.reserve(["mail"])
        self.queue.go_away()
        self.failureResultOf(self.queue.ack(event), QueueUnavailable)
        self.queue.come_back()
        self.assertEqual(await self.queue.depth("mail"), Depth(ready=1))

    async def test_a_settled_event_leaves_no_timer_behind(self):
        await self.queue.put("mail", b"", delay=5)
        self.clock.advance(5)
        await self.queue.ack(await self.queue.reserve(["mail"], 10))
        self.assertEqual(self.clock.getDelayedCalls(), [])
