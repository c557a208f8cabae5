import asyncio

from twisted.internet.testing import MemoryReactorClock
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from evserve.events import QueueClosed, QueueUnavailable
from evserve.events.memory import MemoryQueue
from evserve.interfaces import IAbortable, IReadiness
from evserve.testing import MemoryHost
from evserve.web.asgi.server import Server
from evserve.web.asgi.service import AsgiService, Options, makeService
from tests.web.asgi.memory_server import GET, ServerCase, Slow, hello


def raise_(error):
    raise error


class OptionsTests(SynchronousTestCase):
    def parse(self, *words):
        options = Options()
        options.parseOptions(words)
        return options

    def test_the_application_is_an_argument_or_an_option(self):
        for words in (("main:app",), ("--app", "main:app")):
            self.assertEqual(self.parse(*words)["app"], "main:app")

    def test_without_an_application(self):
        error = self.assertRaises(UsageError, self.parse)
        self.assertIn("MODULE:APPLICATION", str(error))

    def test_values_that_are_none(self):
        for words in (
            ("--lifespan", "maybe"),
            ("--timeout-keep-alive", "x"),
            ("--ws-max-size", "0"),
        ):
            self.assertRaises(UsageError, self.parse, *words, "main:app")


class MakeServiceTests(SynchronousTestCase):
    def test_a_reactor_without_a_loop(self):
        options = Options()
        options.parseOptions(["main:app"])
        host = MemoryHost(MemoryReactorClock())
        error = self.assertRaises(UsageError, makeService, options, host)
        self.assertIn("it needs asyncio, and MemoryReactorClock has no loop of it", str(error))


class AsgiServiceTests(ServerCase):
    def serve(self, application, *words, queue=None, start=True):
        options = Options()
        options.parseOptions([*words, "the:application"])
        self.host = MemoryHost(self.reactor)
        self.server = Server(options, self.reactor, application)
        self.service = AsgiService(options, self.host, self.server, queue)
        if start:
            self.in_loop(self.service.startService)

    def request(self):
        client = self.host.connect()
        self.in_loop(client.send, GET)
        return client

    def stop(self):
        """Begin to stop; return the list that gets the result."""
        done = []
        self.in_loop(lambda: self.service.stopService().addBoth(done.append))
        return done

    def test_it_serves_and_stops(self):
        self.serve(hello)
        self.assertIn(b"hello", self.request().received)
        self.assertEqual(self.host.metric("evserve_asgi_requests_total"), 1)
        self.assertIsNone(IReadiness(self.service).unready_reason())
        self.assertEqual((self.stop(), self.host.failures), ([None], []))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_it_can_be_stopped_before_it_has_started(self):
        # The port of another service of the process was taken.
        self.serve(hello, start=False)
        self.assertEqual(self.stop(), [None])

    def test_a_start_takes_its_time(self):
        application = Slow()  # also its lifespan, which it does not understand in the end
        self.serve(application)
        self.assertEqual(IReadiness(self.service).unready_reason(), "the:application is starting")
        self.in_loop(application.go.set)
        self.assertIsNone(IReadiness(self.service).unready_reason())

    def test_it_stops_when_all_is_answered(self):
        application = Slow()
        self.serve(application, "--lifespan", "off")
        client = self.request()
        self.assertEqual(self.host.metric("evserve_asgi_requests_in_progress"), 1)
        done = self.stop()
        self.assertEqual(done, [])
        self.in_loop(application.go.set)
        self.assertIn(b"hello", client.received)
        self.assertEqual(done, [None])

    def test_abort_cancels_what_still_runs(self):
        self.serve(Slow(), "--lifespan", "off")
        self.request()
        done = self.stop()
        self.assertEqual(self.in_loop(IAbortable(self.service).abort), "1 requests")
        self.assertEqual(done, [None])
        self.assertEqual(IAbortable(self.service).abort(), "")

    def test_abort_gives_up_a_start(self):
        self.serve(Slow(), "--lifespan", "on")
        done = self.stop()
        self.assertEqual(done, [])
        self.assertEqual(self.in_loop(IAbortable(self.service).abort), "")
        self.assertEqual(done, [None])
        self.assertEqual(self.host.failures, ["the:application failed to start: it took too long"])

    def test_abort_gives_up_an_end(self):
        async def application(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await asyncio.Event().wait()

        self.serve(application)
        done = self.stop()
        self.assertEqual(done, [])
        self.in_loop(IAbortable(self.service).abort)
        self.assertEqual(done, [None])
        self.assertEqual(self.host.failures, ["the:application failed to end: it took too long"])

    def test_a_start_that_fails_without_a_word(self):
        async def application(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.failed"})

        self.serve(application)
        self.assertEqual(
            self.host.failures, ["the:application failed to start (the log says why)"]
        )
        self.assertEqual(self.stop(), [None])

    def test_a_queue_that_cannot_be_opened_ends_the_process(self):
        queue = MemoryQueue(self.reactor)
        self.patch(MemoryQueue, "open", lambda _: raise_(QueueUnavailable("a.db is in use")))
        self.serve(hello, queue=queue)
        self.assertEqual(self.host.failures, ["a.db is in use"])
        self.assertIsNotNone(IReadiness(self.service).unready_reason())
        self.assertEqual(self.stop(), [None])
        self.failureResultOf(queue.put("a.b", b""), QueueClosed)

    def test_it_may_be_stopped_without_a_start(self):
        options = Options()
        options.parseOptions(["the:application"])
        server = Server(options, self.reactor, hello)
        self.service = AsgiService(options, MemoryHost(self.reactor), server, None)
        self.assertEqual(self.stop(), [None])

    def test_the_application_has_the_queue_until_it_has_ended(self):
        queue = MemoryQueue(self.reactor)
        states = []

        async def application(scope, receive, send):
            states.append(scope["state"])
            if scope["type"] == "lifespan":
                for name in ("startup", "shutdown"):
                    await receive()
                    await scope["state"]["queue"].put("a.b", b"")
                    await send({"type": f"lifespan.{name}.complete"})
            else:
                await hello(scope, receive, send)

        self.serve(application, queue=queue)
        self.request()
        self.assertEqual([state["queue"] for state in states], [queue, queue])
        self.assertIsNot(states[0], states[1])  # what a request changes is its own
        self.assertEqual(self.stop(), [None])
        self.failureResultOf(queue.put("a.b", b""))
