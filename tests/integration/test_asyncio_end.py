"""The end of real processes in which asyncio, threads and exit hooks go on."""

import os
import re
import signal
import sys

from twisted.internet.task import deferLater

from tests.integration.commands import CommandCase
from tests.integration.processes import TWISTD, on_default_reactor


PLUGIN = """
from evserve.plugin import ServicePlugin
it = ServicePlugin("left", "left_module", "Leaves something.", listens=False)
"""
# What each function of this module leaves behind goes on until standard input has a byte.
MODULE = """
import asyncio, atexit, logging, multiprocessing, os, signal, sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from twisted.application.service import Service
from twisted.internet import threads
from twisted.python.usage import Options as Base

class Options(Base):
    optParameters = [["what", None, "nothing"]]

class Left(Service):
    def startService(self):
        host.reactor.callWhenRunning(globals()[what])

def makeService(options, given):
    global host, what
    host, what = given, options["what"]
    atexit.register(os.write, 2, b"exit hook\\n")
    return Left()

stdin = os.dup(0)  # multiprocessing gives another 0 to a fork

def hold():
    os.read(stdin, 1)

def keep(coroutine):
    global kept
    kept = host.reactor._asyncioEventloop.create_task(coroutine)

def nothing():
    pass

def to_thread():
    keep(asyncio.to_thread(hold))

def hung():
    keep(asyncio.to_thread(Event().wait))

def reactor_pool():
    threads.deferToThread(hold)

def own_pool():
    ThreadPoolExecutor(thread_name_prefix="mine").submit(hold)

def bare_thread():
    Thread(target=hold, name="bare").start()

def after_the_reactor():
    bare_thread()
    host.reactor.addSystemEventTrigger("after", "shutdown", os.write, 2, b"reactor ended\\n")

def exit_hook():
    atexit.register(hold)

def fork():
    multiprocessing.get_context("fork").Process(target=hold, name="fork").start()

def failed():
    bare_thread()
    host.fail("no luck")

def job():
    bare_thread()
    host.finish()

def tasks():
    async def numbers():
        try:
            while True:
                yield
        finally:
            await asyncio.sleep(0)
            os.write(2, b"generator closed\\n")

    async def main():
        global generator
        generator = numbers()
        await anext(generator)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            os.write(2, b"task cancelled\\n")

    keep(main())

def stubborn():
    async def main():
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

    keep(main())

def system_exit():
    async def main():
        sys.exit(3)

    to_thread()
    host.reactor._asyncioEventloop.create_task(main())

def loop_stop():
    host.reactor._asyncioEventloop.stop()

def signal_handler():
    loop = host.reactor._asyncioEventloop
    loop.add_signal_handler(signal.SIGTERM, os.write, 2, b"taken\\n")
    loop.add_signal_handler(signal.SIGINT, os.write, 2, b"taken\\n")
    loop.remove_signal_handler(signal.SIGINT)

def unobserved():
    async def main():
        logging.getLogger("a.library").warning("a %s", "warning")
        raise ValueError("no luck")

    host.reactor._asyncioEventloop.create_task(main())
"""
AT_WORK = "still draining after 0.2 seconds: aborted tasks and threads of asyncio"


class Case(CommandCase):
    def setUp(self):
        super().setUp()
        on_default_reactor(self)
        self.write("twisted/plugins/left.py", PLUGIN)
        self.write("left_module.py", MODULE)

    def start(self, what, *, reactor=None, drain="120", twistd=("-n",)):
        reactor = [f"--reactor={reactor}"] if reactor else []
        words = ["evserve", "--drain", drain, "left", "--what", what]
        return self.run_command(sys.executable, TWISTD, *reactor, *twistd, *words)

    async def serving(self, *words, **how):
        server = self.start(*words, **how)
        await server.until(lambda: b" serves " in server.err)
        return server

    def lines(self, child):
        """Return what a process has said after it served, without times."""
        text = re.sub(r"^\d{4}-\d\d-\d\d [\d:]{8} ", "", child.err.decode(), flags=re.MULTILINE)
        return re.sub(r"(?s)\A.* serves [^\n]*\n", "", text).splitlines()

    async def stopped(self, child):
        """Send it SIGTERM, and return when it has said that it stops."""
        child.transport.signalProcess("TERM")
        await child.until(lambda: b"SIGTERM: stopping\n" in child.err)


class EndTests(Case):
    async def test_what_runs_in_threads_is_waited_for(self):
        async def check(what):
            server = await self.serving(what)
            await self.stopped(server)
            server.transport.write(b"x")
            self.assertEqual(await server.ended, 0, server.err)
            self.assertEqual(self.lines(server), ["SIGTERM: stopping", "exit hook"])

        rows = ("to_thread", "reactor_pool", "own_pool", "bare_thread", "exit_hook")
        await self.check_rows([(row,) for row in rows], check)

    async def test_the_process_ends_after_the_drain_whatever_hangs(self):
        async def check(what, *lines):
            server = await self.serving(what, drain="0.2")
            self.assertEqual(await server.stop(), 1, server.err)
            self.assertEqual(self.lines(server), ["SIGTERM: stopping", *lines])

        pool = "PoolThread-twisted.internet.reactor-0"
        await self.check_rows(
            [
                ("to_thread", AT_WORK, "exit hook"),
                ("stubborn", AT_WORK, "exit hook"),
                ("reactor_pool", f"aborted {pool}, which do not end"),
                ("own_pool", "aborted mine_0, which do not end"),
                ("bare_thread", "aborted bare, which do not end"),
                ("exit_hook", "aborted exit hooks, which do not end"),
                ("fork", "aborted fork, which do not end"),
            ],
            check,
        )

    async def test_a_second_signal_ends_the_drain(self):
        server = await self.serving("to_thread")
        await self.stopped(server)
        self.assertEqual(await server.stop(), 1, server.err)
        line = "SIGTERM again: aborted tasks and threads of asyncio"
        self.assertEqual(self.lines(server), ["SIGTERM: stopping", line, "exit hook"])

    async def test_a_second_signal_ends_it_even_after_the_reactor(self):
        server = await self.serving("after_the_reactor")
        server.transport.signalProcess("TERM")
        await server.until(lambda: b"reactor ended\n" in server.err)
        self.assertEqual(await server.stop(), 1, server.err)
        self.assertIn("aborted bare, which do not end", self.lines(server))

    async def test_a_failure_ends_it_too(self):
        server = self.start("failed", drain="0.2")
        self.assertEqual(await server.ended, 1)
        self.assertIn("aborted bare, which do not end", server.err.decode())

    async def test_a_job_that_is_done_ends_with_its_threads(self):
        job = self.start("job", drain="0")
        await job.until(lambda: b" serves " in job.err)
        job.transport.write(b"x")
        self.assertEqual(await job.ended, 0, job.err)

    async def test_tasks_are_cancelled_and_generators_closed_without_a_line(self):
        async def check(reactor):
            server = await self.serving("tasks", reactor=reactor)
            self.assertEqual(await server.stop(), 0)
            said = ["SIGTERM: stopping", "task cancelled", "generator closed", "exit hook"]
            self.assertEqual(self.lines(server), said)

        await self.check_rows([("uvloop",), ("asyncio",)], check)

    async def test_a_daemon_logs_why_and_removes_its_pidfile(self):
        from twisted.internet import reactor

        log, pidfile = self.folder / "log", self.folder / "pid"
        words = ("--logfile", str(log), "--pidfile", str(pidfile))
        start = self.start("hung", drain="0.2", twistd=words)
        self.assertEqual(await start.exited, 0, start.err)
        while " serves " not in log.read_text():
            await deferLater(reactor, 0.01)
        os.kill(int(pidfile.read_text()), signal.SIGTERM)
        while pidfile.exists():
            await deferLater(reactor, 0.01)
        self.assertIn(AT_WORK, log.read_text())


class LoopTests(Case):
    """Code that would end an asyncio loop, and what asyncio says."""

    async def test_the_default_reactor_goes_on(self):
        async def check(what):
            server = await self.serving(what, reactor="uvloop")
            server.transport.write(b"x")
            self.assertEqual(await server.stop(), 0)
            self.assertIn("SIGTERM: stopping", self.lines(server))

        await self.check_rows([("system_exit",), ("loop_stop",)], check)

    async def test_twisteds_asyncio_reactor_ends_with_a_line_and_status_1(self):
        async def check(what):
            server = self.start(what, reactor="asyncio")
            self.assertEqual(await server.ended, 1)
            self.assertIn("the reactor has ended without a stop", server.err.decode())

        await self.check_rows([("system_exit",), ("loop_stop",)], check)

    async def test_a_library_that_handles_a_signal_does_not_take_it(self):
        async def check(reactor, name):
            server = await self.serving("signal_handler", reactor=reactor)
            self.assertEqual(await server.stop(name), 0)
            self.assertIn(f"SIG{name}: stopping", self.lines(server))
            self.assertEqual(b"taken" in server.err, name == "TERM")

        reactors = ("uvloop", "asyncio")
        await self.check_rows(
            [(each, name) for each in reactors for name in ("TERM", "INT")], check
        )

    async def test_what_asyncio_and_libraries_log_is_in_the_log(self):
        async def check(reactor):
            server = await self.serving("unobserved", reactor=reactor)
            await server.stop()
            self.assertIn("[a.library] a warning", self.lines(server))
            error = r"(?s)Task exception was never retrieved\nfuture: .*Traceback.*: no luck\n"
            self.assertRegex(server.err.decode(), error)

        await self.check_rows([("uvloop",), ("asyncio",)], check)
