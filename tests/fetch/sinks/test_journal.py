"""The journal, and the rows that it vouches for."""

import json
from io import BytesIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.recorder import Recorder
from evserve.fetch.result import Result
from evserve.fetch.screen import Screen
from evserve.fetch.sinks.journal import Ends, Journal, JournalError, Outputs
from evserve.fetch.sinks.rows import RowFile


class JournalTests(SynchronousTestCase):
    def setUp(self):
        self.path = Path(self.mktemp())

    def open(self):
        journal = Journal.open(self.path)
        self.addCleanup(journal.close)
        return journal

    def test_what_is_final_is_seen_by_the_next_run(self):
        journal = self.open()
        journal.begin(Outputs())
        journal.add("http://a/", Ends(), is_final=True)
        journal.add("http://b/", Ends(), is_final=False)
        journal.close()
        journal = self.open()
        self.assertIn("http://a/", journal.seen)
        self.assertNotIn("http://b/", journal.seen)
        self.assertEqual(journal.finished, 1)

    def test_outputs_go_on_where_the_journal_ends(self):
        journal = self.open()
        self.assertEqual(journal.begin(Outputs("rows", "warc")), Ends(0, 0))
        journal.add("http://a/", Ends(10, 20), is_final=True)
        journal.close()
        journal = self.open()
        self.assertEqual(journal.begin(Outputs("rows", "other")), Ends(10, 0))
        journal.close()
        journal = self.open()
        self.assertEqual(journal.begin(Outputs("rows", "other")), Ends(10, 0))

    def test_a_torn_last_line_is_forgotten(self):
        journal = self.open()
        journal.begin(Outputs())
        journal.add("http://a/", Ends(), is_final=True)
        journal.close()
        whole = self.path.read_bytes()
        self.path.write_bytes(whole + b'{"url": "http://b/", "fi')
        self.open().close()
        self.assertEqual(self.path.read_bytes(), whole)

    def test_another_kind_of_file_is_refused_and_left_as_it_is(self):
        for text in ("hello\n", "[]\n", '{"url": 1}\n', "7\n"):
            self.path.write_text(text)
            error = self.assertRaises(JournalError, Journal.open, self.path)
            self.assertEqual(str(error), f"{self.path}, line 1: not a line of a fetch journal")
            self.assertEqual(self.path.read_text(), text)

    def test_one_run_at_a_time(self):
        self.open()
        error = self.assertRaises(JournalError, Journal.open, self.path)
        self.assertIn("another run is using this journal", str(error))


class RowFileTests(SynchronousTestCase):
    def test_rows_are_appended_after_the_end(self):
        path = Path(self.mktemp())
        rows = RowFile.open(path)
        rows.write("one")
        end = rows.end
        rows.write("torn")
        rows.close()
        rows = RowFile.open(path, end)
        rows.write("two")
        rows.close()
        self.assertEqual(path.read_text(), "one\ntwo\n")

    def test_a_file_that_is_gone_begins_anew(self):
        path = Path(self.mktemp())
        rows = RowFile.open(path, 100)
        rows.write("one")
        rows.close()
        self.assertEqual(path.read_text(), "one\n")


class Full:
    """A disk."""

    def write(self, data):
        raise OSError(28, "No space left on device")


class RecorderTests(SynchronousTestCase):
    def recorder(self, rows):
        self.out = BytesIO()
        return Recorder(Screen(self.out), list, rows=rows)

    def test_the_row_is_there_before_the_journal_says_so(self):
        order = []

        class Rows:
            end = 7

            def write(self, line):
                order.append("row")

        class Log:
            def add(self, key, ends, *, is_final):
                order.append((key, ends, is_final))

        recorder = self.recorder(Rows())
        recorder.journal = Log()
        recorder.record("key", Result("http://a/", 200, sha256="x"))
        self.assertEqual(order, ["row", ("key", Ends(7, 0), True)])

    def test_it_prints_url_bytes_and_status(self):
        recorder = self.recorder(None)
        recorder.record("k", Result("http://a/", 200, 12, "http://a/", 0.1, 1, "x"))
        recorder.record("k", Result("http://b/", error="ConnectFailed: refused"))
        self.assertEqual(
            self.out.getvalue().decode(),
            "http://a/ 12 bytes received, status 200\nhttp://b/ failed: ConnectFailed: refused\n",
        )

    def test_a_disk_that_is_full_is_said_once(self):
        recorder = self.recorder(RowFile(Full()))
        said = []
        recorder.broken = said.append
        self.assertFalse(recorder.record("k", Result("http://a/")))
        self.assertFalse(recorder.record("k", Result("http://b/")))
        self.assertEqual(len(said), 1)


class ResultTests(SynchronousTestCase):
    def test_a_row_has_its_eight_keys_and_a_path_if_there_is_one(self):
        row = json.loads(Result("http://a/").as_json())
        keys = "url status_code content_length final_url elapsed tries sha256 error"
        self.assertEqual(list(row), keys.split())
        self.assertEqual(json.loads(Result("http://a/", path="x").as_json())["path"], "x")

    def test_passing_trouble_is_not_final(self):
        self.assertTrue(Result("u", 404, sha256="x", error="BadStatus: 404").is_final)
        self.assertFalse(Result("u", 503, sha256="x", error="BadStatus: 503").is_final)
