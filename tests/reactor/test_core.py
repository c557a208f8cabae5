"""The reactor itself: turns, timers, children, and exceptions that nothing may end it by."""

import asyncio
import contextlib
import errno
import gc
import os
import signal
import sys
from contextvars import ContextVar, copy_context
from pathlib import Path
from time import monotonic

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Factory, ProcessProtocol, Protocol
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from evserve.reactor import new_reactor
from tests.reactor.connections import Recorder, connect, listen, pair, run, turn


STEP = 60  # seconds; less than a scenario may take


class Child(ProcessProtocol):
    """`ended` fires with the status."""

    def __init__(self):
        self.ended = Deferred()

    def processEnded(self, reason):
        self.ended.callback(reason.value.exitCode)


def spawn(reactor, count=1, **named):
    """Start processes that end with status 3, and return the Deferreds of their ends."""
    children = [Child() for _ in range(count)]
    for each in children:
        reactor.spawnProcess(each, "/bin/sh", ["sh", "-c", "exit 3"], **named)
    return [each.ended for each in children]


def children():
    """Return the children of this process, zombies included."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            if int(path.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(path.parent.name)
    return found


def open_files():
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder's own is closed by now
            yield str(each.readlink())


class TurnTests(SynchronousTestCase):
    def test_iterate_runs_what_is_due_and_returns(self):
        reactor = new_reactor()
        self.addCleanup(reactor.loop.close)
        reactor.startRunning(False)
        called = []
        reactor.callLater(0, called.append, 1)
        reactor.iterate()
        self.assertEqual(called, [1])
        reactor.iterate(0)
        reactor.iterate(delay=0.001)

    def test_iterate_without_a_delay_does_not_wait(self):
        reactor = new_reactor()
        self.addCleanup(reactor.loop.close)
        reactor.startRunning(False)
        delays = []
        self.patch(reactor, "loop", LoopWatch(reactor.loop, delays))
        reactor.iterate()
        self.assertEqual(delays, [0])

    def test_a_stop_of_the_loop_before_it_runs_does_not_end_the_reactor(self):
        reactor = new_reactor()
        self.addCleanup(reactor.loop.close)
        called = []
        reactor.callLater(0.01, called.append, 1)
        reactor.callLater(0.01, reactor.crash)
        reactor.loop.stop()
        reactor.run(installSignalHandlers=False)
        self.assertEqual(called, [1])

    def test_a_loop_that_cannot_run_is_an_error(self):
        async def inside():
            new_reactor().run(installSignalHandlers=False)

        self.assertRaises(RuntimeError, asyncio.run, inside())

    def test_a_connection_that_is_paused_is_no_selectable(self):
        async def scenario(reactor):
            client, _, _ = await pair(reactor)
            client.transport.pauseProducing()
            self.assertNotIn(client.transport, reactor.removeAll())

        run(self, scenario)


class LoopWatch:
    """A loop that notes the delays that it is asked for."""

    def __init__(self, loop, delays):
        self._loop, self._delays = loop, delays

    def call_later(self, delay, *words, **named):
        self._delays.append(delay)
        return self._loop.call_later(delay, *words, **named)

    def __getattr__(self, name):
        return getattr(self._loop, name)


class TimerTests(SynchronousTestCase):
    def test_a_step_of_the_wall_clock_delays_no_new_call(self):
        for step in (STEP, -STEP):

            async def scenario(reactor, step=step):
                waiting = reactor.callLater(STEP / 2, int)
                await turn(reactor, 0.001)
                seconds = reactor.seconds
                reactor.seconds = lambda: seconds() + step
                await turn(reactor, 0.001)
                from_thread = Deferred()
                reactor.callInThread(reactor.callFromThread, from_thread.callback, None)
                await from_thread
                if waiting.active():
                    waiting.cancel()

            run(self, scenario)

    def test_a_timer_is_not_early_and_does_not_spin_until_it_is_due(self):
        async def scenario(reactor):
            turns = []
            run_until_current = reactor.runUntilCurrent
            reactor.runUntilCurrent = lambda: (turns.append(1), run_until_current())
            for _ in range(20):
                start = monotonic()
                await turn(reactor, 0.0024)
                self.assertGreaterEqual(monotonic() - start, 0.0023)
            self.assertLessEqual(len(turns), 45)

        run(self, scenario)

    def test_the_longest_delay_is_no_error(self):
        async def scenario(reactor):
            reactor.callLater(float("inf"), int).cancel()
            reactor.callLater(1e300, int).cancel()

        run(self, scenario)

    def test_a_call_does_not_run_in_the_context_of_another(self):
        variable = ContextVar("variable", default="none")

        async def scenario(reactor):
            await turn(reactor)
            seen = Deferred()

            def start():
                variable.set("another's")
                reactor.callLater(0, lambda: seen.callback(variable.get()))

            copy_context().run(start)
            self.assertEqual(await seen, "none")

        run(self, scenario)


class ChildTests(SynchronousTestCase):
    def setUp(self):
        before = {each: signal.getsignal(each) for each in (signal.SIGCHLD, signal.SIGTERM)}
        for number, handler in before.items():
            self.addCleanup(signal.signal, number, handler)

    def need_pidfd(self):
        if not hasattr(os, "pidfd_open"):
            raise SkipTest("the system has no pidfds")

    async def end(self, children):
        for each in children:
            self.assertEqual(await each, 3)

    def test_children_are_noticed_after_an_asyncio_subprocess(self):
        self.need_pidfd()

        async def child():
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
            return await process.wait()

        async def scenario(reactor):
            await self.end(spawn(reactor, 2))
            task = reactor.loop.create_task(child())
            self.assertEqual(await Deferred.fromFuture(task), 0)
            await self.end(spawn(reactor, 10))
            await self.end(spawn(reactor, 10, childFDs={0: 0, 1: 1, 2: 2}))
            await self.end(spawn(reactor, 2, usePTY=True))

        run(self, scenario, signals=True)

    def test_a_programs_own_handler_of_SIGCHLD_stays_and_is_called(self):
        self.need_pidfd()
        signals = []
        signal.signal(signal.SIGCHLD, lambda number, _: signals.append(number))

        async def scenario(reactor):
            await self.end(spawn(reactor, 3, childFDs={}))

        run(self, scenario, signals=True)
        self.assertIn(signal.SIGCHLD, signals)

    def test_children_are_noticed_by_a_process_that_was_started_with_SIGCHLD_ignored(self):
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

        async def scenario(reactor):
            await self.end(spawn(reactor, 2, childFDs={}))

        run(self, scenario, signals=True)

    def test_without_pidfds_children_are_noticed_by_SIGCHLD(self):
        def pidfd_open(_pid):
            raise OSError(errno.ENOSYS, "no pidfds")

        self.patch(os, "pidfd_open", pidfd_open)

        async def scenario(reactor):
            await self.end(spawn(reactor, 10, childFDs={}))
            await self.end(spawn(reactor, 2))

        run(self, scenario, signals=True)

    def test_a_child_is_noticed_although_no_descriptor_was_free_when_it_started(self):
        self.need_pidfd()

        async def scenario(reactor):
            failures = [OSError(errno.EMFILE, "too many")] * 2
            pidfd_open = os.pidfd_open

            def failing(pid):
                if failures:
                    raise failures.pop()
                return pidfd_open(pid)

            self.patch(os, "pidfd_open", failing)
            await self.end(spawn(reactor, 2, childFDs={}))

        run(self, scenario)

    def test_no_descriptor_and_no_zombie_stays(self):
        self.need_pidfd()

        async def scenario(reactor):
            before = children()
            await self.end(spawn(reactor, 5, childFDs={}))
            await self.end(spawn(reactor, 5))
            while any("pidfd" in name for name in open_files()):
                await turn(reactor, 0.01)  # that of a child whose pipes told first
            self.assertLessEqual(children(), before)

        run(self, scenario)


class Exits(Recorder):
    """Raises `problem` in the methods named."""

    def __init__(self, problem, *names):
        super().__init__()
        self.problem, self.names = problem, names

    def connectionMade(self):
        super().connectionMade()
        self.check("connectionMade")

    def dataReceived(self, data):
        super().dataReceived(data)
        self.check("dataReceived")

    def connectionLost(self, reason):
        super().connectionLost(reason)
        self.check("connectionLost")

    def check(self, name):
        if name in self.names:
            raise self.problem


class LoopExceptionTests(SynchronousTestCase):
    def test_an_error_of_a_task_that_is_not_looked_at_names_the_task(self):
        async def unobserved():
            raise ValueError

        async def scenario(reactor):
            reactor.loop.create_task(unobserved())
            await turn(reactor)
            await turn(reactor)
            gc.collect()

        events = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        run(self, scenario)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        (text,) = [event["text"] for event in events if "text" in event]
        self.assertRegex(text, r"^Task exception was never retrieved\nfuture: .*unobserved")


class ExitTests(SynchronousTestCase):
    """SystemExit and KeyboardInterrupt end no reactor of Twisted's."""

    problems = SystemExit, KeyboardInterrupt

    def each(self, scenario, errors=1):
        for problem in self.problems:
            run(self, lambda reactor, problem=problem: scenario(reactor, problem))
            self.assertEqual(len(self.flushLoggedErrors(problem)), errors)

    def test_in_a_protocol(self):
        for name in ("connectionMade", "dataReceived", "connectionLost"):

            async def scenario(reactor, problem, name=name):
                client, server, _ = await pair(reactor, Exits(problem, name))
                client.transport.write(b"x")
                if name == "connectionLost":
                    client.transport.loseConnection()
                await server.lost
                await client.lost
                await turn(reactor)

            self.each(scenario)

    def test_in_a_clients_protocol(self):
        for name in ("connectionMade", "connectionLost"):

            async def scenario(reactor, problem, name=name):
                port = listen(reactor, Recorder)
                client = Exits(problem, name)
                await connect(reactor, port, client)
                client.transport.loseConnection()
                await client.lost
                await turn(reactor)

            self.each(scenario)

    def test_in_buildProtocol(self):
        async def scenario(reactor, problem):
            class Exiting(Factory):
                def buildProtocol(self, _address):
                    raise problem

            port = reactor.listenTCP(0, Exiting(), interface="127.0.0.1")
            client = Recorder()
            await connect(reactor, port, client)
            await client.lost

        self.each(scenario)

    def test_in_what_a_client_factory_is_told(self):
        for name in ("clientConnectionFailed", "clientConnectionLost"):

            async def scenario(reactor, problem, name=name):
                told = Deferred()

                def tell(*_):
                    if not told.called:
                        told.callback(None)
                    raise problem

                port = listen(reactor, Protocol)
                number = port.getHost().port
                if name == "clientConnectionFailed":
                    await port.stopListening()
                factory = ClientFactory.forProtocol(Leaving)
                factory.noisy = False
                setattr(factory, name, tell)
                reactor.connectTCP("127.0.0.1", number, factory)
                await told
                await turn(reactor)

            for problem in self.problems:
                run(self, lambda reactor, problem=problem: scenario(reactor, problem))
                self.assertTrue(self.flushLoggedErrors(problem))

    def test_in_timers_and_in_callbacks_of_the_loop(self):
        def leave(problem):
            raise problem

        async def scenario(reactor, problem):
            reactor.callLater(0, leave, problem)
            reactor.callFromThread(leave, problem)
            reactor.loop.call_soon(leave, problem)
            await turn(reactor, 0.01)

        self.each(scenario, errors=3)


class Leaving(Protocol):
    def connectionMade(self):
        self.transport.loseConnection()
