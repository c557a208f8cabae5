"""The job: from options to an exit status."""

import io
import json
import sys
from pathlib import Path

from twisted.internet import error
from twisted.trial.unittest import SynchronousTestCase

from evserve.load.run import LoadRun
from evserve.load.service import Options, ProgressLine, makeService
from evserve.testing import MemoryHost
from tests.load.memory_server import MemoryServerReactor
from tests.load.streams import FullDisk, Terminal


class ServiceTests(SynchronousTestCase):
    def setUp(self):
        self.out, self.err = io.StringIO(), Terminal()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)
        self.reactor = MemoryServerReactor()
        self.host = MemoryHost(self.reactor)

    def make(self, words="--connect tcp:127.0.0.1:1 --seconds 2"):
        options = Options()
        options.parseOptions(words.split())
        return makeService(options, self.host)

    def start(self, *words):
        service = self.make(*words)
        service.startService()
        for function, *_ in self.reactor.whenRunningHooks:
            function()
        return service

    def finish(self, *words):
        self.start(*words)
        self.reactor.pump([0.05] * 160)
        return self.host.statuses, self.host.failures

    def test_a_run_is_reported_on_standard_output(self):
        self.assertEqual(self.finish(), ([0], []))
        self.assertRegex(self.out.getvalue(), r"answers +\d+ in ")

    def test_progress_is_shown_and_taken_away(self):
        self.finish()
        shown = self.err.getvalue().split("\r")
        self.assertRegex(shown[1], r"^\d s: 10 connections, \d+ answers")
        self.assertRegex(shown[-2], "^ +$")

    def test_json_goes_to_a_file_beside_the_text(self):
        path = Path(self.mktemp())
        self.finish(f"--connect tcp:127.0.0.1:1 --seconds 1 --json {path}")
        self.assertEqual(json.loads(path.read_text())["connections"]["opened"], 10)
        self.assertIn("answers", self.out.getvalue())

    def test_json_goes_to_standard_output_alone(self):
        self.finish("--connect tcp:127.0.0.1:1 --seconds 1 --json -")
        self.assertEqual(json.loads(self.out.getvalue())["failure"], None)
        self.assertEqual(self.out.getvalue().count("\n"), 1)

    def test_a_file_that_cannot_be_written_is_one_line_and_costs_nothing_else(self):
        result = self.finish("--connect tcp:127.0.0.1:1 --seconds 1 --json /dev/full")
        self.assertEqual(result, ([], ["/dev/full: No space left on device"]))
        self.assertIn("answers", self.out.getvalue())

    def test_standard_output_that_is_full_is_one_line_and_costs_nothing_else(self):
        path = Path(self.mktemp())
        self.patch(sys, "stdout", FullDisk())
        result = self.finish(f"--connect tcp:127.0.0.1:1 --seconds 1 --json {path}")
        self.assertEqual(result, ([], ["standard output: No space left on device"]))
        self.assertEqual(json.loads(path.read_text())["connections"]["opened"], 10)

    def test_a_failed_run_is_reported_and_fails(self):
        self.reactor.refusals = [error.TimeoutError()] * 10
        wanted = "cannot connect to tcp:127.0.0.1:1: timed out"
        self.assertEqual(self.finish(), ([], [wanted]))
        self.assertIn("not connected 10: timed out", self.out.getvalue())

    def test_a_bad_endpoint_is_refused_at_the_start(self):
        problem = self.assertRaises(ValueError, self.make, "--connect tcp:")
        self.assertIn("'tcp:'", str(problem))

    def test_a_file_that_cannot_be_written_is_refused_at_the_start(self):
        self.assertRaises(OSError, self.make, "--json /no/such/folder/x")

    def test_stopping_reports_the_figures_so_far(self):
        service = self.start()
        self.reactor.pump([0.05] * 10)
        stopping = service.stopService()
        self.successResultOf(stopping)
        self.assertIn("INTERRUPTED", self.out.getvalue())
        self.assertEqual(self.host.statuses, [0])

    def test_stopping_before_the_reactor_runs_is_nothing(self):
        service = self.make()
        service.startService()
        self.assertIsNone(service.stopService())
        for function, *_ in self.reactor.whenRunningHooks:
            function()
        self.assertEqual((self.reactor.connections, self.out.getvalue()), ([], ""))

    def test_too_many_connections_are_one_line(self):
        statuses, failures = self.finish("--connections 99999999999")
        self.assertEqual((statuses, len(failures)), ([], 1))
        self.assertIn("ulimit -Hn", failures[0])

    def test_a_defect_is_logged_and_ends_the_job(self):
        async def defect(run):
            raise ZeroDivisionError

        self.patch(LoadRun, "run", defect)
        self.assertEqual(self.finish(), ([], ["the run failed unexpectedly"]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class ProgressLineTests(SynchronousTestCase):
    def test_a_shorter_line_covers_a_longer_one(self):
        screen = Terminal()
        terminal = ProgressLine(screen)
        terminal.show("long line")
        terminal.show("short")
        self.assertEqual(screen.getvalue(), "\rlong line\rshort    ")

    def test_nothing_is_written_to_a_stream_that_is_no_terminal(self):
        stream = io.StringIO()
        terminal = ProgressLine(stream)
        terminal.show("line")
        terminal.clear()
        self.assertEqual(stream.getvalue(), "")
