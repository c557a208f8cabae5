"""The bridge on loops of asyncio's that run here."""

import asyncio
import gc
import sys
from contextvars import ContextVar
from traceback import extract_tb
from warnings import catch_warnings, simplefilter
from weakref import WeakSet

import anyio
from twisted.internet import defer
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    FirstError,
    fail,
    gatherResults,
    succeed,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest

from evserve.aio import NoAsyncioLoop, TaskService, as_deferred, as_future, reactor_loop
from evserve.testing import MemoryHost
from tests.loop_case import LoopTestCase, new_uvloop, turns


async def alone(deferred):
    return await deferred


async def in_gather(deferred):
    [result, _] = await asyncio.gather(deferred, asyncio.sleep(0))
    return result


async def in_task(deferred):
    return await asyncio.create_task(alone(deferred))


async def in_task_group(deferred):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(alone(deferred))
    return task.result()


async def in_wait_for(deferred):
    return await asyncio.wait_for(deferred, 100)


async def in_timeout(deferred):
    async with asyncio.timeout(100):
        return await deferred


async def in_wait(deferred):
    [done], _ = await asyncio.wait([asyncio.ensure_future(deferred)])
    return done.result()


async def as_completed(deferred):
    [first] = asyncio.as_completed([deferred])
    return await first


async def in_shield(deferred):
    return await asyncio.shield(deferred)


async def in_anyio(deferred):
    results = []

    async def wait():
        with anyio.fail_after(100):
            results.append(await deferred)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
    return results[0]


async def in_list(deferred):
    [result] = await gatherResults([deferred], consumeErrors=True)
    return result


async def in_twisted(deferred):
    """Await it in a coroutine that Twisted runs, within a task."""
    return await Deferred.fromCoroutine(alone(deferred))


async def in_as_deferred(deferred):
    return await as_deferred(alone(deferred))


async def in_turns(deferred):
    """Await it after asyncio, and asyncio after it."""
    await asyncio.sleep(0)
    await succeed(None)
    result = await deferred
    await asyncio.sleep(0)
    return result


WAYS = (
    alone,
    in_gather,
    in_task,
    in_task_group,
    in_wait_for,
    in_timeout,
    in_anyio,
    in_list,
    in_twisted,
    in_as_deferred,
    in_turns,
)


# A cancelled task leaves what it waits for.
OTHER_WAYS = (in_wait, as_completed, in_shield)


def innermost(error):
    """Return the one error in groups of errors, and in those of Twisted's lists."""
    while isinstance(error, BaseExceptionGroup):
        [error] = error.exceptions
    return error.subFailure.value if isinstance(error, FirstError) else error


class AwaitTests(LoopTestCase):
    """A task awaits a Deferred as it does a future."""

    def begin(self, way, deferred):
        task = self.loop.create_task(way(deferred))
        self.run_in_task(turns(10))
        self.assertFalse(task.done())
        return task

    def end(self, task):
        """Run to the end of a task; return what it raised, or its result."""

        async def end():
            try:
                return await task
            except BaseException as error:
                return innermost(error)

        return self.run_in_task(end())

    def test_the_result(self):
        for way in (*WAYS, *OTHER_WAYS):
            deferred = Deferred()
            task = self.begin(way, deferred)
            deferred.callback(5)
            self.assertEqual(self.end(task), 5)

    def test_a_failure(self):
        for way in (*WAYS, *OTHER_WAYS):
            deferred = Deferred()
            task = self.begin(way, deferred)
            error = LookupError("no such image")
            deferred.errback(error)
            self.assertIs(self.end(task), error)

    def test_one_that_has_fired(self):
        for way in WAYS:
            self.assertEqual(self.run_in_task(way(succeed(5))), 5)
            error = LookupError("no such image")
            self.assertIs(self.end(self.loop.create_task(way(fail(error)))), error)

    def test_the_cancellation_of_the_task_cancels_it(self):
        for way in WAYS:
            cancelled = []
            deferred = Deferred(cancelled.append)
            task = self.begin(way, deferred)
            task.cancel("enough")
            self.assertIsInstance(self.end(task), asyncio.CancelledError)
            self.assertEqual(cancelled, [deferred])
            self.assertTrue(task.cancelled())

    def test_the_cancellation_before_its_first_step(self):
        for way in WAYS:
            task = self.loop.create_task(way(succeed(5)))
            if not task.done():  # eager
                task.cancel()
                self.assertIsInstance(self.end(task), asyncio.CancelledError)

    def test_a_time_out_cancels_it(self):
        async def in_wait_for(deferred):
            await asyncio.wait_for(deferred, 0.001)

        async def in_timeout(deferred):
            async with asyncio.timeout(0.001):
                await deferred

        async def in_anyio(deferred):
            with anyio.fail_after(0.001):
                await deferred

        for way in (in_wait_for, in_timeout, in_anyio):
            cancelled = []
            with self.assertRaises(TimeoutError):
                self.run_in_task(way(Deferred(cancelled.append)))
            self.assertEqual(len(cancelled), 1)

    def test_a_shield(self):
        deferred = Deferred()
        task = self.begin(in_shield, deferred)
        task.cancel()
        self.assertIsInstance(self.end(task), asyncio.CancelledError)
        self.assertFalse(deferred.called)
        deferred.callback(None)
        self.run_in_task(turns())

    def test_an_error_cancels_the_others_of_a_group(self):
        cancelled = []

        async def in_asyncio():
            async with asyncio.TaskGroup() as group:
                group.create_task(alone(Deferred(cancelled.append)))
                group.create_task(alone(fail(LookupError("no such image"))))

        async def in_anyio():
            async with anyio.create_task_group() as group:
                group.start_soon(alone, Deferred(cancelled.append))
                group.start_soon(alone, fail(LookupError("no such image")))

        for way in (in_asyncio, in_anyio):
            self.assertIsInstance(self.end(self.loop.create_task(way())), LookupError)
        self.assertEqual(len(cancelled), 2)

    def test_two_tasks_await_the_same(self):
        for fire in (lambda each: each.callback(5), lambda each: each.errback(LookupError())):
            deferred = Deferred()
            tasks = [self.begin(alone, deferred) for _ in range(2)]
            fire(deferred)
            one, other = map(self.end, tasks)
            self.assertIs(one, other)

    def test_the_cancellation_of_one_of_two_is_a_failure_for_the_other(self):
        deferred = Deferred()
        one, other = (self.begin(alone, deferred) for _ in range(2))
        one.cancel()
        self.assertIsInstance(self.end(one), asyncio.CancelledError)
        self.assertIsInstance(self.end(other), CancelledError)

    def test_its_cancellation_by_others_is_a_failure(self):
        for way in WAYS:
            deferred = Deferred()
            task = self.begin(way, deferred)
            deferred.cancel()
            self.assertIsInstance(self.end(task), CancelledError)
            self.assertFalse(task.cancelled())

    def test_a_canceller_decides_nothing(self):
        """A task that is cancelled ends so, whatever the Deferred fires with."""
        for canceller in (
            lambda deferred: deferred.callback(5),
            lambda deferred: deferred.errback(LookupError("no such image")),
        ):
            task = self.begin(alone, Deferred(canceller))
            task.cancel()
            self.assertIsInstance(self.end(task), asyncio.CancelledError)

    def test_a_result_comes_too_late_for_a_cancelled_task(self):
        for fire in (lambda each: each.callback(5), lambda each: each.errback(LookupError())):
            deferred = Deferred()
            task = self.begin(alone, deferred)
            fire(deferred)
            task.cancel()
            self.assertIsInstance(self.end(task), asyncio.CancelledError)

    def test_a_deferred_of_another_class_is_cancelled_in_its_own_way(self):
        class Stubborn(Deferred):
            """It fires when it likes."""

            cancelled = 0

            def cancel(self):
                self.cancelled += 1

        stubborn = Stubborn()
        task = self.begin(alone, stubborn)
        task.cancel()
        self.run_in_task(turns())
        self.assertEqual((stubborn.cancelled, task.done()), (1, False))
        stubborn.errback(LookupError("no such image"))
        del stubborn  # as the last reference: what no task looked at is not logged
        self.assertIsInstance(self.end(task), asyncio.CancelledError)

        members = [Deferred(), Deferred()]
        task = self.begin(alone, DeferredList(members, consumeErrors=True))
        task.cancel()
        self.assertIsInstance(self.end(task), asyncio.CancelledError)
        self.assertTrue(all(each.called for each in members))

    def test_a_failure_that_nothing_awaits_is_logged(self):
        fail(LookupError("no such image"))
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)

    def test_one_that_waits_for_another(self):
        first, second = Deferred(), Deferred()
        first.addCallback(lambda _: second)
        first.callback(None)
        task = self.begin(alone, first)
        second.callback(5)
        self.assertEqual(self.end(task), 5)

        first, second = succeed(None), Deferred()
        first.addCallback(lambda _: second)
        task = self.begin(alone, first)
        task.cancel()
        self.assertIsInstance(self.end(task), asyncio.CancelledError)
        self.assertTrue(second.called)

    def test_one_that_has_a_callback_that_waits(self):
        """It fires, and a callback that was added after `await` returns another Deferred."""
        first, second = Deferred(), Deferred()
        task = self.begin(alone, first)
        first.addCallback(lambda _: second)
        first.callback(None)
        self.run_in_task(turns())
        self.assertFalse(task.done())
        second.callback(5)
        self.assertEqual(self.end(task), 5)

    def test_a_paused_one(self):
        deferred = succeed(5)
        deferred.pause()
        task = self.begin(alone, deferred)
        deferred.unpause()
        self.assertEqual(self.end(task), 5)

    def test_a_traceback_tells_where_it_was_awaited(self):
        """Also after the loop has gone on."""

        async def wait(deferred):
            try:
                await deferred
            except LookupError as error:
                await turns()
                return [each.name for each in extract_tb(error.__traceback__)]

        deferred = Deferred()
        task = self.begin(wait, deferred)
        deferred.errback(LookupError("no such image"))
        self.assertEqual(self.end(task)[0], "wait")

    def test_the_variables_of_a_task_are_its_own(self):
        variable = ContextVar("variable", default="default")

        async def wait(deferred):
            variable.set("of the task")
            await deferred
            return variable.get()

        deferred = Deferred()
        task = self.begin(wait, deferred)
        variable.set("of who fires it")
        deferred.callback(None)
        self.assertEqual(self.end(task), "of the task")

    def test_nothing_is_kept_of_those_that_were_awaited(self):
        alive = WeakSet()

        async def wait():
            for _ in range(100):
                alive.add(deferred := Deferred())
                self.loop.call_soon(deferred.callback, None)
                await deferred
                alive.add(deferred := Deferred())
                task = asyncio.ensure_future(deferred)
                await turns()
                task.cancel()
                await turns()

        gc.disable()
        self.addCleanup(gc.enable)
        self.loop.run_until_complete(wait())
        self.assertEqual(len(alive), 0)

    def test_a_loop_in_another_thread_refuses_it(self):
        async def wait():
            with self.assertRaisesRegex(RuntimeError, "Deferred .* attached to a different loop"):
                await Deferred()
            return "refused"

        async def run():
            return await asyncio.to_thread(asyncio.run, wait())

        self.assertEqual(self.run_in_task(run()), "refused")

    def test_a_loop_without_a_reactor_refuses_it(self):
        self.install(None)
        with self.assertRaisesRegex(RuntimeError, "Deferred .* attached to a different loop"):
            self.run_in_task(alone(Deferred()))

    def test_another_reactor_may_take_its_place_meanwhile(self):
        """As in tests of reactors: the task goes on in its loop."""
        deferred = Deferred()
        task = self.begin(alone, deferred)
        self.install(Clock())
        deferred.callback(5)
        self.assertEqual(self.end(task), 5)

    def test_it_is_no_future(self):
        async def wait():
            await asyncio.wait([Deferred()])

        self.assertFalse(asyncio.isfuture(Deferred()))
        with self.assertRaisesRegex(TypeError, r"fix: evserve.aio.as_future\(deferred\)"):
            self.run_in_task(wait())


class DebugAwaitTests(AwaitTests):
    """The same with asyncio's debug mode."""

    def setUp(self):
        super().setUp()
        self.loop.set_debug(True)


class EagerAwaitTests(AwaitTests):
    """The same with tasks that begin at once."""

    def setUp(self):
        if sys.version_info < (3, 12):
            raise SkipTest("asyncio has no eager tasks before Python 3.12")
        super().setUp()
        self.loop.set_task_factory(asyncio.eager_task_factory)


class PythonTaskAwaitTests(AwaitTests):
    """The same with the tasks of asyncio that are written in Python, as on PyPy."""

    def setUp(self):
        super().setUp()
        kind = asyncio.tasks._PyTask
        self.loop.set_task_factory(lambda loop, *words, **rest: kind(*words, loop=loop, **rest))

    def test_nothing_is_kept_of_those_that_were_awaited(self):
        raise SkipTest("from Python 3.12 on, such a task that is cancelled is itself a cycle")


class UvloopAwaitTests(AwaitTests):
    """The same on the loop of the default reactor."""

    def new_loop(self):
        return new_uvloop()


class AsDeferredTests(LoopTestCase):
    def test_the_result(self):
        async def main():
            await asyncio.sleep(0)
            return 5

        self.assertEqual(self.run_in_task(as_deferred(main())), 5)

    def test_a_failure(self):
        error = LookupError("no such image")

        async def main():
            await asyncio.sleep(0)
            raise error

        failure = self.outcome(as_deferred(main()))
        self.assertIs(failure.value, error)
        names = [each.name for each in extract_tb(failure.getTracebackObject())]
        self.assertEqual(names[-1], "main")

    def outcome(self, deferred):
        """Run the loop until a Deferred has fired."""
        results = []
        deferred.addBoth(results.append)

        async def fired():
            while not results:
                await asyncio.sleep(0)

        self.run_in_task(fired())
        return results[0]

    def test_nothing_is_kept_of_a_coroutine_that_failed(self):
        alive = WeakSet()

        class Local:
            """A value in a frame of the traceback."""

        async def main():
            alive.add(local := Local())
            await asyncio.sleep(0)
            raise LookupError(local)

        async def ask():
            for _ in range(10):
                as_deferred(main()).addErrback(lambda _: None)
                await turns(5)

        gc.disable()
        self.addCleanup(gc.enable)
        self.run_in_task(ask())
        self.assertEqual(len(alive), 0)

    def test_what_would_end_the_loop_is_a_failure(self):
        for kind in (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError):

            async def main(kind=kind):
                raise kind

            failure = self.outcome(as_deferred(main()))
            expected = CancelledError if kind is asyncio.CancelledError else kind
            self.assertIsInstance(failure.value, expected)

    def test_a_coroutine_starts_with_the_loop(self):
        begun = []

        async def main():
            begun.append(self.loop.is_running())

        deferred = as_deferred(main())
        self.assertEqual(begun, [])
        self.outcome(deferred)
        self.assertEqual(begun, [True])

    def test_it_fires_when_a_cancelled_coroutine_has_ended(self):
        steps = []

        async def main():
            for _ in range(2):
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    steps.append("cancelled")
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(0)
                steps.append("clean")

        deferred = as_deferred(main())
        for _ in range(3):
            self.run_in_task(turns())
            self.assertFalse(deferred.called)
            deferred.cancel()
        failure = self.outcome(deferred)
        self.assertEqual(steps, ["cancelled", "cancelled", "clean"])
        self.assertIsInstance(failure.value, CancelledError)
        self.assertIsInstance(failure.value.__cause__, asyncio.CancelledError)
        deferred.cancel()

    def test_a_coroutine_may_ignore_that_it_is_cancelled(self):
        async def main():
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                return 5

        deferred = as_deferred(main())
        self.run_in_task(turns())
        deferred.cancel()
        self.assertEqual(self.outcome(deferred), 5)

    def test_a_time_out_of_the_deferred_cancels_the_task(self):
        clock, steps = Clock(), []

        async def main():
            try:
                await asyncio.sleep(100)
            finally:
                steps.append("clean")

        deferred = as_deferred(main()).addTimeout(10, clock)
        self.run_in_task(turns())
        clock.advance(10)
        self.assertIsInstance(self.outcome(deferred).value, defer.TimeoutError)
        self.assertEqual(steps, ["clean"])

    def test_a_coroutine_that_has_not_begun_is_cancelled_without_a_warning(self):
        with catch_warnings(record=True) as warnings:
            simplefilter("always")
            deferred = as_deferred(alone(None))
            deferred.cancel()
            self.assertIsInstance(self.outcome(deferred).value, CancelledError)
            gc.collect()
        self.assertEqual(warnings, [])

    def test_a_deferred_that_is_returned_is_waited_for(self):
        last = Deferred()

        async def main():
            return last

        deferred = as_deferred(main())
        results = []
        deferred.addBoth(results.append)
        self.run_in_task(turns(5))
        self.assertEqual(results, [])
        deferred.cancel()
        self.assertTrue(last.called)
        self.assertIsInstance(results[0].value, CancelledError)

    def test_any_awaitable_will_do(self):
        future = self.loop.create_future()
        self.loop.call_soon(future.set_result, 5)
        for awaitable in (future, succeed(5)):
            self.assertEqual(self.outcome(as_deferred(awaitable)), 5)
        self.assertIsInstance(self.outcome(as_deferred(5)).value, TypeError)

    def test_the_future_of_another_loop_is_refused(self):
        other = asyncio.new_event_loop()
        self.addCleanup(other.close)
        failure = self.outcome(as_deferred(other.create_future()))
        self.assertIn("attached to a different loop", str(failure.value))

    def test_without_a_loop(self):
        """The coroutine is closed, without a warning."""
        twistd = "(start twistd without --reactor, or with --reactor=asyncio)"
        for reactor, why in (
            (Clock(), f"Clock has no loop of it {twistd}"),
            (None, "no reactor is installed (fix: evserve.reactor.install())"),
        ):
            self.install(reactor)
            with catch_warnings(record=True) as warnings:
                simplefilter("always")
                with self.assertRaises(NoAsyncioLoop) as caught:
                    as_deferred(turns())
            self.assertEqual(warnings, [])
            self.assertEqual(str(caught.exception), f"a coroutine needs asyncio, and {why}")

    def test_the_reactor_may_be_named(self):
        self.install(Clock())
        self.assertIsNone(reactor_loop())
        self.assertIs(reactor_loop(self.reactor), self.loop)
        self.outcome(as_deferred(turns(), self.reactor))


class AsFutureTests(LoopTestCase):
    def test_the_result(self):
        deferred = Deferred()
        self.loop.call_soon(deferred.callback, 5)
        self.assertEqual(self.run_in_task(as_future(deferred)), 5)

    def test_a_failure(self):
        deferred = Deferred()
        self.loop.call_soon(deferred.errback, LookupError("no such image"))
        with self.assertRaisesRegex(LookupError, "no such image"):
            self.run_in_task(as_future(deferred))

    def test_asyncio_may_wait_for_some_of_several(self):
        async def main():
            first, second = Deferred(), Deferred()
            self.loop.call_soon(second.callback, 2)
            futures = [as_future(first), as_future(second)]
            done, [pending] = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
            pending.cancel()
            await turns()
            return [each.result() for each in done], first.called

        self.assertEqual(self.run_in_task(main()), ([2], True))

    def test_without_a_loop(self):
        with self.assertRaises(NoAsyncioLoop):
            as_future(Deferred(), Clock())


class TaskServiceTests(LoopTestCase):
    def setUp(self):
        super().setUp()
        self.host = MemoryHost()
        self.host.reactor = self.reactor
        self.steps = []

    def start(self, main):
        service = TaskService(self.host, main)
        service.startService()
        self.run_in_task(turns())
        return service

    def stop(self, service):
        self.run_in_task(as_deferred(service.stopService()))

    async def serve(self):
        self.steps.append("open")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.steps.append("closed")

    def test_it_runs_until_it_is_stopped(self):
        service = self.start(self.serve)
        self.assertEqual(self.steps, ["open"])
        self.stop(service)
        self.assertEqual((self.steps, self.host.failures), (["open", "closed"], []))
        service.startService()
        self.run_in_task(turns())
        self.stop(service)
        self.assertEqual(self.steps, 2 * ["open", "closed"])

    def test_it_may_be_stopped_before_it_has_begun(self):
        service = TaskService(self.host, self.serve)
        service.startService()
        self.stop(service)
        self.assertEqual((self.steps, self.host.failures), ([], []))

    def test_it_may_have_nothing_more_to_do(self):
        service = self.start(turns)
        self.run_in_task(turns(10))
        self.stop(service)
        self.assertEqual(self.host.failures, [])

    def fails(self, error):
        async def main():
            raise error

        self.stop(self.start(main))
        return self.host.failures

    def test_a_mistake_stops_the_process_with_one_line(self):
        self.assertEqual(self.fails(ValueError("no such host")), ["ValueError: no such host"])

    def test_a_defect_stops_the_process_and_is_logged(self):
        self.assertEqual(self.fails(KeyError("host")), ["KeyError: 'host'"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_neither_exit_nor_cancellation_of_its_own_is_the_end_it_waits_for(self):
        for error, reason in (
            (SystemExit(3), "SystemExit: 3"),
            (asyncio.CancelledError(), "CancelledError"),
        ):
            self.fails(error)
            self.assertEqual(self.host.failures.pop(), reason)
            self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_a_reactor_without_a_loop_is_one_line(self):
        self.host.reactor = Clock()
        service = TaskService(self.host, self.serve)
        service.startService()
        [reason] = self.host.failures
        self.assertIn("Clock has no loop of it", reason)
        self.successResultOf(service.stopService())
