"""A handler runner on a memory queue and a clock, for the tests of this folder."""

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.testing import MemoryQueue
from evserve.work.policy import RetryPolicy
from evserve.work.routing import Route, Routes
from evserve.work.runner import HandlerRunner, WorkMetrics


class RunnerTestCase(SynchronousTestCase):
    """Handlers record what they get in `calls`; each waits for a Deferred of its own."""

    def setUp(self):
        self.clock = Clock()
        self.queue = MemoryQueue(self.clock)
        self.registry = CollectorRegistry()
        self.calls = []
        self.threads = []

    def handler(self, event):
        running = Deferred()
        self.calls.append((event, running))
        return running

    def in_thread(self, function):
        """Simulate a thread: the test calls `function`, and fires `result` when it has ended."""
        result = Deferred()
        self.threads.append((function, result))
        return result

    def work(self, *routes, concurrency=2, timeout=None, max_attempts=3, keep=0):
        routes = Routes(routes or [Route("mail", self.handler)])
        metrics = WorkMetrics(self.registry)
        self.runner = HandlerRunner(
            self.queue,
            routes,
            self.clock,
            metrics,
            self.in_thread,
            concurrency,
            RetryPolicy(max_attempts),
            timeout,
            keep,
            roll=lambda: 1.0,
        )
        self.runner.start()
        return self.runner

    def put(self, *bodies, kind="mail", **rest):
        for body in bodies:
            self.successResultOf(self.queue.put(kind, body, **rest))

    def depth(self, kind="mail"):
        depth = self.successResultOf(self.queue.depth(kind))
        return {
            state: getattr(depth, state)
            for state in ("ready", "reserved", "delayed", "buried")
            if getattr(depth, state)
        }

    def bodies(self):
        return [event.body for event, _ in self.calls]

    def metric(self, name, **labels):
        return self.registry.get_sample_value(name, labels)

    def outcomes(self, handler="mail"):
        return {
            outcome: value
            for outcome in ("done", "retried", "buried", "lost")
            if (
                value := self.metric("evserve_work_events_total", handler=handler, outcome=outcome)
            )
        }
