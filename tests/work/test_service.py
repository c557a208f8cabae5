from twisted.internet.defer import Deferred, fail
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from evserve.events import Capability, QueueUnavailable, Unsupported
from evserve.plugin import Catalogue, FoundHandler, FoundSchedule, Handler, Schedule
from evserve.testing import MemoryHost, MemoryQueue
from evserve.work import service
from evserve.work.demo import TYPE
from evserve.work.routing import Route, Routes
from evserve.work.schedules import LoadedSchedule
from evserve.work.service import Options


handled = []


def record(event):
    handled.append(event.body)


def parse(*words):
    options = Options()
    options.parseOptions(words)
    return options


class OptionsTests(SynchronousTestCase):
    def test_a_queue_is_needed_unless_the_demo_brings_one(self):
        self.assertIn("--queue URL", str(self.assertRaises(UsageError, parse)))
        self.assertIn("--demo", str(self.assertRaises(UsageError, parse, "--demo", "--queue=x:")))
        self.assertEqual(parse("--demo")["demo"], 1)

    def test_numbers_are_checked(self):
        wrong = ("--concurrency=0", "--concurrency=x", "--max-attempts=-1", "--timeout=soon")
        for word in (*wrong, "--keep=7y"):
            self.assertRaises(UsageError, parse, "--queue=memory:", word)
        words = ("--concurrency=2", "--timeout=.5", "--max-attempts=1", "--keep=2h")
        options = parse("--queue=memory:", *words)
        values = [options[name] for name in options if name != "demo"]
        self.assertEqual(values[1:], [2, 0.5, 1, 7200])


class InUseQueue(MemoryQueue):
    def open(self):
        raise QueueUnavailable("mail.db is in use")


class ServiceTestCase(SynchronousTestCase):
    def setUp(self):
        self.host = MemoryHost()
        self.queue = MemoryQueue(self.host.reactor)


class ServiceTests(ServiceTestCase):
    def make(self, routes, words=(), **rest):
        options = parse("--queue=memory:", *words)
        return service.work_service(options, self.host, self.queue, routes, **rest)

    def test_it_works_from_start_to_stop(self):
        running = Deferred()
        work = self.make(Routes([Route("mail", lambda _: running)]))
        self.queue.put("mail", b"")
        work.startService()
        self.assertEqual(self.host.metric("evserve_work_running"), 1)
        stopped = work.stopService()
        self.assertNoResult(stopped)
        running.callback(None)
        self.successResultOf(stopped)
        done = {"handler": "mail", "outcome": "done"}
        self.assertEqual(self.host.metric("evserve_work_events_total", **done), 1)
        self.assertEqual([c for c in self.host.reactor.getDelayedCalls() if c.active()], [])

    def test_a_mistake_of_the_user_is_a_usage_error(self):
        self.patch(service, "discover", lambda: Catalogue({}, ()))
        options = parse("--queue=nonsense")
        self.assertRaises(UsageError, service.makeService, options, self.host)
        only = Catalogue({}, (), {"a": FoundHandler(Handler("a", f"{__name__}.record"), "")})
        self.patch(service, "discover", lambda: only)
        error = self.assertRaises(UsageError, service.makeService, options, self.host)
        self.assertIn("'nonsense'", str(error))

    def test_a_queue_that_cannot_be_opened_ends_the_process(self):
        self.queue = InUseQueue(self.host.reactor)
        work = self.make(Routes([Route("mail", record)]))
        work.startService()
        self.assertEqual(self.host.failures, ["mail.db is in use"])
        self.successResultOf(work.stopService())
        self.assertEqual(self.host.reactor.getDelayedCalls(), [])

    def test_schedules_alone_are_work(self):
        hourly = FoundSchedule(Schedule("0 * * * *", "report"), "")
        self.patch(service, "discover", lambda: Catalogue({}, (), {}, {"report": hourly}))
        self.patch(service, "open_queue", lambda *_: self.queue)
        work = service.makeService(parse("--queue=memory:"), self.host)
        work.startService()
        self.assertIsNotNone(self.successResultOf(self.queue.position("schedule/report")))
        self.successResultOf(work.stopService())
        self.assertEqual([c for c in self.host.reactor.getDelayedCalls() if c.active()], [])

    def test_nothing_is_reserved_while_a_schedule_waits_for_the_queue_at_the_stop(self):
        position = Deferred()
        slow = type("SlowQueue", (MemoryQueue,), {"position": lambda *_: position})
        self.queue = slow(self.host.reactor)
        hourly = Schedule("0 * * * *", "report")
        routes = Routes([Route("mail", record)])
        work = self.make(routes, schedules=[LoadedSchedule(hourly, hourly.load())])
        work.startService()
        stopped = work.stopService()
        self.successResultOf(self.queue.put("mail", b""))
        self.assertEqual(self.successResultOf(self.queue.depth("mail")).ready, 1)
        position.callback(None)
        self.successResultOf(stopped)

    def test_schedules_and_keep_need_a_queue_that_has_what_they_use(self):
        hourly = FoundSchedule(Schedule("0 * * * *", "report"), "")
        self.patch(service, "discover", lambda: Catalogue({}, (), {}, {"report": hourly}))
        for capabilities, cause in (
            (Capability.HISTORY, "there can be no schedules (report)"),
            (Capability.SEQUENCES, "has no history: leave out --keep"),
        ):
            queue = MemoryQueue(self.host.reactor, capabilities=capabilities)
            self.patch(service, "open_queue", lambda *_, queue=queue: queue)
            options = parse("--queue=memory:", "--keep=7d")
            error = self.assertRaises(UsageError, service.makeService, options, self.host)
            self.assertIn(cause, str(error))

    def test_with_keep_nothing_is_handled_before_the_queue_has_shown_its_history(self):
        self.queue.put("mail", b"")
        self.queue.go_away()
        work = self.make(Routes([Route("mail", record)]), words=("--keep=7d",))
        work.startService()
        self.host.reactor.pump([0.05] * 20)
        self.queue.come_back()
        self.host.reactor.pump([0.5] * 20)
        [handled] = self.successResultOf(self.queue.history())
        self.assertEqual(handled.outcome, "done")
        self.successResultOf(work.stopService())

    def test_a_server_without_a_history_is_one_line(self):
        class Old(MemoryQueue):
            def history(self, event_type=None, limit=100):
                return fail(Unsupported("the server does not know history"))

        self.queue = Old(self.host.reactor)
        work = self.make(Routes([Route("mail", record)]), words=("--keep=7d",))
        work.startService()
        [line] = self.host.failures
        self.assertIn("does not know history", line)
        self.successResultOf(work.stopService())

    def test_it_may_be_stopped_while_it_waits_for_the_queue(self):
        self.queue.go_away()
        work = self.make(Routes([Route("mail", record)]), words=("--keep=7d",))
        work.startService()
        self.queue.come_back()
        self.successResultOf(work.stopService())
        self.assertEqual([c for c in self.host.reactor.getDelayedCalls() if c.active()], [])

    def test_patterns_need_a_queue_that_lists_its_types(self):
        found = FoundHandler(Handler("a.*", f"{__name__}.record"), "")
        self.patch(service, "discover", lambda: Catalogue({}, (), {"a.*": found}))
        queue = MemoryQueue(self.host.reactor, capabilities=Capability(0))
        self.patch(service, "open_queue", lambda *_: queue)
        error = self.assertRaises(
            UsageError, service.makeService, parse("--queue=memory:"), self.host
        )
        self.assertIn("a.*", str(error))


class DemoTests(ServiceTestCase):
    """10 events/s in, 8/s out, and none is lost."""

    def test_demo(self):
        self.patch(service, "open_queue", lambda *_: self.queue)
        output = self.capture()
        demo = service.makeService(parse("--demo"), self.host)
        demo.startService()
        self.host.reactor.pump([0.05] * 103)
        lines = output.lines()
        self.assertEqual(len(lines), 5)
        for line in lines:
            self.assertEqual(line.split()[::2], ["produced", "consumed", "depth"])
            produced, consumed, depth = map(int, line.split()[1::2])
            self.assertEqual(produced, consumed + depth)
        self.assertTrue(49 <= produced <= 50, produced)
        self.assertTrue(32 <= consumed <= 40, consumed)
        stopped = demo.stopService()
        self.host.reactor.pump([0.05] * 21)
        self.successResultOf(stopped)
        self.assertEqual(output.lines()[-1], "lost 0")
        self.assertEqual([c for c in self.host.reactor.getDelayedCalls() if c.active()], [])

    def test_it_may_stop_before_its_first_report(self):
        self.patch(service, "open_queue", lambda *_: self.queue)
        output = self.capture()
        demo = service.makeService(parse("--demo"), self.host)
        demo.startService()
        self.successResultOf(demo.stopService())
        self.assertEqual(output.lines(), ["produced 0  consumed 0  depth 0", "lost 0"])

    def capture(self):
        captured = Capture()
        self.patch(service.sys, "stderr", captured)
        return captured

    def test_it_keeps_its_pace_at_any_concurrency(self):
        self.patch(service, "open_queue", lambda *_: self.queue)
        self.capture()
        demo = service.makeService(parse("--demo", "--concurrency=1"), self.host)
        demo.startService()
        self.host.reactor.pump([0.025] * 405)
        done = self.host.metric("evserve_work_events_total", handler=TYPE, outcome="done")
        self.assertTrue(75 <= done <= 80, done)


class Capture:
    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        """Nothing to do."""

    def lines(self):
        return self.text.splitlines()
