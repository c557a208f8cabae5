"""The command line."""

import errno
import io
import os
import sys
from pathlib import Path

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from evserve.lab import service
from evserve.lab.jsonfile import NotAResultError, as_json
from evserve.lab.options import Options
from evserve.lab.service import makeService, read_result
from evserve.testing import MemoryHost
from tests.lab.example_results import result


def options(*words):
    found = Options()
    found.parseOptions(words)
    return found


class Full(io.StringIO):
    """A file on a disk that has no room."""

    def flush(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class OptionsTests(SynchronousTestCase):
    def test_the_defaults(self):
        found = options()
        self.assertEqual(found.counts, (1, 10, 100, 1_000, 3_000, 10_000))
        self.assertEqual(len(found.models), 20)
        self.assertEqual((found.report, found.json), (Path("lab.html"), Path("lab.json")))

    def test_lists(self):
        found = options("--models", "blocking, poll_loop", "--connections", "100,1, 10,1")
        self.assertEqual([model.name for model in found.models], ["blocking", "poll_loop"])
        self.assertEqual(found.counts, (1, 10, 100))

    def test_the_json_is_beside_the_report_unless_told_otherwise(self):
        self.assertEqual(options("--report", "a/b.html").json, Path("a/b.json"))
        self.assertEqual(options("--json", "x").json, Path("x"))
        self.assertIsNone(options("--json", "-").json)
        self.assertIsNone(options("--from", "x.json").json)

    def test_a_mistake_is_refused(self):
        for words, part in (
            (["--connections", "0"], "not numbers of connections"),
            (["--connections", "1,,2"], "not numbers of connections"),
            (["--connections", "9999999"], "not numbers of connections"),
            (["--seconds", "0"], "not a number of seconds"),
            (["--seconds", "nan"], "not a number of seconds"),
            (["--seconds", "x"], "not a number of seconds"),
            (["--models", "blocking,,"], "not a list of names"),
            (["--models", "blockin"], "--models: no model named 'blockin'; did you mean"),
            (["--from", "x", "--list"], "--from measures nothing: leave out --list"),
            (["--report", ""], "--report '': not the name of a file"),
            (["--json", ""], "--json '': not the name of a file"),
            (["--from", ""], "--from '': not the name of a file"),
            (["--report", "a\0b"], r"--report 'a\x00b': not the name of a file"),
            (["--report", "-"], "--report -: the page needs a file; --json - is for the JSON"),
            (["--report", "x", "--json", "./x"], "--report and --json are the same file: x"),
            (["--report", "x.json"], "--report and --json are the same file: x.json"),
            (["--from", "x", "--report", "x"], "--report and --from are the same file: x"),
            (["--from", "x", "--json", "x"], "--json and --from are the same file: x"),
        ):
            problem = self.assertRaises(UsageError, options, *words)
            self.assertIn(part, str(problem))

    def test_links_to_one_file_are_the_same_file(self):
        folder = Path(self.mktemp())
        folder.mkdir()
        made, hard, soft = (folder / name for name in ("made", "hard", "soft"))
        soft.symlink_to("made")
        words = ("--report", str(soft), "--json", str(made))
        self.assertRaises(UsageError, options, *words)
        made.touch()
        hard.hardlink_to(made)
        self.assertRaises(UsageError, options, *words)
        self.assertRaises(UsageError, options, "--from", str(hard), "--json", str(made))


class MakingTests(SynchronousTestCase):
    def setUp(self):
        self.out = io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.host = MemoryHost()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def make(self, *words):
        return makeService(options(*words), self.host)

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
        self.make("--from", str(source), "--report", str(page)).startService()
        self.assertIn("the same again", page.read_text())
        self.assertEqual((self.host.statuses, self.host.failures), ([0], []))
        self.assertEqual(len(list(self.folder.iterdir())), 2)

    def test_what_cannot_be_written_costs_nothing_else(self):
        source, page, data = (self.folder / name for name in ("a.json", "b.html", "c.json"))
        source.write_text(as_json(result(command="the same again")))
        self.make(
            "--from", str(source), "--report", "/dev/full", "--json", str(data)
        ).startService()
        self.assertEqual(self.host.failures, ["/dev/full: No space left on device"])
        self.assertIn("the same again", data.read_text())
        self.patch(sys, "stdout", Full())
        self.make("--from", str(source), "--report", str(page), "--json", "-").startService()
        line = "standard output: No space left on device"
        self.assertEqual(self.host.failures[1:], [line])
        self.assertIn("the same again", page.read_text())

    def test_a_stream_that_cannot_be_written_is_called_by_its_name(self):
        source, page = self.folder / "a.json", self.folder / "b.html"
        source.write_text(as_json(result()))
        self.patch(sys, "stderr", Full())
        self.make("--from", str(source), "--report", str(page), "--json", "-").startService()
        self.assertEqual(self.host.failures, ["standard error: No space left on device"])

    def test_a_file_that_is_no_result(self):
        source = self.folder / "x.json"
        self.assertRaises(OSError, read_result, source)
        for data in (b"{}", b"\xff\xfe"):
            source.write_bytes(data)
            problem = self.assertRaises(NotAResultError, read_result, source)
            self.assertIn("x.json", str(problem))
