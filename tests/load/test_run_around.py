"""Around a run: stopping it, watching it, and calling it from Python."""

from twisted.internet.defer import CancelledError, Deferred

from evserve.load import marks
from evserve.load.endpoints import EndpointError
from evserve.load.files import TooManyFilesError
from evserve.load.plan import Plan
from evserve.load.run import run_load
from evserve.load.usage import Usage
from tests.load.memory_server import RunTestCase, begin


class StopTests(RunTestCase):
    def test_what_there_is_is_reported(self):
        run, report = begin(self.reactor, seconds=60)
        self.pass_time(0.55)
        run.stop()
        found = self.successResultOf(report)
        self.assertEqual((found.interrupted, found.failure), (True, None))
        self.assertEqual(found.answered, 10)
        run.stop()

    def test_connections_being_opened_are_given_up(self):
        self.reactor.hangs = True
        run, report = begin(self.reactor, seconds=60, connections=300)
        self.assertNoResult(report)
        run.stop()
        found = self.successResultOf(report)
        self.assertEqual((found.connections.opened, found.interrupted), (0, True))
        self.assertEqual(found.connections.failed, {})

    def test_a_bad_endpoint_is_one_line(self):
        for endpoint, problem in (
            ("nonsense:1", "unknown kind of endpoint (such as tcp:HOST:PORT, tls:, unix:PATH)"),
            ("", "unknown kind of endpoint (such as tcp:HOST:PORT, tls:, unix:PATH)"),
            ("tcp", "it lacks 'host' and 'port'"),
            ("tcp:127.0.0.1", "it lacks 'port'"),
            ("tcp:127.0.0.1:x", "'x' is not a number"),
            ("tcp:127.0.0.1:1:backlog=1", "it has no argument 'backlog'"),
            ("tcp:127.0.0.1:1\\", "it ends with a backslash, which quotes nothing"),
            ("ssl:h:1:caCertsDir=/none", "No such file or directory: /none"),
            ("tcp:1:2:3:4:5:6", "it has too many arguments"),
        ):
            _, report = begin(self.reactor, connect=endpoint)
            found = self.failureResultOf(report, EndpointError).getErrorMessage()
            self.assertEqual(found, f"--connect {endpoint!r}: {problem}")

    def test_too_many_connections_are_refused_before_the_first(self):
        _, report = begin(self.reactor, connections=10**11)
        self.failureResultOf(report, TooManyFilesError)
        self.assertEqual(self.reactor.lines, [])


class WatchingTests(RunTestCase):
    def test_progress_is_told_every_second(self):
        told = []
        _, report = begin(self.reactor, told.append, seconds=2.5)
        self.pass_time(4)
        self.successResultOf(report)
        self.assertEqual(len(told), 2)
        self.assertRegex(told[1], "^2 s: 2 connections, .* p99 ")

    def test_progress_of_connecting_too(self):
        self.reactor.hangs = True
        told = []
        run, _ = begin(self.reactor, told.append)
        self.pass_time(1.1)
        self.assertRegex(told[0], "^0 s: 0 connections, 0 answers")
        run.stop()

    def test_the_server_is_measured_before_and_after(self):
        usages = [Usage(1.0, 1000, 1), Usage(2.0, 1000, 1), Usage(3.0, 5000, 1)]
        self.patch(marks, "usage_of", lambda _: usages.pop(0))
        report = self.report(3, seconds=None, count=100, connections=10, pid=1)
        self.assertAlmostEqual(report.server.cpu_per_message, 0.01)
        self.assertEqual(report.server.memory_per_connection, 400)

    def test_a_server_that_died_has_no_figures(self):
        usages = [Usage(1.0, 1000, 1)]

        def look(pid):
            if not usages:
                raise ProcessLookupError
            return usages.pop(0)

        self.patch(marks, "usage_of", look)
        self.assertIsNone(self.report(2, seconds=1, pid=1).server)


class LibraryTests(RunTestCase):
    def test_a_run_that_is_cancelled_leaves_nothing_behind(self):
        for rate in (None, 10):
            _, report = begin(self.reactor, seconds=60, rate=rate)
            self.pass_time(0.5)
            report.cancel()
            self.failureResultOf(report, CancelledError)
            self.pass_time(0.1)
            self.assertEqual(self.reactor.getDelayedCalls(), [])
            self.assertFalse(any(line.connected for line in self.reactor.lines))

    def test_run_load_returns_the_report(self):
        plan = Plan("tcp:127.0.0.1:1", seconds=None, count=3)
        report = Deferred.fromCoroutine(run_load(self.reactor, plan))
        self.pass_time(2)
        self.assertEqual(self.successResultOf(report).answered, 3)
