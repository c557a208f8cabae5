import asyncio
import json
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from functools import partial

from prometheus_client import CollectorRegistry
from twisted.internet.defer import CancelledError, Deferred, execute, fail, succeed
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, eventAsText, formatEvent

from evserve.aio import NoAsyncioLoop, as_deferred
from evserve.events import ERRORS, NotReserved, QueueFull, QueueUnavailable, current_event
from evserve.testing import MemoryQueue
from evserve.work.routing import Route
from evserve.work.runner import CLEAN_UP
from tests.loop_case import LoopTestCase, turns
from tests.work.runner_case import RunnerTestCase


UNUSUAL_ERRORS = (
    SystemExit(1),
    KeyboardInterrupt(),
    GeneratorExit(),
    StopIteration(5),
    StopAsyncIteration(),
    asyncio.CancelledError(),
    CancelledError(),
    BaseException("base"),
)


class HandlingTests(RunnerTestCase):
    def test_returning_acknowledges(self):
        self.work()
        self.put(b"hello")
        self.assertEqual(self.depth(), {"reserved": 1})
        self.calls[0][1].callback(None)
        self.assertEqual((self.depth(), self.outcomes()), ({}, {"done": 1}))

    def test_handlers_may_be_async_or_plain_or_return_deferreds(self):
        seen = []

        async def coroutine(event):
            await deferLater(self.clock, 1)
            seen.append(event.type)

        self.work(
            Route("a", coroutine),
            Route("b", lambda event: seen.append(event.type)),
            Route("c", lambda event: deferLater(self.clock, 2, seen.append, event.type)),
            concurrency=3,
        )
        for kind in ("a", "b", "c"):
            self.put(b"", kind=kind)
        self.clock.pump([1, 1])
        self.assertEqual(seen, ["b", "a", "c"])
        self.assertEqual([self.depth(kind) for kind in ("a", "b", "c")], [{}, {}, {}])

    def test_no_more_run_at_once_than_the_concurrency(self):
        self.work(concurrency=2)
        self.put(b"1", b"2", b"3")
        self.assertEqual(self.bodies(), [b"1", b"2"])
        self.assertEqual(self.metric("evserve_work_running"), 2)
        self.calls[0][1].callback(None)
        self.assertEqual(self.bodies(), [b"1", b"2", b"3"])

    def test_a_blocking_handler_runs_in_a_thread(self):
        self.work(Route("mail", self.calls.append, blocking=True))
        self.put(b"")
        self.assertEqual(self.calls, [])
        function, result = self.threads[0]
        result.callback(function())
        self.assertEqual((len(self.calls), self.outcomes()), (1, {"done": 1}))

    def test_an_async_function_declared_blocking_is_a_type_error(self):
        async def coroutine(event):
            """Never runs."""

        self.work(Route("mail", coroutine, blocking=True), max_attempts=1)
        self.put(b"")
        function, result = self.threads[0]
        error = self.assertRaises(TypeError, function)
        self.assertIn("blocking=True", str(error))
        result.errback(error)
        self.flushLoggedErrors(TypeError)

    def test_the_most_specific_handler_gets_the_event(self):
        seen = []
        self.work(
            Route("image.*", lambda event: seen.append(("image.*", event.type))),
            Route("image.png", lambda event: seen.append(("image.png", event.type))),
        )
        self.put(b"", kind="image.png")
        self.put(b"", kind="image.gif")
        self.clock.pump([1, 1, 1])
        self.assertEqual(seen, [("image.png", "image.png"), ("image.*", "image.gif")])

    def test_types_that_are_created_later_are_found(self):
        self.work(Route("image.*", self.handler))
        self.clock.pump([1] * 5)
        self.put(b"late", kind="image.webp")
        self.clock.pump([1, 1])
        self.assertEqual(self.bodies(), [b"late"])

    def test_types_without_a_handler_are_not_reserved(self):
        self.work(Route("image.*", self.handler))
        self.put(b"", kind="mail")
        self.clock.pump([1, 1])
        self.assertEqual(self.depth(), {"ready": 1})


class HoldingTests(RunnerTestCase):
    def test_a_long_handler_keeps_its_event(self):
        self.work(concurrency=1)
        self.put(b"", ttr=3)
        self.clock.pump([0.5] * 40)
        self.assertEqual(len(self.calls), 1)
        self.calls[0][1].callback(None)
        self.assertEqual((self.depth(), self.outcomes()), ({}, {"done": 1}))

    def test_a_touch_that_fails_is_repeated(self):
        """A full disk or a moment without a connection must not lose the reservation."""

        class Full(MemoryQueue):
            full = True

            def touch(self, event):
                full, self.full = self.full, False
                return fail(QueueFull("no room")) if full else super().touch(event)

        self.queue = Full(self.clock)
        self.work(concurrency=1)
        self.put(b"", ttr=3)
        self.clock.pump([0.5] * 40)
        self.assertEqual((len(self.calls), self.depth()), (1, {"reserved": 1}))

    def test_nothing_is_touched_after_the_end(self):
        self.work()
        self.put(b"", ttr=3)
        self.calls[0][1].callback(None)
        self.clock.pump([1] * 5)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])


class FailingTests(RunnerTestCase):
    def fail_next(self, error=None):
        self.calls[-1][1].errback(error or ValueError("no such image"))

    def test_raising_retries_with_growing_delays(self):
        self.work()
        self.put(b"")
        self.fail_next()
        self.assertEqual((self.depth(), self.outcomes()), ({"delayed": 1}, {"retried": 1}))
        self.clock.advance(1)
        self.fail_next()
        self.clock.advance(1)
        self.assertEqual(len(self.calls), 2)
        self.clock.advance(1)
        self.assertEqual(len(self.calls), 3)

    def test_the_last_attempt_buries_with_the_error_recorded(self):
        self.work(max_attempts=2)
        self.put(b"")
        self.fail_next()
        self.clock.advance(1)
        self.fail_next()
        self.assertEqual(self.depth(), {"buried": 1})
        self.assertEqual(self.outcomes(), {"retried": 1, "buried": 1})
        record = json.loads(self.successResultOf(self.queue.reserve([ERRORS], 0)).body)
        self.assertEqual(record["reason"], "ValueError: no such image")
        self.assertEqual((record["type"], record["attempts"]), ("mail", 2))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_kicked_event_has_all_its_attempts_again(self):
        self.work(max_attempts=1)
        self.put(b"")
        self.fail_next()
        self.successResultOf(self.queue.kick("mail", 1))
        self.assertEqual(len(self.calls), 2)
        self.calls[-1][1].callback(None)
        self.assertEqual(self.depth(), {})
        self.flushLoggedErrors(ValueError)

    def test_a_handler_has_its_own_number_of_attempts(self):
        self.work(Route("mail", self.handler, max_attempts=1), max_attempts=9)
        self.put(b"")
        self.fail_next()
        self.assertEqual(self.depth(), {"buried": 1})
        self.flushLoggedErrors(ValueError)

    def test_an_event_that_kills_its_workers_is_buried(self):
        self.put(b"")
        for _ in range(3):
            self.successResultOf(self.queue.reserve(["mail"]))
            self.queue.go_away()
            self.queue.come_back()
        self.work(max_attempts=3)
        self.assertEqual((self.calls, self.depth()), ([], {"buried": 1}))

    def test_sys_exit_in_a_handler_is_a_failure_like_any_other(self):
        def leave(event):
            raise SystemExit(1)

        self.work(Route("mail", leave))
        self.put(b"")
        self.assertEqual(self.outcomes(), {"retried": 1})

    def test_an_event_that_cannot_be_buried_is_retried(self):
        class Full(MemoryQueue):
            def bury(self, event, reason, **kept):
                return fail(QueueFull("no room for the record"))

        self.queue = Full(self.clock)
        self.work(max_attempts=1)
        self.put(b"")
        self.fail_next()
        self.assertEqual((self.depth(), self.outcomes()), ({"delayed": 1}, {"retried": 1}))
        self.flushLoggedErrors(ValueError)


class TimeoutTests(RunnerTestCase):
    def test_a_handler_that_never_ends_is_cancelled_and_its_event_retried(self):
        self.work(timeout=10)
        self.put(b"")
        self.clock.advance(10)
        self.assertEqual((self.depth(), self.outcomes()), ({"delayed": 1}, {"retried": 1}))
        self.clock.advance(1)
        self.assertEqual(len(self.calls), 2)

    def test_a_handler_that_ends_in_time_leaves_no_timer(self):
        self.work(timeout=10)
        self.put(b"")
        self.calls[0][1].callback(None)
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])

    def test_a_handler_may_have_no_timeout(self):
        self.work(Route("mail", self.handler, timeout=0), timeout=10)
        self.put(b"", ttr=1000)
        self.clock.pump([100] * 10)
        self.assertEqual(self.depth(), {"reserved": 1})

    def test_a_handler_may_have_its_own_timeout(self):
        self.work(Route("mail", self.handler, timeout=1), timeout=100)
        self.put(b"")
        self.clock.advance(1)
        self.assertEqual(self.outcomes(), {"retried": 1})

    def test_a_thread_that_never_ends_counts_as_running(self):
        """Otherwise hung threads would exceed the concurrency."""
        self.work(Route("mail", self.calls.append, blocking=True), concurrency=1, timeout=10)
        self.put(b"1", b"2")
        self.clock.advance(10)
        self.assertEqual(self.depth(), {"ready": 1, "delayed": 1})
        self.assertEqual((len(self.threads), self.metric("evserve_work_overdue")), (1, 1))
        self.threads[0][1].callback(None)
        self.assertEqual((len(self.threads), self.metric("evserve_work_overdue")), (2, 0))

    def test_a_handler_that_needs_a_moment_to_end_is_not_logged(self):
        def lines():
            return [line for line in map(formatEvent, events) if "goes on" in line]

        with capturedLogs() as events:
            self.test_a_thread_that_never_ends_counts_as_running()
            self.clock.pump([5, 5])  # then the time of the second thread is over
            self.assertEqual(lines(), [])
            self.clock.advance(CLEAN_UP)
            self.assertIn("the handler of mail goes on after its time-out", *lines())

    def test_a_coroutine_that_ignores_its_cancellation_counts_as_running(self):
        release = Deferred()

        async def stubborn(event):
            self.calls.append(event)
            try:
                await Deferred()
            except CancelledError:
                await release

        self.work(Route("mail", stubborn), concurrency=1, timeout=10)
        self.put(b"1", b"2")
        self.clock.advance(10)
        self.assertEqual((len(self.calls), self.outcomes()), (1, {"retried": 1}))
        release.callback(None)
        self.assertEqual(len(self.calls), 2)


class HistoryTests(RunnerTestCase):
    def kept(self):
        return self.successResultOf(self.queue.history())

    def test_what_a_handler_returned_is_kept(self):
        self.work(keep=60)
        for result, kept in (
            (None, b""),
            (b"\0\xff", b"\0\xff"),
            (bytearray(b"x"), b"x"),
            ("gr\u00fcn \ud800", b"gr\xc3\xbcn \\ud800"),
            ({"width": 3, "tags": ["a"]}, b'{"width": 3, "tags": ["a"]}'),
            (False, b"false"),
            ({1, 2}, b"{1, 2}"),
            (bytes(70000), bytes(65536)),
            ("x" + 40000 * "\u00fc", b"x" + 32767 * b"\xc3\xbc"),
        ):
            self.put(b"")
            self.calls.pop()[1].callback(result)
            handled = self.kept()[0]
            self.assertEqual((handled.outcome, handled.result), ("done", kept))

    def test_a_result_that_cannot_be_shown_harms_nothing(self):
        class Odd:
            def __repr__(self):
                raise RuntimeError("no")

        self.work(keep=60)
        self.put(b"")
        self.calls.pop()[1].callback(Odd())
        self.assertIn(b"Odd", self.kept()[0].result)

    def test_the_result_of_a_coroutine_and_of_a_thread(self):
        async def wait(event):
            await succeed(None)
            return "waited"

        self.work(Route("mail", wait), Route("slow", lambda _: 7, blocking=True), keep=60)
        self.put(b"")
        self.put(b"", kind="slow")
        function, result = self.threads.pop()
        result.callback(function())
        self.assertEqual([each.result for each in self.kept()], [b"7", b"waited"])

    def test_what_is_buried_is_kept_with_its_error(self):
        self.work(keep=60, max_attempts=1)
        self.put(b"")
        self.calls.pop()[1].errback(ValueError("no picture"))
        [handled] = self.kept()
        self.assertEqual((handled.outcome, handled.error), ("buried", "ValueError: no picture"))
        self.flushLoggedErrors(ValueError)

    def test_without_keep_nothing_is_kept(self):
        self.work()
        self.put(b"")
        self.calls.pop()[1].callback("unseen")
        self.assertEqual(self.kept(), [])


class OutageTests(RunnerTestCase):
    def test_a_queue_that_comes_back_is_worked_again(self):
        self.work()
        self.queue.go_away()
        self.assertEqual(self.metric("evserve_work_queue_up"), 0)
        self.clock.pump([1] * 20)
        self.queue.come_back()
        self.put(b"after")
        self.clock.advance(5)
        self.assertEqual(self.bodies(), [b"after"])
        self.assertEqual(self.metric("evserve_work_queue_up"), 1)

    def test_attempts_to_reserve_grow_rarer(self):
        attempts = []

        class Away(MemoryQueue):
            def reserve(self, types, timeout=None):
                attempts.append(types)
                return fail(QueueUnavailable("away"))

        self.queue = Away(self.clock)
        self.work(concurrency=1)
        self.clock.pump([0.1] * 600)
        self.assertTrue(10 <= len(attempts) <= 20, len(attempts))

    def test_an_acknowledgement_that_was_cut_off_is_not_repeated(self):
        acked = []

        class CutOff(MemoryQueue):
            def ack(self, event, **kept):
                acked.append(event.id)
                self.go_away()
                return fail(QueueUnavailable("lost"))

        self.queue = CutOff(self.clock)
        self.work(concurrency=1)
        self.put(b"")
        self.calls[0][1].callback(None)
        self.assertEqual((acked, self.outcomes()), (["1"], {"lost": 1}))
        self.queue.come_back()
        self.clock.advance(5)
        self.assertEqual(self.calls[1][0].attempts, 2)
        self.assertEqual(acked, ["1"])

    def test_an_event_lost_while_it_is_handled_comes_again(self):
        self.work(concurrency=1)
        self.put(b"", ttr=3)
        self.queue.go_away()
        self.queue.come_back()
        self.clock.advance(1)
        self.calls[0][1].callback(None)
        self.assertEqual(self.outcomes(), {"lost": 1})
        self.calls[1][1].callback(None)
        self.assertEqual((self.outcomes(), self.depth()), ({"lost": 1, "done": 1}, {}))

    def test_the_worker_goes_on_after_an_unexpected_error_of_the_engine(self):
        class Strange(MemoryQueue):
            def ack(self, event, **kept):
                raise KeyError("a bug")

        self.queue = Strange(self.clock)
        self.work(concurrency=1)
        self.put(b"1", b"2")
        self.calls[0][1].callback(None)
        self.assertEqual(self.bodies(), [b"1", b"2"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)


class StoppingTests(RunnerTestCase):
    def test_an_idle_worker_stops_at_once(self):
        stopped = self.work().stop()
        self.successResultOf(stopped)
        self.put(b"")
        self.assertEqual((self.calls, self.clock.getDelayedCalls()), ([], []))

    def test_stopping_waits_for_the_handlers_that_run(self):
        runner = self.work()
        self.put(b"1", b"2", b"3")
        stopped = runner.stop()
        self.calls[0][1].callback(None)
        self.assertNoResult(stopped)
        self.calls[1][1].errback(ValueError())
        self.successResultOf(stopped)
        self.assertEqual(self.bodies(), [b"1", b"2"])
        self.assertEqual(self.depth(), {"ready": 1, "delayed": 1})

    def test_an_event_whose_handler_was_cut_has_all_its_attempts(self):
        runner = self.work(max_attempts=1)
        self.put(b"")
        runner.stop()
        self.assertEqual((runner.give_back(), self.depth()), (1, {"ready": 1}))
        self.registry = CollectorRegistry()
        self.work(max_attempts=1)
        self.calls[1][1].callback(None)
        self.assertEqual((self.depth(), self.outcomes()), ({}, {"done": 1}))

    def test_handlers_are_cancelled_when_their_events_are_given_back(self):
        """The worker ends when they have ended and the queue has answered; nothing is logged."""
        cancelled = []

        async def waits(event):
            try:
                await self.handler(event)
            except CancelledError:
                cancelled.append(event.type)
                raise ValueError("cut") from None

        answer, retried = Deferred(), []

        class Slow(MemoryQueue):
            def retry(self, event, delay=0):
                retried.append((event.type, delay))
                return answer

        self.queue = Slow(self.clock)
        runner = self.work(Route("mail", waits), Route("fax", self.handler))
        self.put(b"")
        self.put(b"", kind="fax")
        with capturedLogs() as events:
            stopped = runner.stop()
            self.assertEqual(runner.give_back(), 2)
            self.assertEqual(cancelled, ["mail"])
            self.assertTrue(all(running.called for _, running in self.calls))
            self.assertNoResult(stopped)
            answer.callback(None)
            self.successResultOf(stopped)
        self.assertEqual((sorted(retried), events), ([("fax", 0), ("mail", 0)], []))
        self.assertEqual((self.outcomes(), self.outcomes("fax")), ({}, {}))

    def test_a_worker_stops_while_the_queue_is_away(self):
        runner = self.work()
        self.queue.go_away()
        self.successResultOf(runner.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_worker_stops_while_no_type_exists(self):
        runner = self.work(Route("image.*", self.handler))
        self.successResultOf(runner.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class LoggingTests(RunnerTestCase):
    """Only what the queue has confirmed is logged about an event."""

    def setUp(self):
        super().setUp()
        self.answer = answer = Deferred()

        class Slow(MemoryQueue):
            def bury(self, event, reason, **kept):
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

    def test_a_burial_is_logged_when_the_queue_has_confirmed_it(self):
        with capturedLogs() as events:
            self.fail_once(max_attempts=1)
            self.assertEqual(self.logged(events), [])
            self.answer.callback(None)
        self.assertEqual(self.logged(events), ["event 1 (mail) is buried after attempt 1"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_burial_that_failed_is_not_logged_as_one(self):
        with capturedLogs() as events:
            self.fail_once(max_attempts=1)
            self.answer.errback(NotReserved("it went back"))
        [line] = self.logged(events)
        self.assertIn("failed (ValueError: no such image), but the queue did not confirm", line)

    def test_a_retry_is_logged_when_the_queue_has_confirmed_it(self):
        with capturedLogs() as events:
            self.fail_once(max_attempts=3)
            self.assertEqual(self.logged(events), [])
            self.answer.callback(None)
        self.assertIn("failed, attempt 1; again in 1.0 seconds", self.logged(events)[0])

    def test_a_burial_without_a_run_is_logged(self):
        self.put(b"")
        self.successResultOf(self.queue.reserve(["mail"]))
        self.queue.go_away()
        self.queue.come_back()
        with capturedLogs() as events:
            self.work(max_attempts=1)
            self.answer.callback(None)
        self.assertIn("event 1 (mail) is buried: given up without a run", self.logged(events)[0])

    def test_a_handler_that_has_ended_is_not_logged_as_running(self):
        """Not even when the queue answers, or fails, at once."""
        self.answer.errback(NotReserved("it went back"))
        with capturedLogs() as events:
            self.fail_once(max_attempts=3)
        self.assertEqual([line for line in map(formatEvent, events) if "goes on" in line], [])
        self.assertEqual(self.metric("evserve_work_running"), 0)


class UnusualHandlerTests(RunnerTestCase):
    """Handlers that return or raise what they should not: no event may be lost."""

    def test_an_awaitable_is_awaited(self):
        """Taking it for the result would lose the event."""

        class Later:
            def __init__(self, deferred):
                self.deferred = deferred

            def __await__(self):
                return self.deferred.__await__()

        later = Deferred()
        self.work(Route("mail", lambda _: Later(later)))
        self.put(b"")
        self.assertEqual(self.depth(), {"reserved": 1})
        later.callback(None)
        self.assertEqual((self.depth(), self.outcomes()), ({}, {"done": 1}))

    def test_a_generator_is_refused_because_nothing_would_run_it(self):
        def plain(event):
            yield self.calls.append(event)

        async def asynchronous(event):
            yield self.calls.append(event)

        self.work(Route("plain", plain), Route("async", asynchronous), max_attempts=1)
        for kind in ("plain", "async"):
            self.put(b"", kind=kind)
            self.assertEqual(self.depth(kind), {"buried": 1})
        self.assertEqual((self.calls, len(self.flushLoggedErrors(TypeError))), ([], 2))

    def test_a_blocking_handler_may_not_return_an_awaitable(self):
        def generator(event):
            yield self.calls.append(event)

        self.work(
            Route("deferred", lambda _: Deferred(), blocking=True),
            Route("generator", generator, blocking=True),
            max_attempts=1,
        )
        for kind in ("deferred", "generator"):
            self.put(b"", kind=kind)
            function, result = self.threads.pop()
            result.errback(self.assertRaises(TypeError, function))
            self.assertEqual(self.depth(kind), {"buried": 1})
        self.flushLoggedErrors(TypeError)

    def run_thread(self):
        function, result = self.threads.pop()
        execute(function).chainDeferred(result)

    def work_each(self, handlers, **rest):
        """Give each handler an event; return the depths of their types."""
        kinds = [f"mail.{number}" for number, _ in enumerate(handlers)]
        self.work(*map(Route, kinds, handlers), concurrency=1, **rest)
        for kind in kinds:
            self.put(b"", kind=kind)
        return [self.depth(kind) for kind in kinds]

    def test_a_future_is_waited_for_in_a_thread(self):
        """Taking it for the result would lose the event if it fails."""
        future = Future()
        self.work(
            Route("mail", lambda _: future),
            Route("fax", lambda _: future, blocking=True),
            max_attempts=1,
        )
        for kind in ("mail", "fax"):
            self.put(b"", kind=kind)
            self.assertEqual(self.depth(kind), {"reserved": 1})
        future.set_exception(ValueError("no such image"))
        for kind in ("fax", "mail"):
            self.run_thread()
            self.assertEqual(self.depth(kind), {"buried": 1})
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_a_future_that_has_a_result_is_done(self):
        future = Future()
        future.set_result(None)
        self.work(Route("mail", lambda _: future))
        self.put(b"")
        self.run_thread()
        self.assertEqual((self.depth(), self.outcomes()), ({}, {"done": 1}))

    def test_a_future_that_has_not_begun_is_cancelled_by_the_time_out(self):
        future = Future()
        self.work(Route("mail", lambda _: future), timeout=10, concurrency=1)
        self.put(b"")
        self.clock.advance(10)
        self.assertTrue(future.cancelled())
        self.assertEqual((self.depth(), self.outcomes()), ({"delayed": 1}, {"retried": 1}))
        self.assertEqual(self.metric("evserve_work_overdue"), 1)
        self.run_thread()
        self.assertEqual(self.metric("evserve_work_overdue"), 0)

    def test_what_an_awaitable_returns_is_waited_for_too(self):
        """`return send(event)` of another async function, with a forgotten `await`."""
        later, shown = Deferred(), []

        async def send():
            shown.append(await later)

        async def forgetful(event):
            return send()

        self.work(Route("mail", forgetful), Route("fax", partial(forgetful)))
        for kind in ("mail", "fax"):
            self.put(b"", kind=kind)
            self.assertEqual(self.depth(kind), {"reserved": 1})
        later.callback("sent")
        self.assertEqual((self.depth("mail"), self.depth("fax"), len(shown)), ({}, {}, 2))

    def test_a_paused_deferred_is_waited_for(self):
        paused = succeed(None)
        paused.pause()
        self.work(Route("mail", lambda _: paused))
        self.put(b"")
        self.assertEqual(self.depth(), {"reserved": 1})
        paused.unpause()
        self.assertEqual(self.depth(), {})

    def test_an_asyncio_future_is_an_answer_once_it_is_done(self):
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        done, failed, pending = (loop.create_future() for _ in range(3))
        done.set_result(None)
        failed.set_exception(ValueError("no such image"))
        futures = [lambda _: done, lambda _: failed, lambda _: pending]
        self.work_each(futures, max_attempts=1)
        self.clock.pump([0, 0, 0])
        depths = [self.depth(f"mail.{number}") for number in range(3)]
        self.assertEqual(depths, [{}, {"buried": 1}, {"buried": 1}])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        [failure] = self.flushLoggedErrors(NoAsyncioLoop)
        self.assertIn("this handler needs asyncio, and Clock has no loop", str(failure.value))

    def test_what_nothing_would_run_or_wait_for_is_refused(self):
        class Job:
            def ready(self):
                """As the results of multiprocessing do."""

            wait = ready

        lazy = [lambda _: map(print, [1]), lambda _: filter(print, [1]), lambda _: Job()]
        self.assertEqual(self.work_each(lazy, max_attempts=1), 3 * [{"buried": 1}])
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 3)

    def test_any_other_result_is_ignored(self):
        results = (False, 0, "text", [1], {"a": 1}, ValueError(), print)
        handlers = [lambda _, result=result: result for result in results]
        self.assertEqual(self.work_each(handlers), len(results) * [{}])

    def test_whatever_is_raised_is_a_failure(self):

        def plain(error, event):
            raise error

        async def asynchronous(error, event):
            raise error

        handlers = [
            partial(each, error) for error in UNUSUAL_ERRORS for each in (plain, asynchronous)
        ]
        self.assertEqual(self.work_each(handlers), len(handlers) * [{"delayed": 1}])

    def test_an_error_of_any_size_is_logged_and_recorded_in_printable_lines(self):
        text = "\x1b[2J\x9b\r\n\u202e" * 10**6

        def fails(event):
            try:
                int(text)
            except ValueError as error:
                raise type("\x1bError", (Exception,), {})(text) from error

        self.work(Route("mail", fails), max_attempts=2)
        self.put(b"")
        with capturedLogs() as events:
            self.clock.advance(1)
        shown = eventAsText(events[-1])
        self.assertIn("is buried after attempt 2", shown)
        self.assertIn("in fails", shown)
        self.assertTrue(all(line.startswith("  ") for line in shown.split("\n")[1:-1]))
        self.assertIn("ValueError: invalid literal", shown)
        self.assertIn("The above exception was the direct cause", shown)
        self.assertTrue(shown.replace("\n", "").isprintable())
        self.assertLess(len(shown), 50_000)
        record = json.loads(self.successResultOf(self.queue.reserve([ERRORS], 0)).body)
        self.assertTrue(record["reason"].isprintable())
        self.assertLessEqual(len(record["reason"]), 2000)
        self.flushLoggedErrors()

    def test_an_error_whose_text_cannot_be_made_is_still_an_error(self):
        class ShyError(Exception):
            def __str__(self):
                raise ValueError("no words")

        def fails(event):
            raise ShyError

        self.work(Route("mail", fails))
        self.put(b"")
        self.assertEqual((self.depth(), self.outcomes()), ({"delayed": 1}, {"retried": 1}))


class AsyncioHandlerTests(LoopTestCase, RunnerTestCase):
    """Handlers on a reactor with a loop of asyncio's; the test decides when the loop runs."""

    def setUp(self):
        super().setUp()
        RunnerTestCase.setUp(self)
        self.clock._asyncioEventloop = self.loop
        self.install(self.clock)

    def go_on(self):
        self.run_in_task(turns(20))

    def test_a_handler_awaits_asyncio_and_deferreds(self):
        steps = []

        async def member(number):
            await asyncio.sleep(0)
            await deferLater(self.clock, 1)
            steps.append(number)

        async def handler(event):
            await deferLater(self.clock, 1)
            steps.append(self.loop.is_running())
            await asyncio.sleep(0)
            async with asyncio.TaskGroup() as group, asyncio.timeout(100):
                for number in range(2):
                    group.create_task(member(number))
            await succeed(None)
            return "sent"

        self.work(Route("mail", handler), keep=60)
        self.put(b"")
        self.assertEqual((self.depth(), steps), ({"reserved": 1}, []))  # it begins with the loop
        for _ in range(3):
            self.go_on()
            self.clock.advance(1)
        self.go_on()
        self.assertEqual((steps, self.outcomes()), ([True, 0, 1], {"done": 1}))
        [record] = self.successResultOf(self.queue.history())
        self.assertEqual(record.result, b"sent")

    def test_what_a_handler_returns_is_waited_for(self):
        later = Deferred()

        async def last():
            return await later

        ways = (
            lambda: asyncio.ensure_future(last()),
            lambda: asyncio.sleep(0, last()),
            lambda: succeed(None).addCallback(lambda _: later),
            last,
        )
        self.assertEqual(
            self.run_each(lambda _, way=way: way() for way in ways), 4 * [{"reserved": 1}]
        )
        later.callback(None)
        self.go_on()
        self.assertEqual(self.depths(4), 4 * [{}])

    def run_each(self, handlers):
        """Run each handler on an event; return the depth of each type."""
        routes = [Route(f"mail.{number}", each) for number, each in enumerate(handlers)]
        self.work(*routes, concurrency=len(routes))
        for route in routes:
            self.put(b"", kind=route.pattern)
        self.go_on()
        return self.depths(len(routes))

    def depths(self, count):
        return [self.depth(f"mail.{number}") for number in range(count)]

    def test_whatever_is_raised_is_a_failure(self):
        """The loop goes on."""

        def plain(error, event):
            raise error

        async def at_once(error, event):
            raise error

        async def later(error, event):
            await asyncio.sleep(0)
            raise error

        handlers = [
            partial(each, error) for error in UNUSUAL_ERRORS for each in (plain, at_once, later)
        ]
        self.assertEqual(self.run_each(handlers), len(handlers) * [{"delayed": 1}])

    def test_the_time_out_cancels_and_waits_for_the_end(self):
        steps, end = [], Deferred()

        async def handler(event):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                steps.append("cancelled")
                await end
                steps.append("ended")

        self.work(Route("mail", handler), timeout=10, concurrency=1)
        self.put(b"")
        self.go_on()
        self.clock.advance(10)
        self.go_on()
        self.assertEqual((steps, self.outcomes()), (["cancelled"], {"retried": 1}))
        self.assertEqual(self.metric("evserve_work_overdue"), 1)
        self.assertEqual(self.metric("evserve_work_running"), 1)
        end.callback(None)
        self.go_on()
        self.assertEqual((steps, self.outcomes()), (["cancelled", "ended"], {"retried": 1}))
        self.assertEqual(self.metric("evserve_work_running"), 0)

    def test_a_handler_that_has_not_begun_is_cancelled_too(self):
        self.work(Route("mail", self.handler), timeout=10)
        self.put(b"")
        self.clock.advance(10)
        self.go_on()
        self.assertEqual((self.calls, self.outcomes()), ([], {"retried": 1}))

    def test_a_thread_is_not_cancelled(self):
        self.work(Route("mail", self.calls.append, blocking=True), timeout=10)
        self.put(b"")
        self.go_on()
        self.clock.advance(10)
        self.go_on()
        [(function, result)] = self.threads
        self.assertNoResult(result)
        self.assertEqual(self.metric("evserve_work_overdue"), 1)
        result.callback(function())
        self.go_on()
        self.assertEqual(self.metric("evserve_work_overdue"), 0)

    def test_handlers_are_cancelled_when_their_events_are_given_back(self):
        cancelled, end = [], Deferred()

        async def handler(event):
            try:
                if event.body:
                    await asyncio.sleep(100)
                await Deferred()
            except asyncio.CancelledError:
                cancelled.append(event.body)
                await end
                raise ValueError("cut") from None

        runner = self.work(Route("mail", handler), Route("fax", self.handler), concurrency=4)
        self.put(b"asyncio", b"")
        self.put(b"", kind="fax")
        self.go_on()
        self.put(b"not begun")
        with capturedLogs() as events:
            stopped = runner.stop()
            self.assertEqual(runner.give_back(), 4)
            self.go_on()
            self.assertEqual(sorted(cancelled), [b"", b"asyncio"])
            self.assertTrue(all(running.called for _, running in self.calls))
            self.assertNoResult(stopped)
            end.callback(None)
            self.go_on()
            self.successResultOf(stopped)
        self.assertEqual(events, [])
        self.assertEqual((self.depth(), self.depth("fax")), ({"ready": 3}, {"ready": 1}))
        self.assertEqual((self.outcomes(), self.outcomes("fax")), ({}, {}))

    def test_a_handler_whose_event_is_given_back_is_cancelled_once(self):
        ended = []

        async def handler(event):
            try:
                await asyncio.sleep(100)
            finally:
                await deferLater(self.clock, 1)
                ended.append(event)

        runner = self.work(Route("mail", handler), timeout=10)
        self.put(b"")
        self.go_on()
        stopped = runner.stop()
        self.clock.advance(9.5)
        runner.give_back()
        self.go_on()
        for _ in range(2):
            self.clock.advance(0.5)
            self.assertNoResult(stopped)
            self.go_on()
        self.assertEqual(len(ended), 1)
        self.successResultOf(stopped)

    def test_what_is_said_of_a_failure_names_where_it_was_awaited(self):
        async def handler(event):
            await self.handler(event)

        self.work(Route("mail", handler), max_attempts=1)
        self.put(b"")
        self.go_on()
        with capturedLogs() as events:
            self.calls[0][1].errback(LookupError("no such image"))
            self.go_on()
        self.assertIn("await self.handler(event)", eventAsText(events[-1]))
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)

    def test_each_event_has_variables_of_its_own(self):
        """In tasks and threads of a handler too, also of one that blocks."""
        variable, seen = ContextVar("variable", default=b"unset"), []

        def look(event):
            seen.append((event.body, current_event.get().body, variable.get()))
            variable.set(event.body)

        async def handler(event):
            look(event)
            await asyncio.sleep(0)
            await asyncio.create_task(asyncio.to_thread(look, event))
            await asyncio.get_running_loop().run_in_executor(None, copy_context().run, look, event)

        self.work(Route("mail", handler), Route("fax", look, blocking=True), concurrency=1)
        self.put(b"1", b"2")
        self.run_in_task(self.until(lambda: self.outcomes() == {"done": 2}))
        self.assertEqual(
            seen,
            [
                (b"1", b"1", b"unset"),
                (b"1", b"1", b"1"),
                (b"1", b"1", b"1"),
                (b"2", b"2", b"unset"),
                (b"2", b"2", b"2"),
                (b"2", b"2", b"2"),
            ],
        )
        self.put(b"3", kind="fax")
        self.go_on()
        [(function, result)] = self.threads
        result.callback(function())
        self.go_on()
        self.assertEqual(seen[6:], [(b"3", b"3", b"unset")])
        self.assertRaises(LookupError, current_event.get)

    async def until(self, condition):
        while not condition():
            await asyncio.sleep(0.001)


class NoLoopTests(RunnerTestCase):
    """A handler that awaits asyncio on a reactor without a loop of it."""

    def outcome(self, handler):
        """Run a handler that fails; return what became of the event."""
        self.setUp()
        self.work(Route("mail", handler))
        self.put(b"")
        self.flushLoggedErrors()
        return self.depth()

    def test_it_is_buried_at_once_with_a_reason_that_names_the_mend(self):
        self.assertEqual(self.outcome(lambda _: asyncio.sleep(1)), {"buried": 1})
        record = json.loads(self.successResultOf(self.queue.reserve([ERRORS], 0)).body)
        self.assertEqual(
            record["reason"],
            "NoAsyncioLoop: RuntimeError: no running event loop: this handler needs asyncio, and "
            "Clock has no loop of it (start twistd without --reactor, or with --reactor=asyncio)",
        )

    def test_whatever_of_asyncio_it_awaits(self):
        async def time_out():
            async with asyncio.timeout(1):
                """Never here."""

        async def group():
            async with asyncio.TaskGroup():
                """Never here."""

        async def locked():
            lock = asyncio.Lock()
            await lock.acquire()
            await lock.acquire()

        async def wrapped():
            try:
                await asyncio.sleep(1)
            except RuntimeError as error:
                raise OSError("cannot connect") from error

        for function in (
            time_out,
            group,
            locked,
            wrapped,
            lambda: asyncio.wait_for(Deferred(), 1),
            lambda: asyncio.to_thread(print),
            lambda: asyncio.Event().wait(),
            lambda: asyncio.Queue().get(),
            lambda: asyncio.open_connection("127.0.0.1", 1),
            lambda: asyncio.create_subprocess_exec("true"),
            asyncio.get_running_loop,
            lambda: as_deferred(asyncio.sleep(1), self.clock),
        ):
            self.assertEqual(self.outcome(lambda _, function=function: function()), {"buried": 1})

    def test_an_error_of_its_own_is_retried(self):
        async def fails(error, event):
            raise error

        for error in (
            RuntimeError("the event loop of the machine is blocked"),
            RuntimeError("no running event loop in the train"),
            AttributeError("'NoneType' object has no attribute 'create_future_order'"),
            LookupError("no running event loop"),
        ):
            self.assertEqual(self.outcome(partial(fails, error)), {"delayed": 1})

    def test_an_error_of_what_is_done_without_a_loop_is_retried(self):
        async def page():
            raise OSError("cannot connect")

        def handler(event):
            try:
                return asyncio.get_running_loop().create_task(page())
            except RuntimeError:
                return asyncio.run(page())

        self.assertEqual(self.outcome(handler), {"delayed": 1})

    def test_an_error_that_is_its_own_cause_is_retried(self):
        error = LookupError("no such image")
        error.__cause__ = error

        async def fails(event):
            raise error

        self.assertEqual(self.outcome(fails), {"delayed": 1})
