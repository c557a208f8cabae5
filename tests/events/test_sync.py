"""The synchronous queue, on engines inside this process: its own thread serves them."""

import inspect
from contextlib import closing
from functools import partial
from itertools import chain
from sqlite3 import connect
from threading import Thread

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from evserve.events import (
    BadEvent,
    BadQueueURL,
    Capability,
    Depth,
    EventQueue,
    NotReserved,
    QueueClosed,
    State,
)
from evserve.events.sync import SyncQueue, _Call, open_queue


def in_threads(*functions):
    """Call functions, each in a thread; return their results."""
    results = [None] * len(functions)

    def run(number, function):
        results[number] = function()

    threads = [Thread(target=run, args=each) for each in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def share_work(queue, event_type, count):
    """Put events in four threads, and handle them in the same four; return the bodies."""

    def work(name):
        for number in range(count):
            queue.put(event_type, b"%s %d" % (name, number))
        done = []
        while (event := queue.reserve([event_type], 0)) is not None:
            done.append(event.body)
            queue.ack(event)
        return done

    names = (b"a", b"b", b"c", b"d")
    return [*chain(*in_threads(*(partial(work, name) for name in names)))]


class SyncQueueTests(SynchronousTestCase):
    url = "memory:"

    def setUp(self):
        self.queue = open_queue(self.url)
        self.addCleanup(self.queue.close)

    def test_it_has_every_method_of_the_seam_with_the_same_arguments(self):
        for name, method in vars(EventQueue).items():
            if inspect.isfunction(method) and not name.startswith("_") and name != "close":
                wanted = inspect.signature(method).parameters
                self.assertEqual(inspect.signature(getattr(SyncQueue, name)).parameters, wanted)

    def test_an_event_is_put_reserved_and_settled(self):
        event_id = self.queue.put("mail", b"1", priority=3, ttr=9)
        event = self.queue.reserve(["mail"])
        self.assertEqual((event.id, event.body, event.priority), (event_id, b"1", 3))
        self.queue.touch(event)
        self.queue.retry(event)
        event = self.queue.reserve_event(event_id)
        self.queue.bury(event, "no such image")
        self.assertEqual(self.queue.peek("mail", State.BURIED).event.id, event_id)
        self.assertEqual(self.queue.kick("mail", 5), 1)
        [event] = self.queue.reserve_many(["mail"], 10)
        self.queue.ack(event)
        self.assertIsNone(self.queue.find(event_id))
        self.assertEqual(self.queue.depth("mail"), Depth())

    def test_it_waits_no_longer_than_asked(self):
        self.assertIsNone(self.queue.reserve(["mail"], 0.01))
        self.assertEqual(self.queue.reserve_many(["mail"], 5, 0), [])

    def test_an_operators_methods(self):
        self.queue.bind("mail", "audit")
        self.assertEqual(self.queue.bindings(), [("mail", "audit")])
        self.queue.put("mail", b"", key="once")
        self.queue.put("mail", b"", key="once")
        self.queue.unbind("mail", "audit")
        self.assertLessEqual({"audit", "mail"}, {*self.queue.types()})
        self.queue.pause("mail", 60)
        self.assertIsNone(self.queue.reserve(["mail"], 0))
        self.queue.pause("mail", 0)
        self.assertTrue(self.queue.delete(self.queue.peek("mail").event.id))
        self.assertEqual(self.queue.truncate("audit"), 1)
        self.assertIn(Capability.KEYS, self.queue.capabilities)

    def test_the_errors_are_those_of_the_engine(self):
        self.assertRaises(BadQueueURL, open_queue, "nonsense")
        self.assertRaises(BadEvent, self.queue.put, "mail", "text")
        self.assertRaises(BadEvent, self.queue.ack, None)
        self.queue.put("mail", b"")
        event = self.queue.reserve(["mail"])
        self.queue.ack(event)
        self.assertRaises(NotReserved, self.queue.ack, event)

    def test_an_event_that_was_not_reserved_here_cannot_be_settled(self):
        self.queue.put("mail", b"")
        self.assertRaises(NotReserved, self.queue.ack, self.queue.peek("mail").event)

    def test_closing_ends_waits_in_other_threads(self):
        def wait():
            self.assertRaises(QueueClosed, self.queue.reserve, ["mail"])

        def close():
            self.queue.close()
            self.assertRaises(QueueClosed, self.queue.put, "mail", b"")
            self.queue.close()

        in_threads(wait, close)

    def test_a_context_closes_it(self):
        with open_queue(self.url) as queue:
            pass
        self.assertRaises(QueueClosed, queue.types)

    def test_four_threads_share_the_work(self):
        done = share_work(self.queue, "jobs", 25)
        self.assertEqual(
            sorted(done), sorted(b"%c %d" % (c, n) for c in b"abcd" for n in range(25))
        )


class SQLiteSyncQueueTests(SyncQueueTests):
    def setUp(self):
        self.url = f"sqlite:{self.mktemp()}"
        super().setUp()

    def test_a_context_closes_it(self):
        self.queue.close()
        super().test_a_context_closes_it()

    # In a thread, because trial's own reactor is this one's.

    def test_an_event_is_put_in_the_callers_transaction(self):
        def put():
            with closing(connect(self.url.removeprefix("sqlite:"))) as database:
                self.queue.put("mail", b"rolled back", connection=database)
                database.rollback()
                self.queue.put("mail", b"committed", connection=database)
                database.commit()
            return self.queue.reserve(["mail"], 60).body

        self.assertEqual(in_threads(put), [b"committed"])
        self.assertIsNone(self.queue.reserve(["mail"], 0))

    def test_an_event_is_handled_in_one_transaction(self):
        def handle():
            self.queue.put("mail", b"cat.png")
            event = self.queue.reserve(["mail"])
            with event.transaction() as database:
                database.execute("CREATE TABLE thumbnail AS SELECT ? AS name", ["cat.png"])
            with closing(connect(self.url.removeprefix("sqlite:"))) as database:
                return database.execute("SELECT name FROM thumbnail").fetchall()

        self.assertEqual(in_threads(handle), [[("cat.png",)]])
        self.assertEqual(self.queue.depth("mail"), Depth())


class InterruptedCallTests(SynchronousTestCase):
    """A call whose thread was interrupted while it waited."""

    def setUp(self):
        self.given_back = []

    def begin(self, result, give_back):
        call = _Call(lambda: result, give_back)
        call.begin()
        return call

    def test_a_wait_is_cancelled(self):
        waiting = Deferred()
        call = self.begin(waiting, self.given_back.append)
        call.abandon()
        self.assertTrue(call.future.exception())

    def test_an_event_that_came_just_then_is_given_back(self):
        waiting = Deferred()
        call = self.begin(waiting, self.given_back.append)
        waiting.callback("event")
        call.abandon()
        self.assertEqual(self.given_back, ["event"])

    def test_an_event_that_comes_although_the_wait_was_cancelled_is_given_back(self):
        waiting = Deferred(lambda each: each.callback("event"))
        self.begin(waiting, self.given_back.append).abandon()
        self.assertEqual(self.given_back, ["event"])

    def test_a_change_takes_its_course(self):
        changing = Deferred()
        call = self.begin(changing, None)
        call.abandon()
        changing.callback("id")
        self.assertEqual(call.future.result(), "id")
