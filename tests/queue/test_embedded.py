"""The embedded queue is an EventQueue, and durable on SQLite."""

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from evserve.events import BadQueueURL, Depth, QueueClosed, QueueUnavailable, open_queue
from tests.events.conformance import EventQueueConformance


OPEN = """
import sys
import evserve.events
from twisted.internet.task import Clock
evserve.events.open_queue("memory:", Clock())
print([name for name in ("evserve.queue.service", "prometheus_client") if name in sys.modules])
"""


class MemoryTests(EventQueueConformance, TestCase):
    def make_queue(self):
        return open_queue("memory:", reactor)


class SQLiteTests(EventQueueConformance, TestCase):
    def make_queue(self):
        self.count = getattr(self, "count", 0) + 1
        self.path = f"{Path(self.mktemp()).absolute()}{self.count}"
        return open_queue(f"sqlite:{self.path}", reactor)

    def connect(self):
        connection = sqlite3.connect(self.path)
        self.addCleanup(connection.close)
        return connection


class CancelledTests(TestCase):
    async def test_events_that_come_when_their_caller_cancels_are_ready_again(self):
        queue = open_queue("memory:", reactor)
        puts = [queue.put("mail", body) for body in (b"1", b"2")]
        waiting = queue.reserve_many(["mail"], 2)
        puts[0].addCallback(lambda _: waiting.cancel())
        await puts[1]
        await self.assertFailure(waiting, CancelledError)
        await queue.put("mail", b"3")
        self.assertEqual(await queue.depth("mail"), Depth(ready=3))
        await queue.close()


class OpeningTests(TestCase):
    async def test_what_was_put_is_there_after_closing(self):
        url = f"sqlite:{Path(self.mktemp()).absolute()}"
        queue = open_queue(url, reactor)
        await queue.put("mail", b"body")
        await queue.bind("mail", "copy")
        await queue.reserve(["mail"])
        await queue.close()
        queue = open_queue(url, reactor)
        event = await queue.reserve(["mail"])
        self.assertEqual((event.body, event.attempts), (b"body", 2))
        await queue.put("mail", b"")
        self.assertEqual((await queue.depth("copy")).ready, 1)
        await queue.close()

    async def test_a_path_can_be_opened_once_at_a_time(self):
        url = f"sqlite:{Path(self.mktemp()).absolute()}"
        queue, second = open_queue(url, reactor), open_queue(url, reactor)
        queue.open()
        error = self.assertRaises(QueueUnavailable, second.open)
        self.assertIn("in use", str(error))
        error = await self.assertFailure(second.put("mail", b""), QueueUnavailable)
        self.assertIn("in use", str(error))
        await queue.close()
        await second.put("mail", b"")
        await second.close()

    async def test_nothing_is_opened_before_the_reactor_runs_or_the_first_call(self):
        path, threads = Path(self.mktemp()).absolute(), threading.active_count()
        started = Mock()
        before = Mock(wraps=reactor, callWhenRunning=started)
        await open_queue(f"sqlite:{path}", before).close()
        queues = [open_queue(f"sqlite:{path}{number}", before) for number in range(2)]
        self.assertEqual(list(path.parent.glob(f"{path.name}*")), [])
        self.assertEqual(threading.active_count(), threads)
        await queues[0].put("mail", b"")
        for call in started.call_args_list:
            call.args[0](*call.args[1:])
        self.assertEqual([Path(f"{path}{each}").exists() for each in ("", 0, 1)], [False, 1, 1])
        for each in queues:
            await each.close()

    async def test_the_first_call_may_be_a_put_in_a_thread(self):
        path = Path(self.mktemp()).absolute()
        first = open_queue(f"sqlite:{path}", reactor)
        first.open()
        await first.close()
        queue = open_queue(f"sqlite:{path}", Mock(wraps=reactor, callWhenRunning=Mock()))

        def put():
            with closing(sqlite3.connect(path)) as database, database:
                queue.put("mail", b"", connection=database)

        await deferToThread(put)
        self.assertIsNotNone(await queue.reserve(["mail"]))
        await queue.close()

    def test_opening_does_not_load_the_service(self):
        output = subprocess.check_output([sys.executable, "-c", OPEN], text=True)
        self.assertEqual(output, "[]\n")

    def test_urls_without_a_usable_path(self):
        for url in ("sqlite:", "sqlite://host/path", "memory:path"):
            self.assertRaises(BadQueueURL, open_queue, url, reactor)

    async def test_calls_fail_when_the_store_is_broken(self):
        queue = open_queue(f"sqlite:{Path(self.mktemp()).absolute()}", reactor)
        queue.open()
        queue.broker.broken = True
        await self.assertFailure(queue.put("mail", b""), QueueUnavailable)
        await self.assertFailure(queue.bind("a", "b"), QueueUnavailable)
        self.assertEqual(queue.broker.core.bindings, {})
        await queue.close()

    async def test_calls_after_close_fail(self):
        queue = open_queue("memory:", reactor)
        closing = [queue.close(), queue.close()]
        for each in closing:
            await each
        await queue.close()
        await self.assertFailure(queue.put("mail", b""), QueueClosed)
        await self.assertFailure(queue.reserve(["mail"]), QueueClosed)
