"""Handlers that return or raise what no handler should: no event may be lost by it."""

from twisted.internet.defer import Deferred

from evserve.work.routing import Route
from tests.work.rig import WorkerTestCase


class OddHandlerTests(WorkerTestCase):
    def test_what_has_to_be_waited_for_is_waited_for(self):
        """And not taken for the end of the handler, which loses the event."""

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

    def test_a_generator_is_refused_since_nobody_would_run_it(self):
        def plain(event):
            yield self.calls.append(event)

        async def asynchronous(event):
            yield self.calls.append(event)

        self.work(Route("plain", plain), Route("async", asynchronous), max_attempts=1)
        for kind in ("plain", "async"):
            self.put(b"", kind=kind)
            self.assertEqual(self.depth(kind), {"buried": 1})
        self.assertEqual((self.calls, len(self.flushLoggedErrors(TypeError))), ([], 2))

    def test_a_blocking_handler_returns_nothing_to_wait_for(self):
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

    def test_an_error_that_cannot_be_shown_is_an_error_all_the_same(self):
        class ShyError(Exception):
            def __str__(self):
                raise ValueError("no words")

        def fails(event):
            raise ShyError

        self.work(Route("mail", fails))
        self.put(b"")
        self.assertEqual((self.depth(), self.outcomes()), ({"delayed": 1}, {"retried": 1}))
