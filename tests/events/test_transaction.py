import asyncio

from twisted.internet.defer import DeferredLock, DeferredSemaphore

import evserve.aio  # noqa: F401 - by which tasks await Deferreds
from evserve.events.transaction import Transaction
from tests.loop_case import LoopTestCase, turns


class Steps:
    """Those of a database that remembers what was done."""

    def __init__(self):
        self.done = []

    def begin(self):
        self.done.append("begin")

    def claim(self):
        self.done.append("claim")

    def commit(self, raw):
        self.done.append("commit")

    def rollback(self, raw):
        self.done.append("rollback")

    def settle(self, *, committed):
        self.done.append("settle")


class Pool:
    """Calls at once, in the test's thread."""

    def callInThreadWithCallback(self, answer, function):
        answer(True, function())


class TransactionTests(LoopTestCase):
    def setUp(self):
        super().setUp()
        self.reactor.getThreadPool = Pool
        self.reactor.callFromThread = lambda function, *args: function(*args)
        self.steps = Steps()

    async def handle(self, limit):
        async with Transaction(self.reactor, self.steps, limit):
            """Nothing to write."""

    def test_what_is_done_within_it_is_committed(self):
        self.run_in_task(self.handle(DeferredLock()))
        self.assertEqual(self.steps.done, ["begin", "claim", "commit", "settle"])

    def test_a_task_that_is_cancelled_while_it_waits_keeps_no_other_from_it(self):
        """Before its turn has come, or when it has but the task does not know yet."""

        async def check(limit, turns_before):
            await limit.acquire()
            task = asyncio.create_task(self.handle(limit))
            await turns()
            if turns_before:
                task.cancel()
                await turns(turns_before)
            limit.release()
            task.cancel()
            await asyncio.wait([task])
            self.assertTrue(task.cancelled())
            await asyncio.wait_for(limit.acquire(), 5)
            self.assertNotIn("commit", self.steps.done)

        for turns_before in (0, 3):
            for limit in (DeferredLock(), DeferredSemaphore(1)):
                self.run_in_task(check(limit, turns_before))
