"""The order in which results are kept, what is printed, the summary."""

from io import BytesIO

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.job import Result
from evserve.fetch.output.recorder import Recorder, Summary, Terminal, format_size
from evserve.fetch.output.rows import DirectWriter, RowFile
from evserve.http.errors import BadURL, ConnectFailed
from tests.fetch.slow_disk import SlowDisk


class Full:
    """A disk."""

    def write(self, data):
        raise OSError(28, "No space left on device")


class Case(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()

    def recorder(self, rows=None, **more):
        self.out = BytesIO()
        self.kept = []
        terminal = Terminal(DirectWriter(self.out))
        return Recorder(self.clock, terminal, terminal.print_lines, rows=rows, **more)


class RecorderTests(Case):
    def test_a_line_has_url_bytes_and_status(self):
        recorder = self.recorder()
        recorder.record(
            "k", Result("http://a/", 200, 12, "http://a/", 0.1, 1, "x"), self.kept.append
        )
        recorder.record("k", Result("http://b/", error=ConnectFailed("refused")), self.kept.append)
        self.clock.advance(0)
        self.assertEqual(
            self.out.getvalue().decode(),
            "http://a/ 12 bytes received, status 200\nhttp://b/ failed: ConnectFailed: refused\n",
        )
        self.assertEqual(self.kept, [True, True])

    def test_control_characters_are_escaped(self):
        recorder = self.recorder()
        recorder.record("k", Result("\x1b[2Jh\u202ett\xe9\x9b", error=BadURL("\x07")), str)
        self.clock.advance(0)
        self.assertEqual(
            self.out.getvalue().decode(), "\\x1b[2Jh\\u202ett\xe9\\x9b failed: BadURL: \\x07\n"
        )

    def test_a_full_disk_is_reported_once(self):
        recorder = self.recorder(RowFile(DirectWriter(Full())))
        said = []
        recorder.on_error = said.append
        for _ in range(2):
            recorder.record("k", Result("http://a/"), self.kept.append)
            self.clock.advance(0)
        self.assertEqual((self.kept, len(said)), ([False, False], 1))

    def test_the_rows_of_a_turn_are_one_write(self):
        writes = []

        class Rows(DirectWriter):
            def write(self, data, on_done):
                writes.append(data.count(b"\n"))
                on_done(None)

        recorder = self.recorder(RowFile(Rows(None)))
        for count in (2, 3):
            for _ in range(count):
                recorder.record("k", Result("http://a/"), self.kept.append)
            self.clock.advance(0)
        self.assertEqual((writes, self.kept), ([2, 3], [True] * 5))


class DurableTests(Case):
    """The calls, as they were made."""

    def setUp(self):
        super().setUp()
        self.slow = SlowDisk(clock=self.clock)
        happened = self.happened = self.slow.happened

        class Rows(DirectWriter):
            def write(self, data, on_done):
                happened.append(f"rows {data.count(b'http')}")
                on_done(None)

        class Journal:
            broken = None

            def add(self, entries):
                if self.broken:
                    raise self.broken
                happened.append([(entry.url, entry.sizes.output > 0) for entry in entries])

            def close(self):
                happened.append("closed")

        self.journal = Journal()
        self.rec = self.recorder(
            RowFile(Rows(None)), journal=self.journal, disk=self.slow.disk, targets=(3, 4)
        )

    def record(self, key):
        self.rec.record(key, Result(key, 200, sha256="x"), self.kept.append)

    def test_the_order_is_rows_sync_journal_terminal(self):
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

    def test_a_failed_sync_keeps_no_result(self):
        said = []
        self.rec.on_error = said.append
        self.record("http://a/")
        self.slow.sync(OSError(5, "Input/output error"))
        self.record("http://b/")
        self.assertEqual(self.happened, ["rows 1", "sync"])
        self.assertEqual((self.kept, self.out.getvalue(), len(said)), ([False, False], b"", 1))

    def test_a_failed_journal_keeps_no_result(self):
        self.journal.broken = OSError(28, "No space left on device")
        self.record("http://a/")
        self.slow.sync()
        self.assertEqual((self.kept, self.out.getvalue()), ([False], b""))

    def test_settle_keeps_earlier_results_and_refuses_later_ones(self):
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


class SummaryTests(SynchronousTestCase):
    def test_results_are_counted_by_host(self):
        summary = Summary()
        summary.add(Result("http://a/1", 200, 1500, "http://b:81/1", 2.0))
        summary.add(Result("http://a/2", 200, 500, "http://a/2", 1.0))
        summary.add(Result("http://a/3", error=ConnectFailed("y")))
        first, heading, *hosts = summary.lines(1.5)
        self.assertEqual(
            first,
            "fetched 2 of 3 URLs, 2.0 kB, in 1.50 s; sequential: 3.00 s (2.0 times as long)",
        )
        self.assertEqual(heading.split(), ["host", "fetched", "failed", "received", "seconds"])
        rows = [line.split() for line in hosts]
        self.assertEqual(rows[0], ["a", "1", "1", "500", "B", "1.00"])
        self.assertEqual(rows[1], ["b:81", "1", "0", "1.5", "kB", "2.00"])

    def test_the_summary_of_no_results_is_one_line(self):
        self.assertEqual(len(list(Summary().lines(0.0))), 1)
        self.assertEqual(len(list(Summary().lines(0.0, done_before=3))), 2)

    def test_the_table_shows_a_limited_number_of_hosts(self):
        summary = Summary()
        for number in range(3000):
            summary.add(Result(f"http://host{number}/", 200, 1))
        self.assertEqual(len(summary.hosts), 1001)
        self.assertEqual(summary.hosts["other hosts"].fetched, 2000)
        lines = list(summary.lines(1.0))
        self.assertEqual((len(lines), lines[-1]), (23, "and 981 more hosts"))

    def test_sizes_have_si_units(self):
        shown = [format_size(10**power) for power in (0, 3, 6, 9, 12)]
        self.assertEqual(shown, ["1 B", "1.0 kB", "1.0 MB", "1.0 GB", "1.0 TB"])
