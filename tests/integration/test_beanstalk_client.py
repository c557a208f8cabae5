"""The beanstalk engine against Debian's beanstalkd, and against evserve's own queue."""

from unittest import SkipTest

from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from evserve.events import Capability, Depth, NotReserved, QueueUnavailable, open_queue
from tests.events.conformance import EventQueueConformance
from tests.integration.beanstalkd import start_beanstalkd
from tests.integration.processes import spawn


class BeanstalkdTestCase(TestCase):
    async def setUp(self):
        from twisted.internet import reactor

        self.reactor = reactor
        self.server = start_beanstalkd(self, reactor)
        self.port = await self.server.port

    def make_queue(self):
        return open_queue(f"beanstalk://127.0.0.1:{self.port}", self.reactor)


class BeanstalkdConformanceTests(EventQueueConformance, BeanstalkdTestCase):
    server_lacks = (
        Capability.FAN_OUT
        | Capability.KEYS
        | Capability.TRUNCATE
        | Capability.SEQUENCES
        | Capability.HISTORY
        | Capability.DRAIN
    )

    async def setUp(self):
        await BeanstalkdTestCase.setUp(self)
        EventQueueConformance.setUp(self)

    def test_an_event_that_overruns_its_ttr_is_taken_away(self):
        """beanstalkd 1.12 now and then forgets a TTR until its holder sends something.

        A connection whose timer fires while no job is overdue yet leaves its heap for good
        (conn_timeout in prot.c): about one run in ten here.
        """
        raise SkipTest("beanstalkd now and then forgets a TTR")

    test_an_event_that_overran_its_ttr_cannot_be_settled_before_another_has_it = (
        test_an_event_that_overruns_its_ttr_is_taken_away
    )


class OwnQueueConformanceTests(EventQueueConformance, TestCase):
    async def setUp(self):
        from twisted.internet import reactor

        self.reactor = reactor
        self.address = await spawn(self, "queue", "--port", "0").listening()
        EventQueueConformance.setUp(self)

    def make_queue(self):
        return open_queue(f"beanstalk://{self.address}", self.reactor)


class BeanstalkdRestartTests(BeanstalkdTestCase):
    """A server that goes away and comes back on the same port, without its events."""

    async def test_unfinished_calls_fail_and_later_ones_wait_for_the_server(self):
        queue = self.make_queue()
        self.addCleanup(queue.close)
        await queue.put("mail", b"")
        event = await queue.reserve(["mail"])
        waiting = queue.reserve(["mail"])
        await queue.depth("mail")
        await self.server.stop()
        error = await self.assertFailure(waiting, QueueUnavailable)
        self.assertIn(f"127.0.0.1:{self.port}", str(error))
        # The engine may or may not have seen the end of that connection by now.
        await self.assertFailure(queue.ack(event), NotReserved, QueueUnavailable)
        # Nor that of the shared connection, on which a put would fail as unfinished: wait for it.
        await gatherResults(list(queue._pool._open.values()))
        put = queue.put("mail", b"after")
        again = queue.reserve(["mail"])
        await start_beanstalkd(self, self.reactor, self.port).port
        await put
        self.assertEqual((await again).body, b"after")

    async def test_the_event_of_a_lost_reservation_is_never_settled_by_its_old_holder(self):
        """The new server gives the old id to another event."""
        queue = self.make_queue()
        self.addCleanup(queue.close)
        await queue.put("mail", b"old")
        old = await queue.reserve(["mail"])
        await self.server.stop()
        await start_beanstalkd(self, self.reactor, self.port).port
        self.assertEqual(await queue.put("mail", b"new"), old.id)
        await self.assertFailure(queue.ack(old), NotReserved)
        self.assertEqual(await queue.depth("mail"), Depth(ready=1))

    async def test_a_thousand_puts_in_flight_all_get_an_answer(self):
        queue = self.make_queue()
        self.addCleanup(queue.close)
        await gatherResults([queue.put("mail", b"%d" % n) for n in range(1000)])
        self.assertEqual(await queue.depth("mail"), Depth(ready=1000))
