"""The founding examples: generator-based, as in the tutorials, and on a queue."""

from twisted.trial.unittest import TestCase

from evserve.events import Depth, open_queue
from tests.integration.beanstalkd import start_beanstalkd
from tests.integration.processes import run_example


class EventExampleTestCase(TestCase):
    async def run_it(self, name, *words):
        child = run_example(self, f"events/{name}.py", *words)
        status = await child.ended
        self.assertEqual(status, 0, child.err.decode())
        return child.out.decode().splitlines()


class GeneratorExampleTests(EventExampleTestCase):
    async def test_a_producer_is_pulled(self):
        lines = await self.run_it("producer_generator", 2)
        self.assertEqual(lines, ["produced click 0", "produced click 1"])

    async def test_two_consumers_each_get_everything_in_lockstep(self):
        lines = await self.run_it("fanout_generator", 2)
        self.assertEqual(
            lines,
            [
                "billing got click 0",
                "audit got click 0",
                "billing got click 1",
                "audit got click 1",
            ],
        )

    async def test_two_consumers_are_dealt_the_jobs_in_turn(self):
        lines = await self.run_it("sharing_generator", 3)
        self.assertEqual(lines, ["fast did job 0", "slow did job 1", "fast did job 2"])


class EmbeddedExampleTests(EventExampleTestCase):
    """Without a server, in the memory of the example's own process."""

    async def test_two_consumers_each_receive_every_event(self):
        lines = await self.run_it("fanout", 3)
        expected = [f"{name} got click {n}" for name in ("audit", "billing") for n in range(3)]
        self.assertEqual(sorted(lines), expected)

    async def test_two_consumers_share_the_work(self):
        lines = await self.run_it("sharing", 4)
        done = sorted(line.partition(" did ")[2] for line in lines)
        self.assertEqual(done, [f"job {number}" for number in range(4)])

    async def test_four_threads_share_the_work(self):
        lines = await self.run_it("threads", 20)
        done = sorted(line.partition(" did ")[2] for line in lines)
        self.assertEqual(done, sorted(f"job {number}" for number in range(20)))


class QueueExampleTests(EventExampleTestCase):
    async def setUp(self):
        from twisted.internet import reactor

        port = await start_beanstalkd(self, reactor).port
        self.url = f"beanstalk://127.0.0.1:{port}"
        self.queue = open_queue(self.url, reactor)
        self.addCleanup(self.queue.close)

    async def test_events_outlive_their_producer(self):
        lines = await self.run_it("producer", self.url, 2)
        self.assertEqual(lines[1], "produced click 1 as event 2")
        self.assertEqual(await self.queue.depth("clicks"), Depth(ready=2))

    async def test_a_producer_with_a_bad_url_says_so_in_one_line(self):
        child = run_example(self, "events/producer.py", "nowhere", 2)
        self.assertEqual(await child.ended, 1)
        self.assertEqual(len(child.err.decode().splitlines()), 1, child.err.decode())

    async def test_threads_share_the_work_of_a_server(self):
        lines = await self.run_it("threads", 8, self.url)
        self.assertEqual(len({line.partition(" did ")[2] for line in lines}), 8)

    async def test_two_consumers_each_receive_every_event(self):
        lines = await self.run_it("fanout", 5, self.url)
        for name in ("billing", "audit"):
            own = [line for line in lines if line.startswith(name)]
            self.assertEqual(own, [f"{name} got click {number}" for number in range(5)])
        self.assertEqual(len(lines), 10)

    async def test_two_consumers_share_the_work_and_the_faster_does_more(self):
        lines = await self.run_it("sharing", 12, self.url)
        done = sorted(line.partition(" did ")[2] for line in lines)
        self.assertEqual(done, sorted(f"job {number}" for number in range(12)))
        fast = [line for line in lines if line.startswith("fast")]
        self.assertTrue(6 < len(fast) < 12, lines)
