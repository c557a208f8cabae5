"""The service tree: start, failure, drain, and the host that a service sees."""

import asyncio
import errno
import io
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

from prometheus_client import Gauge
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogPublisher
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from evserve.host import process
from evserve.host.application import (
    EXIT_TIME,
    GRACE,
    HANG_UP_DELAY,
    RootService,
    ServiceHost,
    StartError,
    _end_asyncio,
    add_services,
)
from evserve.host.certificates import Certificates
from evserve.host.config import ServiceConfig
from evserve.host.options import Limits, with_listening_options
from evserve.host.signals import SignalHandlers
from evserve.host.systemd import Notifier
from evserve.interfaces import IStopsLast, LoadedService


FOREGROUND = {"nodaemon": 1}


class Reactor(MemoryReactorClock):
    """Runs what was waiting for it to run when told to; counts how often it was stopped."""

    def __init__(self):
        super().__init__()
        self.stops = 0

    def stop(self):
        self.stops += 1

    def callFromThread(self, function, *args):
        self.callWhenRunning(function, *args)

    def run(self):
        self.running = True
        while self.whenRunningHooks:
            function, args, kwargs = self.whenRunningHooks.pop(0)
            function(*args, **kwargs)


class Recorder(Service):
    """Remembers what happened in the list that all services share."""

    def __init__(self, name, happened, error=None, stopped=None):
        self.setName(name)
        self.happened, self.error, self.stopped = happened, error, stopped

    def privilegedStartService(self):
        self.happened.append(f"privileged {self.name}")

    def startService(self):
        self.happened.append(f"start {self.name}")
        if self.error is not None:
            raise self.error

    def stopService(self):
        self.happened.append(f"stop {self.name}")
        if isinstance(self.stopped, Exception):
            raise self.stopped
        return self.stopped


class Full(io.StringIO):
    """A file on a disk without room."""

    def flush(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Case(SynchronousTestCase):
    twistd = FOREGROUND

    def setUp(self):
        self.reactor = Reactor()
        self.terminal = io.StringIO()
        self.patch(sys, "stderr", self.terminal)
        self.statuses = []
        self.patch(process, "exit_with", self.statuses.append)
        self.exit_hooks, self.limits = [], []
        self.patch(process, "before_threads_end", self.exit_hooks.append)
        self.patch(process, "limit_exit", lambda seconds, _: self.limits.append(seconds))
        self.patch(process, "end", lambda status: self.happened.append(f"end {status}"))
        self.patch(process, "raise_file_limit", lambda: 1024)
        self.patch(logging, "lastResort", None)
        self.patch(SignalHandlers, "install", lambda _: None)  # the test runner's stay
        self.root = RootService(self.reactor, self.twistd, "text", 10.0)
        self.happened = []
        self.logged = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def add(self, name, **how):
        service = Recorder(name, self.happened, **how)
        service.setServiceParent(self.root)
        return service

    def start(self):
        self.root.privilegedStartService()
        self.root.startService()
        self.reactor.run()

    def formats(self):
        return [event["log_format"] for event in self.logged if event.get("log_format")]

    def lines(self):
        return [formatEvent(event) for event in self.logged if event["log_level"] > LogLevel.info]


class StartTests(Case):
    def test_all_get_their_privileges_before_any_starts(self):
        self.add("a")
        self.add("b")
        self.start()
        self.assertEqual(self.happened, ["privileged a", "privileged b", "start a", "start b"])
        self.assertEqual((self.reactor.stops, self.statuses), (0, []))

    def test_it_logs_what_it_serves(self):
        self.add("a")
        self.add("b")
        self.start()
        (event,) = [event for event in self.logged if "names" in event]
        self.assertEqual((event["names"], event["reactor"]), ("a, b", "Reactor"))

    def test_a_failure_stops_what_has_started_and_starts_nothing_else(self):
        self.add("a")
        self.add("b", error=OSError(28, "No space left", "x.db"))
        self.add("c")
        self.start()
        self.assertEqual(self.terminal.getvalue(), "evserve: b: No space left: x.db\n")
        self.assertEqual((self.reactor.stops, self.statuses), (1, [1]))
        self.assertNotIn("start c", self.happened)
        self.assertFalse(any("serves" in each for each in self.formats()))
        del self.happened[:]
        self.root.stopService()
        self.assertEqual(self.happened, ["stop c", "stop b", "stop a"])

    def interrupt(self, number):
        self.add("a")
        self.add("b").startService = lambda: self.root._signals._handle(number)
        self.add("c")
        self.start()
        self.assertEqual((self.terminal.getvalue(), self.formats()), ("", []))
        self.assertEqual(self.reactor.stops, 1)
        self.assertNotIn("start c", self.happened)

    def test_a_server_whose_start_is_interrupted_has_ended_as_it_was_told_to(self):
        self.root.listeners.append(None)
        self.interrupt(signal.SIGTERM)
        self.assertEqual(self.statuses, [])

    def test_a_job_whose_start_is_interrupted_is_not_done(self):
        self.interrupt(signal.SIGINT)
        self.assertEqual(self.statuses, [130])
        del self.happened[:]
        self.root.stopService()
        self.assertEqual(self.happened, ["stop c", "stop b", "stop a"])

    def test_what_did_not_start_is_not_stopped(self):
        self.add("a", error=ValueError("no"))
        self.add("b")
        self.root.startService()
        del self.happened[:]
        self.root.stopService()
        self.assertEqual(self.happened, ["stop a"])

    def test_a_defect_is_logged_with_its_traceback(self):
        self.add("a", error=ZeroDivisionError("x"))
        self.start()
        self.assertEqual(self.terminal.getvalue(), "evserve: a: ZeroDivisionError: x\n")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class FailTests(Case):
    def test_only_the_first_failure_is_shown(self):
        self.root.fail("one")
        self.root.fail("two")
        self.assertEqual(self.terminal.getvalue(), "evserve: one\n")
        self.assertEqual(self.statuses, [1])

    def test_a_reason_of_several_lines_becomes_one(self):
        self.root.fail("one\n  and\ttwo\n")
        self.assertEqual(self.terminal.getvalue(), "evserve: one and two\n")

    def test_before_the_reactor_runs_it_ends_as_soon_as_it_does(self):
        self.root.fail("too early")
        self.assertEqual(self.reactor.stops, 0)
        self.start()
        self.assertEqual(self.reactor.stops, 1)

    def test_a_failure_that_is_not_shown_on_the_terminal_is_logged(self):
        for twistd in ({}, {"nodaemon": 1, "logfile": "x"}, {"nodaemon": 1, "syslog": 1}):
            del self.logged[:]
            RootService(self.reactor, twistd).fail("why")
            self.assertEqual([event.get("reason") for event in self.logged], ["why"])

    def test_a_terminal_that_cannot_be_written_does_not_keep_it_from_ending(self):
        closed = io.StringIO()
        closed.close()
        for terminal in (Full(), closed, None):
            self.patch(sys, "stderr", terminal)
            reactor = Reactor()
            RootService(reactor, FOREGROUND).fail("why")
            reactor.run()
            self.assertEqual((reactor.stops, self.statuses.pop()), (1, 1))

    def test_in_the_foreground_it_is_shown_once(self):
        self.root.fail("why")
        self.assertEqual(self.logged, [])


class FinishTests(Case):
    def test_the_reactor_stops_once_however_often_it_is_asked(self):
        self.root.finish(0)
        self.root.finish(3)
        self.root.finish(0)
        self.reactor.run()
        self.assertEqual((self.reactor.stops, self.statuses), (1, [3]))


class StopTests(Case):
    def test_the_last_to_start_is_the_first_to_stop(self):
        self.add("a")
        self.add("b")
        self.start()
        del self.happened[:]
        self.successResultOf(self.root.stopService())
        self.assertEqual(self.happened, ["stop b", "stop a"])
        self.assertEqual((self.statuses, self.reactor.getDelayedCalls()), ([], []))

    def test_it_waits_for_work_in_flight(self):
        work = Deferred()
        self.add("a", stopped=work)
        self.start()
        stopped = self.root.stopService()
        self.assertNoResult(stopped)
        work.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.statuses, [])

    def stop_with_queue(self):
        """Stop a service that needs another; return what it waits for, and what the root does."""
        work = Deferred()
        self.add("work", stopped=work)
        alsoProvides(self.add("queue"), IStopsLast)
        self.start()
        del self.happened[:]
        return work, self.root.stopService()

    def test_what_other_services_need_stops_when_they_have_stopped(self):
        work, stopped = self.stop_with_queue()
        self.assertEqual(self.happened, ["stop work"])
        work.callback(None)
        self.assertEqual(self.happened, ["stop work", "stop queue"])
        self.successResultOf(stopped)

    def test_what_other_services_need_stops_when_the_time_is_over(self):
        work, stopped = self.stop_with_queue()
        self.reactor.advance(10)
        self.assertEqual(self.happened, ["stop work"])
        self.reactor.advance(GRACE / 2)
        self.assertEqual(self.happened, ["stop work", "stop queue"])
        work.callback(None)
        self.assertEqual(self.happened, ["stop work", "stop queue"])
        self.successResultOf(stopped)
        self.reactor.advance(GRACE)

    def test_connections_that_other_services_need_are_aborted_after_them(self):
        connection = self.listen("queue")
        work, _ = self.stop_with_queue()
        self.reactor.advance(10)
        self.assertFalse(connection.transport.disconnected)
        self.reactor.advance(GRACE / 2)
        self.assertTrue(connection.transport.disconnected)
        work.callback(None)
        self.reactor.advance(GRACE / 2)

    def test_a_service_that_does_not_stop_is_status_1_and_delays_no_other(self):
        self.add("a")
        self.add("b", stopped=RuntimeError("no"))
        self.start()
        self.successResultOf(self.root.stopService())
        self.assertIn("stop a", self.happened)
        self.assertEqual(self.statuses, [1])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_after_the_drain_connections_are_aborted_and_the_status_is_1(self):
        connection = self.listen()
        self.add("a", stopped=Deferred())
        self.start()
        stopped = self.root.stopService()
        self.reactor.advance(9.9)
        self.assertFalse(connection.transport.disconnected)
        self.reactor.advance(0.1)
        self.assertTrue(connection.transport.disconnected)
        self.assertEqual(self.statuses, [1])
        self.assertNoResult(stopped)
        self.reactor.advance(GRACE)
        self.successResultOf(stopped)

    def test_without_a_drain_there_is_still_time_to_close_what_is_idle(self):
        self.root = RootService(self.reactor, self.twistd, "text", 0.0)
        work = Deferred()
        self.add("a", stopped=work)
        self.start()
        stopped = self.root.stopService()
        self.reactor.advance(0)
        work.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.statuses, [])

    def test_services_that_have_nothing_to_abort_are_named(self):
        self.add("a", stopped=Deferred())
        self.add("b")
        self.add("c", stopped=Deferred())
        self.start()
        self.root.stopService()
        self.reactor.advance(10)
        self.assertEqual(self.lines(), ["still draining after 10 seconds: abandoned a, c"])

    def test_what_is_in_flight_is_aborted_once(self):
        self.add("a", stopped=Deferred())
        self.start()
        self.root._on_signal("SIGTERM")
        stopped = self.root.stopService()
        for _ in range(2):
            self.reactor.advance(5 - GRACE / 4)
            self.root._on_signal("SIGTERM")
        self.reactor.advance(GRACE)
        self.assertEqual(self.lines(), ["SIGTERM again: abandoned a"])
        self.successResultOf(stopped)

    def test_a_service_may_stop_after_its_connections_were_aborted(self):
        work = Deferred()
        self.add("a", stopped=work)
        self.start()
        stopped = self.root.stopService()
        self.reactor.advance(10)
        work.callback(None)
        self.successResultOf(stopped)
        self.reactor.advance(GRACE)

    def listen(self, name="echo"):
        options = with_listening_options(usage.Options)()
        options.parseOptions(["--port", "7"])
        host = ServiceHost(name, self.root)
        host.listen(options, Factory.forProtocol(Protocol))
        connection = self.root.listeners[0].limiter.buildProtocol(None)
        connection.makeConnection(StringTransport())
        return connection


class ExitTests(Case):
    """What hangs after the services have stopped: threads, exit hooks, asyncio."""

    def setUp(self):
        super().setUp()
        self.service = self.add("a")
        self.start()
        del self.happened[:]
        (self.exit_hook,) = self.exit_hooks

    def test_it_has_the_rest_of_the_drain(self):
        self.service.stopped = work = Deferred()
        self.root.stopService()
        self.reactor.advance(4)
        work.callback(None)
        self.exit_hook()
        self.assertEqual((self.limits, self.happened), ([6], ["stop a"]))

    def test_it_has_a_moment_after_a_drain_that_was_long(self):
        self.service.stopped = work = Deferred()
        self.root.stopService()
        self.reactor.advance(9.5)
        work.callback(None)
        self.assertEqual(self.limits, [EXIT_TIME])

    def test_a_job_that_has_ended_has_no_limit(self):
        self.root.finish(0)
        self.root.stopService()
        self.assertEqual(self.limits, [None])

    def test_a_job_that_was_told_to_stop_has_the_rest_of_the_drain(self):
        self.root._on_signal("SIGTERM")
        self.root.finish(0)
        self.root.stopService()
        self.assertEqual(self.limits, [10])

    def test_after_a_drain_in_vain_no_thread_is_waited_for(self):
        self.reactor.threadpoolShutdownID = "id"
        self.reactor.removeSystemEventTrigger = self.happened.append
        self.service.stopped = Deferred()
        self.root.stopService()
        self.reactor.advance(10)
        self.reactor.advance(GRACE)
        self.exit_hook()
        self.assertEqual(self.happened, ["stop a", "id", "end 1"])

    def test_what_asyncio_runs_is_in_flight(self):
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        self.reactor._asyncioEventloop = loop
        stopped = self.root.stopService()
        self.reactor.advance(10)
        self.assertEqual(
            self.lines(), ["still draining after 10 seconds: aborted tasks and threads of asyncio"]
        )
        while not stopped.called:
            loop.call_soon(loop.stop)
            loop.run_forever()

    def test_a_reactor_that_ends_without_a_stop_is_status_1(self):
        self.exit_hook()
        self.assertIn("the reactor has ended without a stop", *self.lines())
        self.assertEqual(self.happened, ["end 1"])

    def test_the_last_words_are_logged_when_twistd_has_ended_its_log(self):
        self.root._observer = observer = self.happened.append
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.root._give_up(["one", "two"])
        self.assertEqual(formatEvent(self.happened[-1]), "aborted one, two, which do not end")


class EndAsyncioTests(SynchronousTestCase):
    def test_tasks_are_cancelled_and_generators_closed_before_threads_are_waited_for(self):
        happened = []

        async def each():
            try:
                while True:
                    yield
            finally:
                happened.append("closed")

        async def forever():
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await asyncio.sleep(0)
                happened.append("cancelled")

        async def main():
            loop = asyncio.get_running_loop()
            generator = each()
            await anext(generator)
            release = threading.Event()
            loop.run_in_executor(None, lambda: (release.wait(), happened.append("thread")))
            task = loop.create_task(forever())
            await asyncio.sleep(0)
            task.add_done_callback(lambda _: release.set())
            await _end_asyncio(loop)

        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        loop.run_until_complete(main())
        self.assertEqual(sorted(happened), ["cancelled", "closed", "thread"])


class LostTerminal:
    """A terminal that goes when the shell has ended, a moment after its SIGHUP."""

    def __init__(self, clock):
        self.clock, self.gone_at = clock, None

    def has_gone(self):
        return self.gone_at is not None and self.clock.seconds() >= self.gone_at


class HangUpTests(Case):
    def setUp(self):
        super().setUp()
        self.root._tty = self.terminal = LostTerminal(self.reactor)
        self.add("a")
        self.start()
        del self.logged[:]

    def hang_up(self):
        self.root._on_signal("SIGHUP")
        return [formatEvent(event) for event in self.logged]

    def test_it_reloads_while_the_terminal_is_there(self):
        line = "SIGHUP: no log file to reopen; certificates read again"
        self.assertEqual(self.hang_up(), [line])
        self.reactor.advance(60)
        self.assertEqual(self.reactor.stops, 0)

    def test_it_stops_when_the_terminal_has_gone(self):
        self.terminal.gone_at = 0
        for _ in range(2):  # from the terminal, and from its shell
            self.hang_up()
        self.assertEqual((self.reactor.stops, self.statuses), (1, []))
        self.root.stopService()
        lines = [formatEvent(event) for event in self.logged]
        self.assertEqual(lines, ["SIGHUP, because the terminal has gone: stopping"])

    def test_a_shell_sends_the_signal_before_its_terminal_goes(self):
        self.terminal.gone_at = 0.1
        self.hang_up()
        self.assertEqual(self.reactor.stops, 0)
        self.reactor.advance(HANG_UP_DELAY)
        self.assertEqual(self.reactor.stops, 1)

    def test_without_a_terminal_it_reloads(self):
        self.root._tty = None
        self.hang_up()
        self.assertEqual((self.reactor.stops, self.reactor.getDelayedCalls()), (0, []))

    def test_a_certificate_that_cannot_be_read_is_in_the_line(self):
        self.patch(Certificates, "read_again", lambda _: ["ssl:1: No such file: x"])
        line = "SIGHUP: no log file to reopen; ssl:1: No such file: x (the old certificate stays)"
        self.assertEqual(self.hang_up(), [line])

    def test_systemd_is_told_of_the_reload(self):
        told = []
        self.patch(self.root, "notifier", Notifier(self.reactor))
        self.patch(Notifier, "_send", lambda _, *states: told.append(states[0]))
        self.hang_up()
        self.assertEqual(told, ["RELOADING=1", "READY=1"])


class ReopenTests(Case):
    def setUp(self):
        super().setUp()
        self.path = Path(self.mktemp())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.root = RootService(self.reactor, {"nodaemon": 1, "logfile": str(self.path)})
        parent = MultiService()
        parent.setComponent = lambda *_: None
        self.root.setServiceParent(parent)

    def signalled(self):
        self.root._on_signal("SIGUSR1")
        return formatEvent(self.logged[-1])

    def test_a_deleted_log_file_comes_back(self):
        self.path.unlink()
        self.assertEqual(self.signalled(), "SIGUSR1: log file reopened")
        self.assertTrue(self.path.exists())

    def test_a_file_that_cannot_be_opened_leaves_the_old_one(self):
        self.path.unlink()
        self.path.mkdir()
        line = f"SIGUSR1: the old log file stays (Is a directory: {self.path.absolute()})"
        self.assertEqual(self.signalled(), line)

    def test_it_never_stops_the_reactor(self):
        self.signalled()
        self.assertEqual((self.reactor.stops, self.statuses), (0, []))


class SignalTests(Case):
    def test_the_first_stops_the_reactor_and_the_second_aborts_connections(self):
        self.add("a", stopped=Deferred())
        self.start()
        signalled = self.root._on_signal
        signalled("SIGTERM")
        signalled("SIGTERM")
        self.assertEqual((self.reactor.stops, self.statuses), (1, []))
        self.assertEqual([event for event in self.logged if "why" in event], [])
        self.root.stopService()
        self.assertEqual(self.logged[-1]["why"], "SIGTERM")  # from now on a signal is the second
        signalled("SIGINT")
        self.assertEqual(self.statuses, [1])
        self.assertIn("SIGINT again", [event.get("why") for event in self.logged])


class DaemonTests(Case):
    twistd = {"nodaemon": 0}

    def test_a_failure_of_the_daemon_reaches_twistd_which_tells_the_terminal(self):
        service = self.add("a")
        service.privilegedStartService = lambda: self.root.fail("port in use")
        error = self.assertRaises(StartError, self.root.privilegedStartService)
        self.assertEqual(str(error), "port in use")

    def test_so_does_one_of_a_service_that_starts_after_the_fork(self):
        service = self.add("a")
        service.startService = lambda: self.root.fail("store in use")
        self.root.privilegedStartService()
        error = self.assertRaises(StartError, self.root.startService)
        self.assertEqual(str(error), "store in use")


class TwistTests(Case):
    twistd = {}  # `twist` is never a daemon, and has no option for it

    def test_a_failure_has_been_told(self):
        service = self.add("a")
        service.startService = lambda: self.root.fail("store in use")
        self.root.startService()
        self.assertEqual(self.statuses, [1])


class LogTests(Case):
    def test_it_sets_its_observer_in_the_foreground(self):
        parent = MultiService()
        parent.setComponent = lambda interface, _: self.happened.append(interface)
        self.root.setServiceParent(parent)
        self.assertEqual(self.happened, [ILogObserver])

    def test_it_leaves_the_observer_to_twistd_otherwise(self):
        parent = MultiService()
        parent.setComponent = self.fail
        for twistd in ({}, {"nodaemon": 1, "syslog": 1}):
            RootService(self.reactor, twistd).setServiceParent(parent)


class HostCase(SynchronousTestCase):
    def setUp(self):
        self.patch(process, "raise_file_limit", lambda: 1024)
        self.patch(process, "exit_with", lambda _: None)
        self.patch(sys, "stderr", io.StringIO())
        self.reactor = MemoryReactorClock()
        self.root = RootService(self.reactor, {"nodaemon": 1})


class HostTests(HostCase):
    def setUp(self):
        super().setUp()
        self.host = ServiceHost("echo", self.root)

    def listen(self, *words):
        options = with_listening_options(usage.Options)()
        options.parseOptions(words)
        return self.host.listen(options, Factory.forProtocol(Protocol))

    def test_it_listens_where_the_options_say_with_their_limits(self):
        service = self.listen("--port", "7", "--interface", "::1", "--max-connections", "3")
        service.startService()
        port, limiter, _, interface = self.reactor.tcpServers[0]
        self.assertEqual((port, interface), (7, "::1"))
        self.assertEqual((limiter.name, limiter.limits), ("echo", Limits(3, None, None)))
        self.assertEqual(self.root.listeners, [service])

    def test_a_bad_endpoint_is_refused_before_anything_listens(self):
        self.assertRaises(usage.UsageError, self.listen, "--listen", "smoke:1")
        self.assertEqual(self.root.listeners, [])

    def test_connection_metrics_are_those_of_the_service(self):
        self.listen("--port", "7")
        self.assertEqual(self.host.metrics.get_sample_value("evserve_connections"), 0)

    def test_each_service_has_a_registry_of_its_own(self):
        Gauge("depth", "How deep.", registry=self.host.metrics)
        Gauge("depth", "How deep.", registry=ServiceHost("other", self.root).metrics)

    def test_the_reactor_is_that_of_the_root(self):
        self.assertIs(self.host.reactor, self.reactor)

    def test_a_failure_names_the_service(self):
        self.host.fail("no luck")
        self.assertEqual(self.root.failure, "echo: no luck")

    def test_finishing_ends_the_process(self):
        statuses = []
        self.patch(self.root, "finish", statuses.append)
        self.host.finish(3)
        self.host.finish()
        self.assertEqual(statuses, [3, 0])


class TreeTests(HostCase):
    def build(self, make, name="x"):
        plugin = SimpleNamespace(name=name)
        config = ServiceConfig(name, plugin, LoadedService(usage.Options, make), usage.Options())
        add_services([config], self.root)

    def refusal(self, make):
        return self.assertRaises(SystemExit, self.build, make).code

    def test_services_are_children_under_their_names(self):
        self.build(lambda *_: Service())
        self.assertEqual([child.name for child in self.root], ["x"])

    def test_a_mistake_ends_the_process_with_one_line(self):
        def make(options, host):
            raise ValueError("give me more")

        self.assertEqual(self.refusal(make), "evserve: x: give me more")
        self.assertEqual(sys.stderr.getvalue(), "")

    def test_a_defect_shows_its_place_as_well(self):
        def make(options, host):
            raise ZeroDivisionError("oh")

        self.assertEqual(self.refusal(make), "evserve: x: ZeroDivisionError: oh")
        self.assertIn("Traceback", sys.stderr.getvalue())

    def test_what_is_returned_must_be_a_service(self):
        reason = "evserve: x: makeService returned None, not a service"
        self.assertEqual(self.refusal(lambda *_: None), reason)
