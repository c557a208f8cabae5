"""In which order results are kept, and when that is said."""

from io import BytesIO

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.recorder import Recorder
from evserve.fetch.result import Result
from evserve.fetch.screen import Screen
from evserve.fetch.sinks.outlets import File
from evserve.fetch.sinks.rows import RowFile
from tests.fetch.slow_disk import SlowDisk


class Full:
    """A disk."""

    def write(self, data):
        raise OSError(28, "No space left on device")


class Case(SynchronousTestCase):
    def recorder(self, rows=None, **more):
        self.out = BytesIO()
        self.kept = []
        screen = Screen(File(self.out))
        return Recorder(screen, screen.say, rows=rows, **more)


class RecorderTests(Case):
    def test_it_prints_url_bytes_and_status(self):
        recorder = self.recorder()
        recorder.record(
            "k", Result("http://a/", 200, 12, "http://a/", 0.1, 1, "x"), self.kept.append
        )
        recorder.record("k", Result("http://b/", error="ConnectFailed: refused"), self.kept.append)
        self.assertEqual(
            self.out.getvalue().decode(),
            "http://a/ 12 bytes received, status 200\nhttp://b/ failed: ConnectFailed: refused\n",
        )
        self.assertEqual(self.kept, [True, True])

    def test_what_a_terminal_would_obey_is_shown_instead(self):
        recorder = self.recorder()
        recorder.record("k", Result("\x1b[2Jh\u202ett\xe9\x9b", error="BadURL: \r"), str)
        self.assertEqual(
            self.out.getvalue().decode(), "\\x1b[2Jh\\u202ett\xe9\\x9b failed: BadURL: \\r\n"
        )

    def test_a_disk_that_is_full_is_said_once(self):
        recorder = self.recorder(RowFile(File(Full())))
        said = []
        recorder.broken = said.append
        for _ in range(2):
            recorder.record("k", Result("http://a/"), self.kept.append)
        self.assertEqual((self.kept, len(said)), ([False, False], 1))


class DurableTests(Case):
    """The calls, as they were made."""

    def setUp(self):
        self.slow = SlowDisk()
        happened = self.happened = self.slow.happened

        class Rows(File):
            def write(self, data, done):
                happened.append(f"rows {data.count(b'http')}")
                done(None)

        class Journal:
            broken = None

            def add(self, entries):
                if self.broken:
                    raise self.broken
                happened.append([(entry.url, entry.ends.output > 0) for entry in entries])

            def close(self):
                happened.append("closed")

        self.journal = Journal()
        self.rec = self.recorder(
            RowFile(Rows(None)), journal=self.journal, disk=self.slow.disk, places=(3, 4)
        )

    def record(self, key):
        self.rec.record(key, Result(key, 200, sha256="x"), self.kept.append)

    def test_rows_then_a_sync_then_the_journal_then_the_screen(self):
        self.record("http://a/")
        self.slow.turn()
        self.assertEqual((self.happened, self.slow.syncing), (["rows 1"], [{3, 4}]))
        self.assertEqual((self.out.getvalue(), self.kept), (b"", []))
        self.slow.sync()
        self.assertEqual(self.happened, ["rows 1", "sync", [("http://a/", True)]])
        self.assertEqual((self.out.getvalue().count(b"\n"), self.kept), (1, [True]))

    def test_the_results_of_a_turn_are_written_together(self):
        self.record("http://a/")
        self.record("http://b/")
        self.slow.sync()
        self.record("http://c/")
        self.slow.sync()
        self.assertEqual(
            self.happened,
            [
                *("rows 2", "sync", [("http://a/", True), ("http://b/", True)]),
                *("rows 1", "sync", [("http://c/", True)]),
            ],
        )

    def test_a_sync_that_fails_keeps_nothing(self):
        said = []
        self.rec.broken = said.append
        self.record("http://a/")
        self.slow.sync(OSError(5, "Input/output error"))
        self.record("http://b/")
        self.assertEqual(self.happened, ["rows 1", "sync"])
        self.assertEqual((self.kept, self.out.getvalue(), len(said)), ([False, False], b"", 1))

    def test_a_journal_that_fails_keeps_nothing(self):
        self.journal.broken = OSError(28, "No space left on device")
        self.record("http://a/")
        self.slow.sync()
        self.assertEqual((self.kept, self.out.getvalue()), ([False], b""))

    def test_what_was_given_before_the_end_is_kept_and_nothing_after(self):
        self.record("http://a/")
        settled = Deferred.fromCoroutine(self.rec.settle())
        self.record("http://b/")
        self.assertEqual(self.kept, [False])
        self.slow.sync()
        self.assertNoResult(settled)
        self.slow.sync()
        self.successResultOf(settled)
        self.assertEqual(self.happened, ["rows 1", "sync", [("http://a/", True)], "sync"])
        self.assertEqual(self.slow.syncing[-1], {3, 4})  # the journal's last line
        self.assertEqual(self.kept, [False, True])
