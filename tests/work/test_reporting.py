from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from evserve.events import NotReserved
from evserve.testing import MemoryQueue
from tests.work.rig import WorkerTestCase


class ReportingTests(WorkerTestCase):
    """What is logged about an event is what the queue has confirmed."""

    def setUp(self):
        super().setUp()
        self.answer = answer = Deferred()

        class Slow(MemoryQueue):
            def bury(self, event, reason):
                return answer

            def retry(self, event, delay=0):
                return answer

        self.queue = Slow(self.clock)

    def logged(self, events):
        return [line for line in map(formatEvent, events) if line.startswith("event 1")]

    def fail_once(self, max_attempts):
        self.work(max_attempts=max_attempts)
        self.put(b"")
        self.calls[-1][1].errback(ValueError("no such image"))

    def test_an_event_is_called_buried_when_it_is(self):
        with capturedLogs() as events:
            self.fail_once(max_attempts=1)
            self.assertEqual(self.logged(events), [])
            self.answer.callback(None)
        self.assertEqual(self.logged(events), ["event 1 (mail) is buried after attempt 1"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_an_event_that_was_not_buried_is_not_called_so(self):
        with capturedLogs() as events:
            self.fail_once(max_attempts=1)
            self.answer.errback(NotReserved("it went back"))
        [line] = self.logged(events)
        self.assertIn("failed (ValueError: no such image), but the queue did not confirm", line)

    def test_a_retry_is_announced_when_the_queue_has_agreed(self):
        with capturedLogs() as events:
            self.fail_once(max_attempts=3)
            self.assertEqual(self.logged(events), [])
            self.answer.callback(None)
        self.assertIn("failed, attempt 1; again in 1.0 seconds", self.logged(events)[0])

    def test_an_event_that_is_given_up_without_a_run_is_reported(self):
        self.put(b"")
        self.successResultOf(self.queue.reserve(["mail"]))
        self.queue.go_away()
        self.queue.come_back()
        with capturedLogs() as events:
            self.work(max_attempts=1)
            self.answer.callback(None)
        self.assertIn("event 1 (mail) is buried: given up without a run", self.logged(events)[0])

    def test_a_handler_that_has_ended_is_not_said_to_go_on(self):
        """Not even when the queue answers, or fails, at once."""
        self.answer.errback(NotReserved("it went back"))
        with capturedLogs() as events:
            self.fail_once(max_attempts=3)
        self.assertEqual([line for line in map(formatEvent, events) if "goes on" in line], [])
        self.assertEqual(self.metric("evserve_work_running"), 0)
