"""The jobs: what they refuse, what becomes of the figures, and how the process ends."""

import errno
import io
import sys
from pathlib import Path

from attrs import define, field
from twisted.trial.unittest import SynchronousTestCase

from evserve.lab import service
from evserve.lab.options import Options
from evserve.lab.process import ProcessRegistry
from evserve.lab.results import InvalidResultError, as_json, from_json
from evserve.lab.run import Console
from evserve.lab.service import (
    LabService,
    ResultOutput,
    allowed_counts,
    makeService,
    read_result,
)
from evserve.testing import MemoryHost
from tests.lab.example_results import result
from tests.load.streams import FullDisk


@define
class Run:
    """A run that is over at once."""

    processes: ProcessRegistry = field(factory=ProcessRegistry)

    @property
    def runner(self):
        return self

    async def run(self):
        pass

    def result(self):
        return result()


class LabServiceTests(SynchronousTestCase):
    def test_a_page_that_cannot_be_drawn_loses_no_figures(self):
        def draw(result):
            raise ZeroDivisionError

        self.patch(service, "as_html", draw)
        folder, host = Path(self.mktemp()), MemoryHost()
        folder.mkdir()
        files = ResultOutput(folder / "lab.html", folder / "lab.json", None)
        LabService(host, Run(), files, Console(io.StringIO(), io.StringIO())).startService()
        host.reactor.run()
        self.assertEqual(host.failures, ["the run failed unexpectedly"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(from_json((folder / "lab.json").read_text()), result())


class MakeServiceTests(SynchronousTestCase):
    def setUp(self):
        self.out = io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.host = MemoryHost()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def make(self, *words):
        options = Options()
        options.parseOptions(words)
        return makeService(options, self.host)

    def run_job(self, *words):
        self.make(*words).startService()
        self.host.reactor.run()
        self.host.reactor.whenRunningHooks.clear()

    def test_what_cannot_be_written_is_refused_before_the_run(self):
        for path in ("/no/such/folder/x.html", str(self.folder)):
            problem = self.assertRaises(OSError, self.make, "--report", path)
            self.assertIn(path, str(problem))
        report = str(self.folder / "x.html")
        self.assertRaises(OSError, self.make, "--report", report, "--json", str(self.folder))
        self.assertRaises(OSError, self.make, "--report", report, "--json", "/proc/x.json")
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_link_to_a_file_that_is_not_there_yet_is_kept(self):
        page, other = self.folder / "latest.html", self.folder / "loop.html"
        page.symlink_to("today.html")
        self.make("--report", str(page))
        self.assertEqual(list(self.folder.iterdir()), [page])
        other.symlink_to("loop.html")
        problem = self.assertRaises(OSError, self.make, "--report", str(other))
        self.assertEqual(problem.errno, errno.ELOOP)

    def test_numbers_beyond_the_limit_are_left_out_in_one_line(self):
        self.patch(service, "open_files_limit", lambda: 1_000)
        words = ("--report", str(self.folder / "x.html"), "--connections")
        self.make(*words, "10,5000")
        self.assertEqual(
            self.out.getvalue(),
            "left out 5,000 connections: 'ulimit -Hn' allows 1,000 open files\n",
        )
        problem = self.assertRaises(ValueError, self.make, *words, "5000")
        self.assertIn("nothing to measure: left out 5,000", str(problem))

    def test_a_page_is_drawn_again_without_measuring(self):
        source, page = self.folder / "lab.json", self.folder / "again.html"
        source.write_text(as_json(result(command="the same again")))
        self.run_job("--from", str(source), "--report", str(page))
        self.assertIn("the same again", page.read_text())
        self.assertEqual((self.host.statuses, self.host.failures), ([0], []))
        self.assertEqual(len(list(self.folder.iterdir())), 2)

    def test_an_output_that_cannot_be_written_does_not_stop_the_others(self):
        source, page, data = (self.folder / name for name in ("a.json", "b.html", "c.json"))
        source.write_text(as_json(result(command="the same again")))
        self.run_job("--from", str(source), "--report", "/dev/full", "--json", str(data))
        self.assertEqual(self.host.failures, ["/dev/full: No space left on device"])
        self.assertIn("the same again", data.read_text())
        self.patch(sys, "stdout", FullDisk())
        self.run_job("--from", str(source), "--report", str(page), "--json", "-")
        line = "standard output: No space left on device"
        self.assertEqual(self.host.failures[1:], [line])
        self.assertIn("the same again", page.read_text())

    def test_a_stream_that_cannot_be_written_is_named(self):
        source, page = self.folder / "a.json", self.folder / "b.html"
        source.write_text(as_json(result()))
        self.patch(sys, "stderr", FullDisk())
        self.run_job("--from", str(source), "--report", str(page), "--json", "-")
        self.assertEqual(self.host.failures, ["standard error: No space left on device"])

    def test_a_file_that_is_not_a_result(self):
        source = self.folder / "x.json"
        self.assertRaises(OSError, read_result, source)
        for data in (b"{}", b"\xff\xfe"):
            source.write_bytes(data)
            problem = self.assertRaises(InvalidResultError, read_result, source)
            self.assertIn("x.json", str(problem))

    def test_a_limit_leaves_the_larger_numbers_out(self):
        fit, note = allowed_counts((1, 1_000, 3_000, 10_000), 4_096)
        self.assertEqual(fit, (1, 1_000, 3_000))
        self.assertEqual(note, "left out 10,000 connections: 'ulimit -Hn' allows 4,096 open files")
        self.assertEqual(allowed_counts((1, 10), 4_096), ((1, 10), None))
