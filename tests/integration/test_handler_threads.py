"""Blocking handlers in real threads."""

from threading import Event, current_thread

from twisted.trial.unittest import TestCase

from evserve.work.runner import HandlerThreads


class HandlerThreadsTests(TestCase):
    def setUp(self):
        from twisted.internet import reactor

        self.threads = HandlerThreads(reactor, 2)
        self.addCleanup(self.threads.stop)

    async def test_a_function_runs_in_another_thread(self):
        self.assertIsNot(await self.threads.call(current_thread), current_thread())

    async def test_what_it_raises_comes_back(self):
        await self.assertFailure(self.threads.call(lambda: 1 / 0), ZeroDivisionError)

    async def test_threads_do_not_keep_the_process_from_ending(self):
        thread = await self.threads.call(current_thread)
        self.assertTrue(thread.daemon)

    async def test_a_busy_thread_is_not_waited_for(self):
        release = Event()
        busy = self.threads.call(release.wait)
        self.threads.stop()
        release.set()
        await busy
