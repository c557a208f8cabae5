"""Schedules: which ticks there are, and that each is put once, whatever happens meanwhile."""

import json
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.events import QueueFull, Unsupported
from evserve.plugin import Schedule
from evserve.testing import MemoryQueue
from evserve.work.schedules import LoadedSchedule, ScheduleMetrics, Scheduler, last_tick


def utc(*when):
    return datetime(*when, tzinfo=UTC).timestamp()


def ticks(expression, zone, start, end):
    """Return the ticks after `start` and before `end`, in UTC."""
    next_tick, found = Schedule(expression, "a", timezone=zone).load(), []
    tick = next_tick(start)
    while tick.timestamp() < end:
        found.append(f"{tick.astimezone(UTC):%d %H:%M}")
        tick = next_tick(tick.timestamp())
    return found


class TickTests(SynchronousTestCase):
    """Europe/Berlin is set forward from 2:00 to 3:00 (1:00 UTC), and back from 3:00 to 2:00."""

    FORWARD = (utc(2026, 3, 28, 12), utc(2026, 3, 30, 12))
    BACK = (utc(2026, 10, 24, 12), utc(2026, 10, 26, 12))

    def test_an_hour_that_does_not_come_is_made_up_for_at_its_end(self):
        found = ticks("30 2 * * *", "Europe/Berlin", *self.FORWARD)
        self.assertEqual(found, ["29 01:00", "30 00:30"])

    def test_in_an_hour_that_comes_twice_the_first_counts(self):
        found = ticks("30 2 * * *", "Europe/Berlin", *self.BACK)
        self.assertEqual(found, ["25 00:30", "26 01:30"])
        next_tick = Schedule("30 2 * * *", "a", timezone="Europe/Berlin").load()
        for minute in (5, 31, 55):  # of the second time
            after = next_tick(utc(2026, 10, 25, 1, minute)).astimezone(UTC)
            self.assertEqual(after, datetime(2026, 10, 26, 1, 30, tzinfo=UTC))

    def test_what_comes_each_hour_follows_real_time(self):
        day = ticks("0 * * * *", "Europe/Berlin", utc(2026, 10, 24, 23), utc(2026, 10, 25, 4))
        self.assertEqual(day, ["25 00:00", "25 01:00", "25 02:00", "25 03:00"])

    def test_a_time_zone_decides_when_it_is_three(self):
        start, end = utc(2026, 1, 1), utc(2026, 1, 2)
        for zone, tick in (("UTC", "01 03:00"), ("Asia/Kolkata", "01 21:30")):
            self.assertEqual(ticks("0 3 * * *", zone, start, end), [tick])

    def test_six_fields_begin_with_seconds(self):
        found = ticks("*/30 * * * * *", "UTC", utc(2026, 1, 1), utc(2026, 1, 1, 0, 2))
        self.assertEqual(found, ["01 00:00", "01 00:01", "01 00:01"])

    def test_the_last_tick_of_a_long_time_is_found_in_few_steps(self):
        start, now = utc(2016, 1, 1), utc(2026, 7, 1, 12, 0, 30) + 0.5
        for expression, last in (
            ("* * * * *", utc(2026, 7, 1, 12)),
            ("* * * 1 *", utc(2026, 1, 31, 23, 59)),
            ("0 0 29 2 *", utc(2024, 2, 29)),
            ("0 12 1 7 *", utc(2026, 7, 1, 12)),
        ):
            calls, next_tick = [], Schedule(expression, "a").load()

            def counted(after, calls=calls, next_tick=next_tick):
                calls.append(after)
                return next_tick(after)

            found = last_tick(counted, start, now)
            self.assertEqual(found.timestamp(), last)
            self.assertLess(len(calls), 40)
            self.assertIsNone(last_tick(next_tick, last, now))


class Late(MemoryQueue):
    """Its next calls of `advance` fail, or take effect although they fail."""

    failures = ()

    def advance(self, *args, **rest):
        if not self.failures:
            return super().advance(*args, **rest)
        error, takes_effect = self.failures.pop()
        if takes_effect:
            super().advance(*args, **rest)
        self._refusal = error
        failed = super().advance(*args, **rest)
        self._refusal = None
        return failed


class SchedulerTests(SynchronousTestCase):
    """The clock begins on 2026-03-01 at 2:59:30; the schedule ticks each hour."""

    def setUp(self):
        self.clock = Clock()
        self.clock.advance(utc(2026, 3, 1, 2, 59, 30))
        self.queue = MemoryQueue(self.clock)
        self.registry = CollectorRegistry()
        self.failures = []
        self.nightly = Schedule("0 * * * *", "report")

    def start(self, *schedules, queue=None, ahead=0, registry=None):
        loaded = [LoadedSchedule(each, each.load()) for each in schedules or [self.nightly]]
        scheduler = Scheduler(
            queue or self.queue,
            loaded,
            self.clock,
            ScheduleMetrics(registry or CollectorRegistry()),
            self.failures.append,
            now=lambda: self.clock.seconds() + ahead,
            roll=lambda: 1.0,
        )
        scheduler.start()
        return scheduler

    def stop(self, *schedulers):
        for each in schedulers:
            self.successResultOf(each.stop())

    def pass_time(self, seconds, step=10):
        for _ in range(seconds // step):
            self.clock.advance(step)

    def put(self, kind="report"):
        """Return the ticks that were put, as HH:MM, and remove them."""
        found = []
        while (event := self.successResultOf(self.queue.reserve([kind], 0))) is not None:
            self.successResultOf(self.queue.ack(event))
            found.append(json.loads(event.body)["tick"][11:16])
        return found

    def test_an_event_is_put_at_each_tick(self):
        scheduler = self.start(registry=self.registry)
        self.pass_time(20)
        self.assertEqual(self.put(), [])
        self.pass_time(10)
        event = self.successResultOf(self.queue.reserve(["report"], 0))
        body = {"schedule": "report", "tick": "2026-03-01T03:00:00+00:00"}
        self.assertEqual((json.loads(event.body), event.priority, event.ttr), (body, 1024, 60))
        self.queue.ack(event)
        self.pass_time(7200)
        self.assertEqual(self.put(), ["04:00", "05:00"])
        value = self.registry.get_sample_value
        self.assertEqual(value("evserve_schedule_puts_total", {"schedule": "report"}), 3)
        last = value("evserve_schedule_last_tick_seconds", {"schedule": "report"})
        self.assertEqual(last, utc(2026, 3, 1, 5))
        self.assertLess(value("evserve_schedule_late_seconds", {"schedule": "report"}), 10)
        self.stop(scheduler)
        self.assertEqual([each for each in self.clock.getDelayedCalls() if each.active()], [])

    def test_the_event_is_as_the_schedule_says(self):
        self.start(
            Schedule("0 4 * * *", "mail", timezone="Europe/Berlin", body=b"x", priority=7, ttr=9)
        )
        self.pass_time(30)
        event = self.successResultOf(self.queue.reserve(["mail"], 0))
        self.assertEqual((event.body, event.priority, event.ttr), (b"x", 7, 9))

    def test_three_workers_put_each_tick_once(self):
        workers = [self.start(ahead=ahead) for ahead in (0, 0.5, 60)]
        self.pass_time(3 * 3600)
        self.assertEqual(self.put(), ["03:00", "04:00", "05:00", "06:00"])
        self.stop(*workers[1:])
        self.pass_time(3600 + 30)
        self.assertEqual(self.put(), ["07:00"])

    def test_a_worker_whose_clock_is_ahead_puts_no_earlier_than_that_and_not_twice(self):
        self.start()
        self.start(ahead=60)
        self.pass_time(3600 - 40)  # ten seconds before the other's 4:00
        self.assertEqual(self.put(), ["03:00"])
        self.pass_time(20)
        self.assertEqual(self.put(), ["04:00"])
        self.pass_time(120)
        self.assertEqual(self.put(), [])

    def test_of_the_ticks_that_were_missed_the_last_is_put_at_the_start(self):
        self.stop(self.start())
        self.pass_time(3 * 3600)
        self.assertEqual(self.put(), [])
        workers = [self.start(), self.start()]
        self.assertEqual(self.put(), ["05:00"])
        self.stop(*workers)
        self.start()
        self.assertEqual(self.put(), [])
        self.pass_time(60)
        self.assertEqual(self.put(), ["06:00"])

    def test_a_schedule_may_skip_what_was_missed(self):
        schedule = Schedule("0 * * * *", "report", missed="skip")
        self.stop(self.start(schedule))
        self.pass_time(3 * 3600)
        self.start(schedule)
        self.assertEqual(self.put(), [])
        self.pass_time(60)
        self.assertEqual(self.put(), ["06:00"])

    def test_who_starts_to_skip_does_not_take_a_tick_from_who_runs(self):
        schedule = Schedule("0 * * * *", "report", missed="skip")
        late = Late(self.clock)
        self.queue = late
        self.start(schedule)
        late.failures = [(QueueFull("full"), False)]
        self.pass_time(30)
        self.start(schedule)
        self.assertEqual(self.put(), [])
        self.pass_time(10)
        self.assertEqual(self.put(), ["03:00"])

    def test_the_first_start_puts_nothing(self):
        self.pass_time(60)
        self.start()
        self.assertEqual(self.put(), [])
        position = self.successResultOf(self.queue.position("schedule/report"))
        self.assertEqual(position, int(self.clock.seconds()))

    def test_a_queue_that_is_away_at_the_tick_gets_it_when_it_is_back(self):
        self.start()
        self.start()
        self.queue.go_away()
        self.pass_time(300)
        self.queue.come_back()
        self.pass_time(10)
        self.assertEqual(self.put(), ["03:00"])
        self.pass_time(3600)
        self.assertEqual(self.put(), ["04:00"])

    def test_a_queue_that_is_away_at_the_start_is_asked_again(self):
        self.queue.go_away()
        self.start()
        self.pass_time(20)
        self.queue.come_back()
        self.pass_time(20)
        self.assertEqual(self.put(), ["03:00"])

    def test_a_put_whose_outcome_is_unknown_is_repeated_without_harm(self):
        for takes_effect in (True, False):
            late = Late(self.clock)
            self.queue = late
            scheduler = self.start()
            late.failures = 2 * [(QueueFull("the reply was lost"), takes_effect)]
            self.pass_time(3600)
            self.assertEqual(len(self.put()), 1)
            self.stop(scheduler)

    def test_a_call_that_fails_after_the_stop_is_not_repeated(self):
        late, asked = Late(self.clock), Deferred()
        late.position = lambda _: asked
        stopped = self.start(queue=late).stop()
        self.assertNoResult(stopped)
        asked.errback(QueueFull("too late"))
        self.successResultOf(stopped)

    def test_a_queue_without_sequences_is_one_line(self):
        late = Late(self.clock)
        late.position = lambda _: late.advance("x", 1)
        late.failures = [(Unsupported("the server does not know position"), False)]
        self.start(queue=late)
        [line] = self.failures
        self.assertIn("the server does not know position", line)

    def test_an_event_that_is_too_large_stops_no_other(self):
        body = type("Large", (bytes,), {})(b"x")
        large = Schedule("0 * * * *", "two", body=body)
        object.__setattr__(large, "event_type", "two words")
        self.start(large, self.nightly)
        self.pass_time(3600 + 60)
        self.assertEqual(self.put(), ["03:00", "04:00"])

    def test_a_calendar_that_does_not_go_on_ends_without_the_others(self):
        class Stuck(Schedule):
            def load(self):
                return lambda after: datetime.fromtimestamp(after + 0.5, UTC)

        self.start(Stuck("* * * * *", "stuck"), self.nightly)
        self.pass_time(60)
        self.assertEqual(self.put(), ["03:00"])
        [failure] = self.flushLoggedErrors(ValueError)
        self.assertIn("not a second later", str(failure.value))

    def test_a_clock_that_is_set_is_noticed(self):
        ahead = [0.0]
        loaded = [LoadedSchedule(self.nightly, self.nightly.load())]
        metrics, now = ScheduleMetrics(self.registry), lambda: self.clock.seconds() + ahead[0]
        scheduler = Scheduler(self.queue, loaded, self.clock, metrics, self.fail, now=now)
        scheduler.start()
        self.pass_time(60)
        self.assertEqual(self.put(), ["03:00"])
        ahead[0] = 3600.0
        self.pass_time(60)
        self.assertEqual(self.put(), ["04:00"])
        ahead[0] = 0.0
        self.pass_time(3600)
        self.assertEqual(self.put(), [])
        self.pass_time(3600)
        self.assertEqual(self.put(), ["05:00"])
