"""The work service as a process, with handlers in plugin files, on real servers."""

import json
import os
import signal
from pathlib import Path

from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from evserve.events import ERRORS, Depth, open_queue
from tests.integration.beanstalkd import start_beanstalkd
from tests.integration.processes import TWISTD, run_python, spawn
from tests.ports import free_port


PLUGINS = """
from evserve.plugin import Handler

say = Handler("say.*", "handlers.say")
shout = Handler("say.loud", "handlers.shout")
nap = Handler("nap", "handlers.nap", blocking=True)
hang = Handler("hang", "handlers.hang")
fails = Handler("fails", "handlers.fails", max_attempts=1)
note = Handler("note", "handlers.note")
wait = Handler("wait", "handlers.wait")
broken = Handler("broken", "broken_handlers.any")
"""

HANDLERS = """
import os, time
from twisted.internet import defer, reactor, task

async def say(event):
    seconds, text = event.body.decode().split()
    print("begin", text)
    await task.deferLater(reactor, float(seconds))
    print("said", text)

def shout(event):
    print("said", event.body.decode().upper())
    return defer.succeed(None)

def nap(event):
    print("napping")
    time.sleep(float(event.body))
    print("woke up")

def hang(event):
    print("hanging, attempt", event.attempts)
    return defer.Deferred()

async def wait(event):
    print("begin", event.body.decode())
    while not os.path.exists("go"):
        await task.deferLater(reactor, 0.01)
    print("did", event.body.decode())

async def note(event):
    await task.deferLater(reactor, 0.01)
    if os.path.exists("most") and noted() >= int(open("most").read()):
        await defer.Deferred()
    with open("notes", "ab") as notes:
        notes.write(event.body + b"\\n")

def noted():
    return len(open("notes").readlines()) if os.path.exists("notes") else 0

async def fails(event):
    raise LookupError("no such image")
"""


class WorkTestCase(TestCase):
    def setUp(self):
        from twisted.internet import reactor

        self.reactor = reactor
        self.folder = Path(self.mktemp()).absolute()
        plugins = self.folder / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "test_handlers.py").write_text(PLUGINS)
        (self.folder / "handlers.py").write_text(HANDLERS)
        (self.folder / "broken_handlers.py").write_text("raise RuntimeError('not today')")

    def use(self, address):
        self.url = f"beanstalk://{address}"
        self.queue = open_queue(self.url, self.reactor)
        self.addCleanup(self.queue.close)

    async def work(self, *words, drain="10"):
        child = spawn(
            self, "--drain", drain, "work", "--queue", self.url, *words, folder=self.folder
        )
        await child.until(lambda: b" serves work" in child.err)
        return child

    async def logs(self, child, text):
        await child.until(lambda: text.encode() in child.err)

    async def drained(self, kind):
        """Wait until no event of a type is left."""
        while await self.queue.depth(kind) != Depth():
            """Each look is an answer from the server."""

    def notes(self):
        return (self.folder / "notes").read_bytes().split()


class BeanstalkdWorkTests(WorkTestCase):
    async def setUp(self):
        super().setUp()
        self.server = start_beanstalkd(self, self.reactor)
        self.port = await self.server.port
        self.use(f"127.0.0.1:{self.port}")

    async def test_events_reach_the_most_specific_handler_and_are_acknowledged(self):
        await self.queue.put("say.soft", b"0 hello")
        await self.queue.put("say.loud", b"hello")
        child = await self.work()
        await self.logs(child, "said hello")
        await self.logs(child, "said HELLO")
        await self.drained("say.soft")
        await self.drained("say.loud")
        self.assertEqual(await child.stop(), 0)

    async def test_a_handler_that_raises_at_import_is_one_line_and_the_others_go_on(self):
        child = await self.work()
        await self.queue.put("say.soft", b"0 hello")
        await self.logs(child, "said hello")
        lines = [line for line in child.err.decode().splitlines() if "not today" in line]
        self.assertEqual(len(lines), 1)
        self.assertNotIn(b"Traceback", child.err)

    async def test_sigterm_lets_running_handlers_finish_and_begins_no_others(self):
        for text in (b"first", b"second"):
            await self.queue.put("wait", text)
        child = await self.work("--concurrency", "1", drain="200")
        await self.logs(child, "begin first")
        ended = child.stop()
        await self.logs(child, "SIGTERM: stopping")
        (self.folder / "go").touch()
        self.assertEqual(await ended, 0)
        self.assertIn(b"did first", child.err)
        self.assertNotIn(b"begin second", child.err)
        self.assertEqual(await self.queue.depth("wait"), Depth(ready=1))

    async def test_a_killed_worker_gives_its_event_to_the_next(self):
        await self.queue.put("wait", b"long", ttr=1000)
        first = await self.work()
        await self.logs(first, "begin long")
        await first.stop("KILL")
        event = await self.queue.reserve(["wait"], 100)
        self.assertEqual((event.body, event.attempts), (b"long", 2))

    async def test_no_event_is_lost_while_workers_are_killed(self):
        wanted = {b"%d" % number for number in range(300)}
        await gatherResults([self.queue.put("note", body) for body in wanted])
        for left in (225, 150, 75):
            # The handlers stop at `most`, so that there is work left however late the kill comes.
            (self.folder / "most").write_text(str(300 - left + 30))
            worker = await self.work("--max-attempts", "100")
            while (await self.queue.depth("note")).ready > left:
                """Each look is an answer from the server."""
            await worker.stop("KILL")
            self.assertGreater((await self.queue.depth("note")).ready, 0)
        (self.folder / "most").unlink()
        last = await self.work("--max-attempts", "100")
        await self.drained("note")
        await last.stop()
        self.assertEqual(set(self.notes()), wanted)
        self.assertLessEqual(len(self.notes()), len(wanted) + 3 * 8)

    async def test_a_buried_event_leaves_its_error_where_any_client_sees_it(self):
        await self.queue.put("fails", b"cat.png")
        child = await self.work()
        record = json.loads((await self.queue.reserve([ERRORS])).body)
        self.assertEqual(record["reason"], "LookupError: no such image")
        await self.logs(child, "is buried after attempt 1")
        await child.stop()
        self.assertEqual(await self.queue.depth("fails"), Depth(buried=1))

    async def test_a_handler_that_never_ends_is_ended_and_tried_again(self):
        await self.queue.put("hang", b"")
        child = await self.work("--timeout", "0.2")
        await self.logs(child, "HandlerTimeout: not done after 0.2 seconds")
        await self.logs(child, "hanging, attempt 2")
        self.assertEqual(await child.stop(), 0)

    async def test_a_thread_that_never_ends_does_not_keep_the_process(self):
        await self.queue.put("nap", b"1000")
        child = await self.work("--timeout", "0.2", drain="0.5")
        await self.logs(child, "goes on after its time-out")
        self.assertEqual(await child.stop(), 1)

    async def test_a_stop_that_cuts_a_handler_costs_its_event_no_attempt(self):
        await self.queue.put("wait", b"long", ttr=1000)
        for _ in range(2):
            child = await self.work("--max-attempts", "1", drain="0.1")
            await self.logs(child, "begin long")
            self.assertEqual(await child.stop(), 1)
            await self.logs(child, "still draining after 0.1 seconds: aborted 1 handlers")
            self.assertEqual(await self.queue.depth("wait"), Depth(ready=1))
        (self.folder / "go").touch()
        child = await self.work("--max-attempts", "1")
        await self.logs(child, "did long")
        await self.drained("wait")
        await child.stop()

    async def test_a_blocking_handler_outlives_the_ttr_of_its_event(self):
        child = await self.work()
        # A busy machine may touch the event too late: try again with a longer TTR.
        for ttr in (1, 4, 16):
            before = child.err.count(b"napping")
            await self.queue.put("nap", b"%g" % (ttr * 2.5), ttr=ttr)
            await self.logs(child, "napping")
            await self.drained("nap")
            if child.err.count(b"napping") == before + 1:
                break
        self.assertEqual(child.err.count(b"napping"), before + 1)
        self.assertIn(b"woke up", child.err)

    async def test_a_queue_that_goes_away_and_comes_back_is_worked_again(self):
        child = await self.work("--concurrency", "2")
        await self.queue.put("wait", b"before")
        await self.logs(child, "begin before")
        await self.server.stop()
        (self.folder / "go").touch()
        await self.logs(child, "so it may come again")
        self.server = start_beanstalkd(self, self.reactor, self.port)
        await self.server.port
        await self.queue.put("say.slow", b"0 after")
        await self.logs(child, "said after")
        await self.drained("say.slow")
        self.assertEqual(await child.stop(), 0)

    async def test_a_worker_whose_queue_is_away_stops_at_once(self):
        await self.server.stop()
        child = await self.work()
        await self.logs(child, "cannot reach the queue at 127.0.0.1")
        self.assertEqual(await child.stop(), 0)


class OwnQueueWorkTests(WorkTestCase):
    async def start(self, port=None):
        port = port or free_port()
        server = spawn(self, "queue", "--port", port, "--store", "queue.db", folder=self.folder)
        return server, await server.listening()

    async def test_no_event_is_lost_while_the_queue_is_killed(self):
        server, address = await self.start()
        self.use(address)
        wanted = {b"%d" % number for number in range(300)}
        await gatherResults([self.queue.put("note", body) for body in wanted])
        worker = await self.work("--max-attempts", "100")
        for left in (200, 100):
            while (await self.queue.depth("note")).ready > left:
                """Each look is an answer from the server."""
            await server.stop("KILL")
            server, _ = await self.start(address.rpartition(":")[2])
        await self.drained("note")
        self.assertEqual(await worker.stop(), 0)
        self.assertEqual(set(self.notes()), wanted)
        self.assertLessEqual(len(self.notes()), len(wanted) + 2 * 8)

    async def test_a_pattern_finds_types_as_they_come(self):
        _, address = await self.start()
        self.use(address)
        worker = await self.work()
        await self.queue.put("say.new", b"0 hello")
        await self.logs(worker, "said hello")
        self.assertEqual(await worker.stop(), 0)

    async def test_a_queue_in_the_same_process_ends_after_the_handlers_that_are_cut(self):
        """Their events go back without an attempt, as to a queue in a process of its own."""
        port = free_port()
        config = self.folder / "evserve.toml"
        config.write_text(
            f'[services.queue]\nport = {port}\nstore = "queue.db"\n'
            f'[services.work]\nqueue = "beanstalk://127.0.0.1:{port}"\nmax-attempts = 1\n'
        )
        both = spawn(self, "--drain", "0.1", "--config", str(config), folder=self.folder)
        self.use(await both.listening())
        await self.queue.put("wait", b"long", ttr=1000)
        await self.logs(both, "begin long")
        self.assertEqual(await both.stop(), 1)
        self.assertIn(b"still draining after 0.1 seconds: aborted 1 handlers", both.err)
        self.assertNotIn(b"could not be given back", both.err)
        (self.folder / "go").touch()
        again = spawn(self, "--config", str(config), folder=self.folder)
        await self.logs(again, "did long")
        await again.stop()


class DemoTests(TestCase):
    async def test_demo_loses_nothing(self):
        child = spawn(self, "work", "--demo")
        await child.until(lambda: b"produced 20  consumed" in child.err)
        self.assertEqual(await child.stop("INT"), 0)
        lines = [line.split() for line in child.err.decode().splitlines()]
        counted = [list(map(int, line[1::2])) for line in lines if line[0] == "produced"]
        for produced, consumed, depth in counted:
            self.assertEqual(produced, consumed + depth)
        self.assertGreater(counted[-1][1], 0)
        self.assertEqual(lines[-1], ["lost", "0"])


class DaemonTests(WorkTestCase):
    """The file of a queue is opened by the process that handles its events."""

    def setUp(self):
        super().setUp()
        self.url = f"sqlite:{self.folder / 'queue.db'}"
        self.pidfile = self.folder / "pid"
        self.addCleanup(self.kill_daemon)

    def kill_daemon(self):
        if self.pidfile.exists():
            os.kill(int(self.pidfile.read_text()), signal.SIGKILL)

    async def until(self, condition):
        """Wait for what no event tells: the content of a file."""
        while not condition():
            await deferLater(self.reactor, 0.01)

    def daemon(self, *words):
        words = [*words, "--pidfile", "pid", "--logfile", "log", "evserve", "work"]
        return run_python(self, TWISTD, *words, "--queue", self.url, folder=self.folder)

    async def test_it_handles_events_until_sigterm_and_closes_the_file(self):
        for number, words in enumerate([(), ("--reactor=epoll",)], 1):
            queue = open_queue(self.url, self.reactor)
            await queue.put("note", b"%d" % number)
            await queue.close()
            daemon = self.daemon(*words)
            self.assertEqual((await daemon.ended, daemon.err), (0, b""))
            notes = self.folder / "notes"
            await self.until(lambda: notes.exists() and len(self.notes()) == number)  # noqa: B023
            os.kill(int(self.pidfile.read_text()), signal.SIGTERM)
            await self.until(lambda: not self.pidfile.exists())
            self.assertFalse((self.folder / "queue.db-wal").exists())
            queue = open_queue(self.url, self.reactor)
            self.assertEqual(await queue.depth("note"), Depth())
            await queue.close()
        self.assertNotIn("Traceback", (self.folder / "log").read_text())

    async def test_a_file_that_is_in_use_is_one_line_before_and_after_the_fork(self):
        queue = open_queue(self.url, self.reactor)
        queue.open()
        self.addCleanup(queue.close)
        line = f"work: store {self.folder / 'queue.db'} is in use by another process"
        daemon = self.daemon()
        self.assertEqual(await daemon.ended, 1)
        self.assertIn(f"evserve.StartError: {line}"[:98], daemon.err.decode())
        await self.until(lambda: not self.pidfile.exists())  # by the daemon, which ends later
        foreground = self.daemon("-n")
        self.assertEqual(await foreground.ended, 1)
        self.assertEqual(foreground.err.decode(), f"evserve: {line}\n")
