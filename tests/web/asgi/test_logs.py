import asyncio
import logging

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from evserve.web.asgi.logs import AccessLog, connect_loggers
from evserve.web.log_lines import DELAY, MOST_WAITING


FORM = '%s - "%s %s HTTP/%s" %d'


class AccessLogTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.log = AccessLog(self.clock)

    def add(self, client="192.0.2.7:4711", path="/"):
        self.log.info(FORM, client, "GET", path, "1.1", 200)

    def test_lines_wait_for_each_other(self):
        with capturedLogs() as events:
            self.add(path="/1")
            self.clock.advance(DELAY / 2)
            self.add(path="/2")
            self.assertEqual(events, [])
            self.clock.advance(DELAY / 2)
        self.assertEqual(
            [formatEvent(event) for event in events],
            [f'192.0.2.7:4711 "GET /{number} HTTP/1.1" 200' for number in (1, 2)],
        )
        self.assertLess(events[0]["log_time"], events[1]["log_time"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_too_many_wait(self):
        with capturedLogs() as events:
            for _ in range(MOST_WAITING):
                self.add()
            self.assertEqual(len(events), MOST_WAITING)
            self.clock.advance(DELAY)
        self.assertEqual(len(events), MOST_WAITING)

    def test_the_last_are_written_at_the_end(self):
        self.add()
        with capturedLogs() as events:
            self.log.stop()
        self.assertEqual(len(events), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_client_without_an_address(self):
        with capturedLogs() as events:
            self.add(client="")
            self.log.stop()
        self.assertEqual(formatEvent(events[0]), '- "GET / HTTP/1.1" 200')

    def test_what_a_proxy_says_cannot_control_a_terminal(self):
        with capturedLogs() as events:
            self.add(client="\x9b2J:0")
            self.log.stop()
        self.assertEqual(formatEvent(events[0]), '\\x9b2J:0 "GET / HTTP/1.1" 200')


class UvicornHandlerTests(SynchronousTestCase):
    def setUp(self):
        connect_loggers()
        self.logger = logging.getLogger("uvicorn.error")
        self.addCleanup(self.logger.setLevel, self.logger.level)
        self.logger.setLevel(logging.INFO)

    def test_levels_and_texts(self):
        with capturedLogs() as events:
            self.logger.debug("unheard")
            self.logger.info("Started %s.", "well")
            self.logger.warning("hm\n")
        self.assertEqual(
            [(event["log_level"], formatEvent(event)) for event in events],
            [(LogLevel.info, "uvicorn: Started well."), (LogLevel.warn, "uvicorn: hm")],
        )

    def test_a_traceback_is_a_failure(self):
        try:
            {}["gone"]
        except LookupError:
            self.logger.exception("Exception in ASGI application\n")
        (failure,) = self.flushLoggedErrors(LookupError)
        self.assertIn("gone", failure.getTraceback())

    def test_a_clients_invalid_text_is_a_warning(self):
        with capturedLogs() as events:
            try:
                b"\xff".decode()
            except UnicodeDecodeError:
                self.logger.exception("Invalid UTF-8 sequence received from client.")
        self.assertEqual([event["log_level"] for event in events], [LogLevel.warn])
        self.assertNotIn("log_failure", events[0])

    def test_connecting_twice_logs_once(self):
        connect_loggers()
        with capturedLogs() as events:
            self.logger.info("hello")
        self.assertEqual(len(events), 1)

    def test_what_was_cancelled_has_no_traceback(self):
        async def main():
            async def wait():
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.logger.exception("Exception in ASGI application\n")

            task = asyncio.create_task(wait())
            await asyncio.sleep(0)
            task.cancel()
            await task

        with capturedLogs() as events:
            asyncio.run(main())
        found = [event for event in events if "uvicorn" in str(event.get("log_format"))]
        self.assertEqual(
            [formatEvent(event) for event in found],
            ["uvicorn: Exception in ASGI application (cancelled)"],
        )
        self.assertNotIn("log_failure", found[0])
