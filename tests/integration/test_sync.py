"""evserve.events.sync in programs of their own: servers, forks, Ctrl-C and the end."""

import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from evserve.events import Depth
from evserve.events.sync import open_queue
from tests.events.test_sync import in_threads, share_work
from tests.integration.postgres import fresh_database
from tests.integration.queue_server import QueueServer


HEAD = """
import os, signal, sys, threading
from evserve.events import NotReserved, QueueClosed, QueueUnavailable
from evserve.events.sync import open_queue

url = sys.argv[1]
"""


class PostgresTests(SynchronousTestCase):
    def setUp(self):
        self.url = fresh_database()
        self.queue = open_queue(self.url)
        self.addCleanup(self.queue.close)

    def test_four_threads_share_the_work(self):
        done = share_work(self.queue, "jobs", 25)
        wanted = [b"%c %d" % (name, number) for name in b"abcd" for number in range(25)]
        self.assertEqual(sorted(done), sorted(wanted))

    def test_an_event_is_put_in_the_callers_transaction_and_handled_in_one(self):
        import psycopg

        def put_and_handle():
            with psycopg.connect(self.url) as database:
                self.queue.put("mail", b"rolled back", connection=database)
                database.rollback()
                self.queue.put("mail", b"cat.png", connection=database)
            event = self.queue.reserve(["mail"], 60)
            with event.transaction() as database:
                database.execute("CREATE TABLE thumbnail AS SELECT %s::bytea", [event.body])
            with psycopg.connect(self.url) as database:
                return database.execute("SELECT * FROM thumbnail").fetchall()

        # In a thread, because trial's own reactor is this one's.
        self.assertEqual(in_threads(put_and_handle), [[(b"cat.png",)]])
        self.assertEqual(self.queue.depth("mail"), Depth())


class ProgramTests(SynchronousTestCase):
    def setUp(self):
        self.url = f"beanstalk://127.0.0.1:{QueueServer(self).port}"

    def start(self, program, url=None):
        # From 3.12 on, Python warns of each fork of a process that has threads.
        python = [sys.executable, "-W", "ignore::DeprecationWarning"]
        words = [*python, "-c", HEAD + dedent(program), url or self.url, self.mktemp()]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def run_program(self, program, url=None):
        """Run a program to its end; return what it has printed."""
        process = self.start(program, url)
        out = process.stdout.read()
        self.assertEqual(process.wait(), 0, out)
        return out.splitlines()

    def test_four_threads_share_the_work_of_a_server(self):
        with open_queue(self.url) as queue:
            done = share_work(queue, "jobs", 25)
        wanted = [b"%c %d" % (name, number) for name in b"abcd" for number in range(25)]
        self.assertEqual(sorted(done), sorted(wanted))

    def test_the_global_reactor_is_not_installed(self):
        program = """
            for each in (url, "memory:", "sqlite:" + sys.argv[2]):
                queue = open_queue(each)
                queue.put("mail", b"")
                queue.ack(queue.reserve(["mail"]))
            print("twisted.internet.reactor" in sys.modules)
        """
        self.assertEqual(self.run_program(program), ["False"])

    def test_a_program_ends_whatever_is_open(self):
        program = """
            queue = open_queue(url)
            queue.put("mail", b"")
            queue.reserve(["mail"])

            def wait():
                try:
                    queue.reserve(["none"])
                except QueueClosed:
                    pass

            threading.Thread(target=wait, daemon=True).start()
            open_queue("sqlite:" + sys.argv[2]).put("mail", b"")
            print(sys.argv[2])
        """
        [path] = self.run_program(program)
        self.assertFalse(Path(f"{path}-wal").exists())  # it was closed, although nothing held it
        with open_queue(self.url) as queue:  # what was reserved has been given back
            self.assertEqual(queue.reserve(["mail"]).attempts, 2)

    def test_a_forked_child_has_a_connection_of_its_own(self):
        program = """
            queue = open_queue(url)
            queue.put("mail", b"parent")
            event = queue.reserve(["mail"])
            child = os.fork()
            if child == 0:
                queue.put("mail", b"child")
                try:
                    queue.ack(event)
                except NotReserved as error:
                    print(error, flush=True)
                sys.exit(0)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            queue.ack(event)
            print(queue.reserve(["mail"]).body.decode(), queue.depth("mail").ready)
        """
        self.assertEqual(
            self.run_program(program),
            ["event 1 (mail) is not reserved in this process", "0", "child 0"],
        )

    def test_what_an_engine_logs_goes_to_pythons_log(self):
        program = """
            import logging

            logging.basicConfig(format="%(name)s %(levelname)s", stream=sys.stdout)
            queue = open_queue(url)
            try:
                queue.put("mail", b"")
            except QueueUnavailable as error:
                print(error)
        """
        shown = self.run_program(program, "beanstalk://127.0.0.1:1")
        self.assertEqual(shown[0], "evserve WARNING")
        self.assertIn("cannot reach the queue at 127.0.0.1:1", shown[1])

    def test_a_forked_child_does_not_lose_events_in_a_copy_of_the_parents_memory(self):
        program = """
            queue = open_queue(url)
            if os.fork() == 0:
                try:
                    queue.put("mail", b"")
                except QueueUnavailable as error:
                    print(error)
                sys.exit(0)
            os.wait()
        """
        self.assertEqual(
            self.run_program(program, "memory:"),
            ["a memory: queue stays in the process that has opened it"],
        )

    def test_ctrl_c_ends_a_wait_and_takes_no_event(self):
        program = """
            queue = open_queue(url)
            try:
                print("waits", flush=True)
                queue.reserve(["mail"])
            except KeyboardInterrupt:
                queue.put("mail", b"for another")
                print(queue.reserve(["mail"]).body.decode())
        """
        process = self.start(program)
        self.assertEqual(process.stdout.readline(), "waits\n")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.stdout.read(), "for another\n")
        self.assertEqual(process.wait(), 0)
