import asyncio

from twisted.logger import LogLevel, capturedLogs

from tests.web.asgi.memory_server import ServerCase, hello


async def raises(scope, receive, send):
    raise LookupError("no database")


class LifespanTests(ServerCase):
    def lifespan(self, application, *words):
        self.serve(application, *words)
        return self.server.lifespan

    def start(self, application, *words):
        """Return the lifespan of an application after its start, None if that takes long."""
        lifespan = self.lifespan(application, *words)
        self.task = self.loop.create_task(lifespan.startup())
        with capturedLogs() as self.events:
            self.in_loop(list)
        return lifespan

    def logged(self, level):
        return [each for each in self.events if each["log_level"] is level]

    def test_what_is_told(self):
        told = []

        async def application(scope, receive, send):
            for name in ("startup", "shutdown"):
                told.append(await receive())
                await send({"type": f"lifespan.{name}.complete"})

        lifespan = self.start(application)
        self.loop.run_until_complete(lifespan.shutdown())
        self.assertEqual(told, [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        self.assertEqual((lifespan.should_exit, lifespan.problem), (False, ""))

    def test_an_application_that_does_not_know_it(self):
        lifespan = self.start(raises)
        self.assertFalse(lifespan.should_exit)
        self.assertEqual(self.logged(LogLevel.error), [])
        self.loop.run_until_complete(lifespan.shutdown())
        self.assertFalse(lifespan.should_exit)

    def test_an_application_that_must_know_it(self):
        lifespan = self.start(raises, "--lifespan", "on")
        self.assertTrue(lifespan.should_exit)
        self.assertEqual(lifespan.problem, "LookupError: no database")
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)

    def test_the_last_line_of_a_report_is_the_problem(self):
        for message, problem in (
            ("Traceback:\n  x\nLookupError: y\n", "LookupError: y"),
            ("", ""),
        ):

            async def application(scope, receive, send, message=message):
                await receive()
                await send({"type": "lifespan.startup.failed", "message": message})

            lifespan = self.start(application)
            self.assertTrue(lifespan.should_exit)
            self.assertEqual(lifespan.problem, problem)

    def test_a_start_that_is_given_up(self):
        cleaned = []

        async def application(scope, receive, send):
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(scope)

        lifespan = self.start(application)
        self.assertFalse(self.task.done())
        lifespan.cancel()
        self.in_loop(list)
        self.assertTrue(self.task.done() and lifespan.should_exit)
        self.assertEqual((lifespan.problem, len(cleaned)), ("it took too long", 1))

    def test_an_end_that_is_given_up(self):
        async def application(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await asyncio.Event().wait()

        lifespan = self.start(application)
        ending = self.loop.create_task(lifespan.shutdown())
        self.in_loop(list)
        self.assertFalse(ending.done())
        lifespan.cancel()
        self.in_loop(list)
        self.assertTrue(ending.done() and lifespan.should_exit)

    def test_off(self):
        lifespan = self.start(hello, "--lifespan", "off")
        self.loop.run_until_complete(lifespan.shutdown())
        lifespan.cancel()
        self.assertEqual((lifespan.should_exit, lifespan.problem, lifespan.state), (False, "", {}))
